/**
 * The processes of a node, by name: creating, deleting, listing, and finding them again after a restart of the
 * manager, which stops none of them.
 *
 * @module
 */
import { Code, RpcError } from "../rpc/errors.ts";
import { Broadcast } from "./broadcast.ts";
import { KILL_MS, MAX_ARGS, MAX_ARGS_BYTES, MAX_PROCESSES } from "./limits.ts";
import { ManagedProcess, type Workshop } from "./managed.ts";
import { checkName, volumeOfEngine } from "./names.ts";
import { portArguments, type PortBlock, type PortRange } from "./ports.ts";
import type { ProcessRecord, ProcessSpec } from "./record.ts";
import { Replacer } from "./replace.ts";
import { adoptAll } from "./adopt.ts";

/** A change, or an answer: a process as it is. */
export interface ProcessView {
  /** What is known of it. */
  readonly record: ProcessRecord;
  /** Conditions by name. */
  readonly conditions: Readonly<Record<string, boolean>>;
  /** It is being deleted, or is gone. */
  readonly deleted: boolean;
}

/** See the module text. */
export class ProcessTable {
  /** What all processes share. */
  readonly shop: Workshop;
  /** Ports. */
  readonly ports: PortRange;
  /** Boot and pid namespace that processes are noted with. */
  readonly host: string;
  /** Changes, for watchers. */
  readonly changes: Broadcast<ProcessView> = new Broadcast();
  readonly #processes = new Map<string, ManagedProcess>();
  readonly #replacer: Replacer;
  readonly #background = new Set<Promise<void>>();
  readonly #forgotten = new WeakSet<ManagedProcess>();

  /** Makes an empty table; {@linkcode adopt} fills it. */
  constructor(shop: Workshop, ports: PortRange, host: string) {
    this.shop = shop;
    this.ports = ports;
    this.host = host;
    this.#replacer = new Replacer(this);
  }

  /** Finds the processes that an earlier manager started. Called once, before anything else. */
  adopt(): void {
    adoptAll(this);
  }

  /** How many there are. */
  get size(): number {
    return this.#processes.size;
  }

  /** All processes. */
  all(): Iterable<ManagedProcess> {
    return this.#processes.values();
  }

  /** The one that has a name now; undefined when there is none. */
  find(name: string): ManagedProcess | undefined {
    return this.#processes.get(name);
  }

  /** Gives a name to a process. */
  put(managed: ManagedProcess): void {
    this.#processes.set(managed.record.name, managed);
  }

  /** A process as callers see it. */
  view(managed: ManagedProcess, deleted = false): ProcessView {
    return {
      record: managed.record,
      conditions: Object.fromEntries(managed.conditions),
      deleted: deleted || managed.record.deleting,
    };
  }

  /** Tells watchers. */
  tell(managed: ManagedProcess, deleted = false): void {
    this.changes.send(this.view(managed, deleted));
  }

  /** Keeps something that goes on after its call was answered; see {@linkcode settled}. */
  inBackground(work: Promise<void>): void {
    const kept = work.catch((error) => {
      this.shop.log.error("work on a process failed", { problem: String(error) });
    }).finally(() => this.#background.delete(kept));
    this.#background.add(kept);
  }

  /** Resolves when nothing goes on in the background. */
  async settled(): Promise<void> {
    while (this.#background.size > 0) await Promise.all(this.#background);
  }

  /**
   * Starts a process. The answer does not wait for it.
   *
   * @throws RpcError with INVALID_ARGUMENT, ALREADY_EXISTS, RESOURCE_EXHAUSTED (ports, processes)
   */
  create(spec: ProcessSpec): ProcessView {
    checkSpec(spec);
    if (this.#processes.has(spec.name)) {
      throw new RpcError(Code.ALREADY_EXISTS, `process ${spec.name} already exists`);
    }
    const managed = this.launch(spec, "");
    this.put(managed);
    const view = this.view(managed);
    this.changes.send(view);
    return view;
  }

  /** Gives ports to a process and starts it in the background. It has no name yet. @param replaces a uuid */
  launch(spec: ProcessSpec, replaces: string): ManagedProcess {
    if (this.#processes.size >= MAX_PROCESSES) {
      throw new RpcError(Code.RESOURCE_EXHAUSTED, `${MAX_PROCESSES} processes are there already`);
    }
    this.#refuseForbidden(spec.binary);
    const ports = this.ports.allocate(spec.portCount);
    try {
      const args = [...spec.args, ...portArguments(spec.portArgs, spec.portCount, ports)];
      const record = this.#newRecord(spec, ports, replaces);
      // Before the start: what runs without a record would never be found again.
      this.shop.records.save(record);
      const managed = new ManagedProcess(this.shop, record, (one) => this.tell(one));
      this.inBackground(managed.start(args));
      return managed;
    } catch (error) {
      this.ports.release(ports);
      if (error instanceof RpcError) throw error;
      const problem = error instanceof Error ? error.message : String(error);
      throw new RpcError(Code.INTERNAL, `process ${spec.name} is not started: ${problem}`, { cause: error });
    }
  }

  /** One that is not there becomes a process in the state `error`; one that may not be there is refused. */
  #refuseForbidden(binary: string): void {
    try {
      this.shop.locate(binary);
    } catch (error) {
      if (error instanceof RpcError && error.code === Code.PERMISSION_DENIED) throw error;
    }
  }

  #newRecord(spec: ProcessSpec, ports: PortBlock, replaces: string): ProcessRecord {
    return {
      ...spec,
      uuid: crypto.randomUUID(),
      portStart: ports.start,
      portEnd: ports.end,
      host: this.host,
      pid: 0,
      startTicks: 0,
      state: "starting",
      error: "",
      createdMs: this.shop.wallClock(),
      deleting: false,
      replaces,
      superseded: false,
    };
  }

