/**
 * What scenarios work with: one machine at a time, booted when the first script needs it and kept for the next
 * scenario; data disks that outlive a cut of the power; new ones after a failure.
 *
 * @module
 */
import { join } from "node:path";
import type { Acceleration } from "./acceleration.ts";
import { AgentError, SCRIPT_MS } from "./agent.ts";
import { emptyDisk, type Image } from "./image.ts";
import { Machine } from "./machine.ts";
import type { Loss } from "./volatile_cache.ts";

/** Data disks of the machine: /dev/vdc and on, ext4, mounted at /data1 and on. One for each copy of a volume. */
export const DATA_DISKS = 3;
/** Bytes of each; the files are sparse. */
const DATA_BYTES = 2 * 1024 ** 3;

/** What a lab is made of. */
export interface LabOptions {
  /** Kernel and root disk. */
  readonly image: Image;
  /** Disk with the product. */
  readonly product: string;
  /** See `acceleration.ts`. */
  readonly acceleration: Acceleration;
  /** A directory of its own, with a short path. */
  readonly directory: string;
  /** Told what takes long. */
  readonly say: (line: string) => void;
}

/** Why a scenario cannot run here. */
export class Skip extends Error {
  /** For checks. */
  override readonly name = "Skip";
}

/** See the module text. */
export class Lab implements AsyncDisposable {
  #machine: Machine | undefined;
  #data: string[] | undefined;
  #generation = 0;
  #stopped = false;
  #processorSeconds = 0;
  /** Takes what the machine writes to its port `records`. */
  onRecord: (line: string) => void = () => {};
  /** The serial console of all machines so far. */
  readonly console: string;

  /** Nothing is started yet. */
  constructor(readonly options: LabOptions) {
    this.console = join(options.directory, "console.log");
    Deno.writeTextFileSync(this.console, "");
  }

  /** Time of processors that all machines so far have used, seconds. */
  get processorSeconds(): number {
    return this.#processorSeconds + (this.#machine?.processorSeconds ?? 0);
  }

  /** The machine, booted if there is none. */
  async machine(): Promise<Machine> {
    if (this.#machine !== undefined) return this.#machine;
    const { image, product, acceleration, directory, say } = this.options;
    const data = this.#data ??= await this.#newDisks();
    const begin = performance.now();
    const machine = await Machine.boot({
      ...{ image, product, acceleration, directory, data, console: this.console },
      onRecord: (line) => this.onRecord(line),
    });
    this.#machine = machine;
    if (this.#stopped) await machine[Symbol.asyncDispose]();
    await machine.agent.run(`. /product/guest/lib.sh; mount_data ${DATA_DISKS}`);
    say(`booted Linux ${await machine.agent.ready} in ${((performance.now() - begin) / 1000).toFixed(1)} s`);
    return machine;
  }

  async #newDisks(): Promise<string[]> {
    const generation = ++this.#generation;
    const paths = Array.from(
      { length: DATA_DISKS },
      (_, index) => join(this.options.directory, `data${generation}-${index + 1}.img`),
    );
    for (const path of paths) await emptyDisk(path, DATA_BYTES);
    return paths;
  }

  /** Runs a bash script in the machine, with the functions of `guest/lib.sh`. @throws {AgentError} when it fails */
  async sh(script: string, timeoutMs = SCRIPT_MS): Promise<string> {
    return await (await this.machine()).agent.run(`set -e\n. /product/guest/lib.sh\n${script}`, timeoutMs);
  }

  /** The power goes; the next script boots anew. See {@linkcode Machine.cut}. */
  async cut(...loss: readonly Loss[]): Promise<number[]> {
    const machine = await this.machine();
    this.#processorSeconds += machine.processorSeconds;
    this.#machine = undefined;
    return await machine.cut(...loss);
  }

  /** After a failure: what may explain it is collected, the machine is ended, its data disks are thrown away. */
  async abandon(): Promise<string> {
    let found = "";
    try {
      if (this.#machine !== undefined) {
        found = (await this.#machine.agent.try(". /product/guest/lib.sh; explain", 30_000)).output;
      }
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      found = `the machine does not answer: ${error.message}`;
    }
    await this[Symbol.asyncDispose]();
    for (const path of this.#data ?? []) Deno.removeSync(path);
    this.#data = undefined;
    return found;
  }

  /** Ends the machine, also one that is just booting: as soon as it has. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this[Symbol.asyncDispose]();
  }

  /** Ends the machine, if there is one. */
  async [Symbol.asyncDispose](): Promise<void> {
    const machine = this.#machine;
    this.#processorSeconds += machine?.processorSeconds ?? 0;
    await machine?.[Symbol.asyncDispose]();
    if (this.#machine === machine) this.#machine = undefined;
  }
}
