/**
 * Putting a process with another program into the place of one that runs: the live upgrade of an engine. The new
 * process is started beside the old one; once it is healthy the old one gets SIGHUP, upon which an engine dies
 * without touching its device.
 *
 * Each step is on disk before the next: a manager that is started again in the middle goes on or goes back.
 *
 * | step | record of the new process | record of the old one | after a restart |
 * |---|---|---|---|
 * | the new one is started | `replaces` the old one | | the new one is stopped; taken if the old one is gone |
 * | it is healthy | `replaces` the old one | `superseded` | goes on |
 * | it has the name | | `superseded` | the old one is ended |
 * | the old one is gone | | removed | |
 *
 * @module
 */
import { Code, RpcError } from "../rpc/errors.ts";
import { REPLACE_MS, SUPERSEDED_MS } from "./limits.ts";
import type { ManagedProcess } from "./managed.ts";
import type { ProcessSpec } from "./record.ts";
import type { ProcessTable } from "./table.ts";

/** The signal that the old process gets; callers must name it (Longhorn's rule). */
const SIGNAL = "SIGHUP";

/** See the module text. */
export class Replacer {
  readonly #table: ProcessTable;
  /** Names that are being replaced. */
  readonly #busy = new Set<string>();

  /** Makes one for a table. */
  constructor(table: ProcessTable) {
    this.#table = table;
  }

  /** Replaces the process that has the name. @returns the one that has it then. @throws {RpcError} */
  async replace(spec: ProcessSpec, signal: string): Promise<ManagedProcess> {
    if (signal !== SIGNAL) {
      throw new RpcError(
        Code.INVALID_ARGUMENT,
        `terminate signal "${signal}" is not supported; use ${SIGNAL}`,
      );
    }
    const current = this.#table.get(spec.name);
    if (current.record.binary === spec.binary) return current;
    if (this.#busy.has(spec.name)) throw changed(spec.name);
    this.#busy.add(spec.name);
    try {
      const next = this.#table.launch(spec, current.record.uuid);
      return await this.#replace(current, next);
    } finally {
      this.#busy.delete(spec.name);
    }
  }

  async #replace(current: ManagedProcess, next: ManagedProcess): Promise<ManagedProcess> {
    const { name } = current.record;
    // Neither the failure of the new one nor the end of the old one is the end of the process of this name.
    current.quiet = true;
    next.quiet = true;
    const problem = await this.#untilRunning(current, next);
    const stays = this.#table.find(name) === current && !current.record.deleting;
    if (problem === undefined && stays) {
      this.#swap(current, next);
      return next;
    }
    this.#goBack(current, next);
    if (!stays) throw changed(name);
    throw new RpcError(
      Code.INTERNAL,
      `process ${name} is not replaced, the old one stays: the new one ${problem}`,
    );
  }

  /** Waits for the new process. @returns why it does not run */
  async #untilRunning(current: ManagedProcess, next: ManagedProcess): Promise<string | undefined> {
    const { clock } = this.#table.shop;
    const begin = clock.now();
    while (next.record.state === "starting") {
      // One that has handed over to the new one and left cannot be gone back to.
      if (!current.hasEnded && clock.now() - begin > REPLACE_MS) {
        return `does not run after ${REPLACE_MS / 1000} s`;
      }
      if (current.record.deleting) return "is not wanted any more";
      await clock.sleep(100);
    }
    if (next.record.state === "running") return undefined;
    return next.record.error || `is ${next.record.state}`;
  }

  #goBack(current: ManagedProcess, next: ManagedProcess): void {
    current.quiet = false;
    if (current.record.superseded) current.update({ superseded: false });
    if (current.hasEnded) this.#table.tell(current);
    this.#table.inBackground(
      next.stop().then(() => {
        if (next.hasEnded) this.#table.forget(next);
      }),
    );
  }

  #swap(current: ManagedProcess, next: ManagedProcess): void {
    current.update({ superseded: true });
    next.update({ replaces: "" });
    next.quiet = false;
    this.#table.put(next);
    this.#table.tell(next);
    this.endSuperseded(current);
  }

  /** Ends a process whose place another one has; its ports are free when it is gone. */
  endSuperseded(old: ManagedProcess): void {
    old.quiet = true;
    this.#table.inBackground(
      old.stop(SIGNAL, SUPERSEDED_MS).then(() => {
        if (old.hasEnded) this.#table.forget(old);
      }),
    );
  }

  /** Goes on after a restart of the manager: `current` has the name, `next` was to get it. */
  resume(current: ManagedProcess, next: ManagedProcess): void {
    const alive = !next.hasEnded;
    if (alive && (current.record.superseded || current.hasEnded)) this.#swap(current, next);
    else this.#goBack(current, next);
  }
}

function changed(name: string): RpcError {
  return new RpcError(Code.ALREADY_EXISTS, `process ${name} to replace has changed in the meantime`);
}