  /**
   * A process.
   *
   * @throws RpcError with NOT_FOUND
   */
  get(name: string): ManagedProcess {
    const managed = this.#processes.get(name);
    if (managed) return managed;
    throw new RpcError(Code.NOT_FOUND, `cannot find process ${JSON.stringify(name)}`);
  }

  /**
   * Makes a process end, and forgets it once it has; the answer does not wait for that. Until then its name and its
   * ports stay taken.
   *
   * @param uuid empty = whichever has the name
   * @throws RpcError with NOT_FOUND
   */
  delete(name: string, uuid: string): ProcessView {
    const managed = this.get(name);
    if (uuid !== "" && uuid !== managed.record.uuid) {
      throw new RpcError(
        Code.NOT_FOUND,
        `cannot find process ${name} with uuid ${uuid}: it has ${managed.record.uuid} now`,
      );
    }
    if (!managed.record.deleting) managed.update({ deleting: true });
    this.inBackground(this.#delete(managed));
    return this.view(managed);
  }

  /** Goes on with a deletion that an earlier manager began. */
  resumeDelete(managed: ManagedProcess): void {
    this.inBackground(this.#delete(managed));
  }

  async #delete(managed: ManagedProcess): Promise<void> {
    await managed.stop();
    if (!managed.hasEnded) {
      const seconds = KILL_MS / 1000;
      this.shop.log.error("a killed process is still there and stays listed", {
        process: managed.record.name,
        seconds,
      });
      return;
    }
    // A second call of delete may have been quicker.
    if (this.#processes.get(managed.record.name) !== managed) return;
    this.#processes.delete(managed.record.name);
    this.forget(managed);
    this.tell(managed, true);
  }

  /** Frees what an ended process had. */
  forget(managed: ManagedProcess): void {
    const { uuid, portStart: start, portEnd: end, name } = managed.record;
    // Its ports may be another's by the second time.
    if (this.#forgotten.has(managed)) return;
    this.#forgotten.add(managed);
    this.ports.release({ start, end });
    try {
      this.shop.records.remove(uuid);
    } catch (error) {
      this.shop.log.error("a record cannot be removed", { process: name, problem: String(error) });
    }
  }

  /**
   * Puts a process with another program into the place of one, see `Replacer`.
   *
   * @throws RpcError with INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, INTERNAL when the new one does not run
   */
  async replace(spec: ProcessSpec, signal: string): Promise<ProcessView> {
    checkSpec(spec);
    return this.view(await this.#replacer.replace(spec, signal));
  }

  /** Goes on with a replacement that an earlier manager began. */
  resumeReplace(current: ManagedProcess, next: ManagedProcess): void {
    this.#replacer.resume(current, next);
  }

  /** Ends a process whose place another one has. */
  endSuperseded(old: ManagedProcess): void {
    this.#replacer.endSuperseded(old);
  }

  /** Makes all processes end, engines first: a copy that goes before its engine counts as failed. */
  async stopAll(): Promise<void> {
    const all = [...this.#processes.values()];
    const engines = all.filter(({ record }) => volumeOfEngine(record.name) !== undefined);
    await Promise.all(engines.map((one) => one.stop()));
    await Promise.all(all.map((one) => one.stop()));
  }
}

/** @throws RpcError with INVALID_ARGUMENT */
function checkSpec(spec: ProcessSpec): void {
  checkName(spec.name);
  const refuse = (why: string): never => {
    throw new RpcError(Code.INVALID_ARGUMENT, `process ${spec.name}: ${why}`);
  };
  if (spec.binary === "") refuse("missing required argument: the binary");
  const texts = [spec.binary, ...spec.args, ...spec.portArgs];
  if (texts.length > MAX_ARGS) refuse(`more than ${MAX_ARGS} arguments`);
  const bytes = texts.reduce((sum, text) => sum + text.length + 1, 0);
  if (bytes > MAX_ARGS_BYTES) refuse(`arguments of ${bytes} bytes, at most ${MAX_ARGS_BYTES} are taken`);
  if (texts.some((text) => text.includes("\0"))) refuse("an argument with a NUL byte in it");
  if (!Number.isInteger(spec.portCount) || spec.portCount < 0) {
    refuse(`${spec.portCount} ports make no sense`);
  }
}
