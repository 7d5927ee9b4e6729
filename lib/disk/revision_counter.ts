/**
 * `revision.counter`: how many writes and unmaps a replica has seen. Engines compare the counters of a volume's
 * replicas at start and serve only from those with the highest one.
 *
 * The file is one block of 4096 bytes: ASCII decimal digits, the rest NUL. It is overwritten in place, through
 * direct I/O where the data is, too.
 *
 * The counter must not lie: a replica that lost a write must never look as new as one that has it. So the number
 * on disk is raised after the data was written, and the write is acknowledged after the number was. One write of
 * the block covers all requests whose data arrived in the same pass of the loop or while the block was being
 * written before; a burst of writes costs a few block writes, not one each.
 *
 * @module
 */
import type { Files } from "../io/files.ts";
import type { Completer, Deferred } from "../io/io.ts";
import { FILE_MODE } from "./atomic.ts";
import type { DiskCore } from "./core.ts";
import { MetadataError } from "./errors.ts";
import { REVISION_COUNTER } from "./names.ts";
import { NO_SLOT, SlotList } from "./requests.ts";

/** Size of the file, bytes. */
export const COUNTER_BYTES = 4096;
/** Descriptor of a counter that is switched off. */
export const NO_COUNTER = -1 as number;
/** Most digits: Number.MAX_SAFE_INTEGER has 16. */
const MAX_DIGITS = 16;

/** Writes a counter's block. */
export function encodeCounter(value: number, into: Uint8Array, at: number): void {
  into.fill(0, at, at + MAX_DIGITS + 1);
  let digits = 1;
  for (let rest = value; rest >= 10; rest = Math.floor(rest / 10)) digits++;
  for (let i = digits - 1, rest = value; i >= 0; i--, rest = Math.floor(rest / 10)) {
    into[at + i] = 48 + rest % 10;
  }
}

/**
 * Reads a counter's block. An empty block is 0: a power failure can leave one where a peer did not sync it, and
 * the lowest number is the one that claims nothing.
 *
 * @param file path for errors
 * @throws {MetadataError} when it holds anything else than a number
 */
export function decodeCounter(file: string, block: Uint8Array): number {
  let end = block.length;
  while (end > 0 && block[end - 1] === 0) end--;
  if (end === 0) return 0;
  const text = new TextDecoder().decode(block.subarray(0, Math.min(end, 64)));
  const value = /^\d{1,19}$/.test(text) && end <= 64 ? Number(text) : NaN;
  if (!Number.isSafeInteger(value)) {
    throw new MetadataError(
      file,
      `holds no counter; write 0 to it to make this replica the oldest of its volume`,
    );
  }
  return value;
}

/**
 * Opens the counter's file, creating it at 0.
 *
 * @param block arena memory of {@linkcode COUNTER_BYTES}, page aligned, to read through
 * @returns descriptor and value
 * @throws {IoError}
 * @throws {MetadataError}
 */
export function openCounter(
  files: Files,
  directory: string,
  direct: boolean,
  block: Uint8Array,
): { readonly fd: number; readonly value: number } {
  const path = `${directory}/${REVISION_COUNTER}`, isNew = !files.exists(path);
  const fd = files.open(path, { write: true, create: FILE_MODE, direct });
  try {
    block.fill(0);
    const value = decodeCounter(path, block.subarray(0, files.readAt(fd, block, 0)));
    if (isNew || files.fstat(fd).size < COUNTER_BYTES) {
      block.fill(0);
      encodeCounter(value, block, 0);
      files.writeAt(fd, block, 0);
      files.sync(fd);
      files.syncDirectory(directory);
    }
    return { fd, value };
  } catch (error) {
    files.close(fd);
    throw error;
  }
}

/** The counter of an open replica. */
export class RevisionCounter implements Completer, Deferred {
  readonly #core: DiskCore;
  readonly #fd: number;
  readonly #collecting: SlotList;
  readonly #covered: SlotList;
  #value: number;
  #durable = false;
  #busy = false;
  #deferred = false;
  /** Block writes that completed without being durable. Counts up. */
  changes = 0;

  /**
   * Counts in `fd`, starting from the value it holds.
   *
   * @param fd as {@linkcode openCounter} returned it, or {@linkcode NO_COUNTER}
   */
  constructor(core: DiskCore, fd: number, value: number) {
    this.#core = core;
    this.#fd = fd;
    this.#value = value;
    this.#collecting = new SlotList(core.requests);
    this.#covered = new SlotList(core.requests);
    if (fd === NO_COUNTER) return;
    const block = core.memory.counterBlock;
    core.io.arena.u8.fill(0, block, block + COUNTER_BYTES);
  }

  /** The number of writes and unmaps; 0 when switched off. */
  get value(): number {
    return this.#value;
  }

  /** Its descriptor, or {@linkcode NO_COUNTER}. */
  get fd(): number {
    return this.#fd;
  }

  /** Sets the number, durably. Only while nothing is under way. @throws {IoError} */
  set(value: number): void {
    if (this.#fd === NO_COUNTER) return;
    const { io, memory } = this.#core, block = memory.counterBlock;
    encodeCounter(value, io.arena.u8, block);
    io.files.writeAt(this.#fd, io.arena.u8.subarray(block, block + COUNTER_BYTES), 0);
    io.files.sync(this.#fd);
    this.#value = value;
  }

  /** Counts a request that succeeded and completes it with `result`. From the loop only. */
  count(slot: number, result: number): void {
    const requests = this.#core.requests;
    if (this.#fd === NO_COUNTER) {
      requests.finish(slot, result);
      return;
    }
    requests.result[slot] = result;
    this.#collecting.push(slot);
    if (this.#busy || this.#deferred) return;
    this.#deferred = true;
    this.#core.io.defer(this);
  }

  /** As {@linkcode RevisionCounter.count}, from inside a submitting call. */
  countLater(slot: number, result: number): void {
    if (this.#fd === NO_COUNTER) this.#core.requests.finishLater(slot, result);
    else this.count(slot, result);
  }

  /** Writes the block for everything collected in this pass. */
  runDeferred(): void {
    this.#deferred = false;
    this.#start();
  }

  #start(): void {
    const { io, memory, requests } = this.#core;
    this.#busy = true;
    this.#durable = false;
    this.#covered.take(this.#collecting);
    for (let slot = this.#covered.first; slot !== NO_SLOT; slot = requests.next[slot]) {
      if (requests.durable[slot] === 1) this.#durable = true;
    }
    encodeCounter(this.#value + this.#covered.count, io.arena.u8, memory.counterBlock);
    if (this.#durable) io.writeDurable(this.#fd, memory.counterBlock, COUNTER_BYTES, 0, this, 0);
    else io.write(this.#fd, memory.counterBlock, COUNTER_BYTES, 0, this, 0);
  }

  /** The block was written: the requests it covers are complete. */
  complete(_tag: number, result: number): void {
    const requests = this.#core.requests;
    if (result < 0) this.#core.fail("the revision counter could not be written");
    else {
      this.#value += this.#covered.count;
      if (!this.#durable) this.changes++;
    }
    for (let n = this.#covered.count; n > 0; n--) {
      const slot = this.#covered.shift();
      requests.finish(slot, result < 0 ? result : requests.result[slot]);
    }
    if (this.#collecting.count > 0) this.#start();
    else this.#busy = false;
  }
}
