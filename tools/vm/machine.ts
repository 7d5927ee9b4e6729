/**
 * One virtual machine: QEMU with the root disk of an {@linkcode Image} (written to in a layer that is thrown away), the
 * product as a second disk, and disks for data whose caches can lose what was not flushed.
 *
 * The machine has no network card. It ends in one of three ways: turned off, the power cut, or by itself when this
 * process is gone, since the agent in it then sees its channel close.
 *
 * @module
 */
import { join } from "node:path";
import type { Acceleration } from "./acceleration.ts";
import { Agent, LinePort } from "./agent.ts";
import type { Image } from "./image.ts";
import type { Loss } from "./volatile_cache.ts";
import { VolatileDisk } from "./volatile_disk.ts";

/** How to run a machine. */
export interface MachineOptions {
  /** Kernel and root disk. */
  readonly image: Image;
  /** Disk with the product and the guest's scripts. */
  readonly product: string;
  /** Files that are the data disks: /dev/vdc, /dev/vdd, ... */
  readonly data: readonly string[];
  /** See `acceleration.ts`. */
  readonly acceleration: Acceleration;
  /** Directory for sockets; its path is short. */
  readonly directory: string;
  /** Takes the serial console; appended to. */
  readonly console: string;
  /** Told of each line that the machine writes to its port `records`. */
  readonly onRecord?: (line: string) => void;
}

/** Time from QEMU's start to the agent, milliseconds; emulated it takes 30 s on a quiet host. */
const BOOT_MS = 240_000;
/** Time for turning itself off, milliseconds. */
const OFF_MS = 30_000;
/** Memory of the machine, MiB. */
const MEMORY_MIB = 2048;
/** Unit of times in /proc on Linux, per second. */
const TICKS_PER_SECOND = 100;
/** Lines of the console quoted when a boot fails. */
const QUOTED_LINES = 30;

let started = 0;

/** A running machine. Dispose with `await using`: whatever it does then, it ends. */
export class Machine implements AsyncDisposable {
  readonly #qemu: Deno.ChildProcess;
  readonly #agent: Agent;
  readonly #records: LinePort;
  readonly #disks: readonly VolatileDisk[];
  #over = false;
  #disposed: Promise<void> | undefined;

  private constructor(readonly options: MachineOptions) {
    const { directory, data, onRecord } = options, number = ++started;
    const socket = (name: string) => join(directory, `${number}-${name}`);
    this.#agent = new Agent(socket("agent"));
    this.#records = new LinePort(socket("records"), onRecord ?? (() => {}));
    this.#disks = data.map((file, index) => new VolatileDisk(file, socket(`disk${index}`)));
    this.#qemu = new Deno.Command("qemu-system-x86_64", {
      args: this.#arguments(socket),
      stdin: "null",
      stdout: "null",
      stderr: "inherit",
    }).spawn();
    this.#qemu.status.then(() => this.#over = true);
  }

  /** Boots a machine and waits for its agent. */
  static async boot(options: MachineOptions): Promise<Machine> {
    const machine = new Machine(options);
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error(`no agent after ${BOOT_MS / 1000} s`)), BOOT_MS);
      });
      const ended = machine.#qemu.status.then(({ code }) => {
        throw new Error(`QEMU ended with ${code}`);
      });
      ended.catch(() => {});
      await Promise.race([machine.#agent.ready, late, ended]);
      return machine;
    } catch (cause) {
      await machine[Symbol.asyncDispose]();
      const lines = Deno.readTextFileSync(options.console).split("\n").slice(-QUOTED_LINES);
      throw new Error(`the machine does not boot: ${cause}; its console:\n${lines.join("\n")}`, { cause });
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Time of processors that it has used, seconds. That says what a scenario costs; on a host with other work the clock
   * does not.
   */
  get processorSeconds(): number {
    try {
      const stat = Deno.readTextFileSync(`/proc/${this.#qemu.pid}/stat`);
      // Behind the name, which may hold blanks: the state is field 3, user's and system's time are 14 and 15 (proc(5)).
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
    } catch {
      return 0; // It has ended.
    }
  }

  #arguments(socket: (name: string) => string): string[] {
    const { image, product, acceleration, console } = this.options;
    const disk = (id: string, options: string) => [
      ...["-drive", `id=${id},if=none,${options}`, "-device", `virtio-blk-pci,drive=${id}`],
    ];
    const port = (name: string) => [
      ...["-chardev", `socket,id=${name},path=${socket(name)}`],
      ...["-device", `virtserialport,chardev=${name},name=${name}`],
    ];
    const kernel = "console=ttyS0 root=/dev/vda rw panic=-1 quiet edd=off mitigations=off";
    return [
      ...["-accel", acceleration, "-cpu", "max", "-smp", "2", "-m", String(MEMORY_MIB)],
      ...["-nodefaults", "-display", "none", "-no-reboot", "-rtc", "base=utc"],
      ...["-chardev", `file,id=console,path=${console},append=on`, "-serial", "chardev:console"],
      ...["-kernel", image.kernel, "-initrd", image.initrd, "-append", kernel],
      ...disk("root", `file=${image.root},format=raw,snapshot=on,cache=unsafe`),
      ...disk("product", `file=${product},format=raw,readonly=on`),
      ...this.#disks.flatMap(({ path }, index) =>
        disk(
          `data${index}`,
          `driver=raw,file.driver=nbd,file.server.type=unix,file.server.path=${path},cache=none`,
        )
      ),
      ...["-device", "virtio-serial-pci", ...port("agent"), ...port("records")],
    ];
  }

  /** Runs bash scripts in the machine. */
  get agent(): Agent {
    return this.#agent;
  }

  /** The data disks, for their counters. */
  get disks(): readonly VolatileDisk[] {
    return this.#disks;
  }

  /**
   * The power goes, for the machine and its disks at once. @param loss for each disk, the last one for all others
   * @returns bytes that the disks lost
   */
  async cut(...loss: readonly Loss[]): Promise<number[]> {
    await this.#end("SIGKILL");
    await this.#records.drained();
    const lost: number[] = [];
    for (const [index, disk] of this.#disks.entries()) {
      lost.push(await disk.cut(loss[index] ?? loss.at(-1) ?? "none"));
    }
    await this[Symbol.asyncDispose]();
    return lost;
  }

  /** Writes everything back and turns the machine off. */
  async off(): Promise<void> {
    await this.#agent.run("sync").catch(() => {});
    await this.#agent[Symbol.asyncDispose]();
    const timer = setTimeout(() => this.#kill("SIGKILL"), OFF_MS);
    await this.#qemu.status;
    clearTimeout(timer);
    await this[Symbol.asyncDispose]();
  }

  #kill(signal: Deno.Signal): void {
    if (!this.#over) this.#qemu.kill(signal);
  }

  async #end(signal: Deno.Signal): Promise<void> {
    this.#kill(signal);
    await this.#qemu.status;
  }

  /** Ends it, if it still runs, and closes everything. Once, whoever asks for it. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#disposed ??= this.#dispose();
  }

  async #dispose(): Promise<void> {
    await this.#end("SIGKILL");
    await this.#agent[Symbol.asyncDispose]();
    await this.#records[Symbol.asyncDispose]();
    for (const disk of this.#disks) await disk[Symbol.asyncDispose]();
  }
}
