/**
 * Making removed snapshots go away beside user I/O: merging a child into its parent (coalesce), and giving back
 * what the head hides (prune). Small steps, one at a time, through descriptors of their own; a job that is
 * interrupted at any point, by a crash too, is begun again from the start without harm.
 *
 * Coalesce moves the child's blocks into the parent, window by window, so that it never needs more space than a
 * window has. Nobody sees that: the child hides what is copied, and the parent has no other child.
 *
 * | Step of a window | After a crash here |
 * |---|---|
 * | copy the child's data into the parent | the child still hides it |
 * | sync the parent | the same |
 * | the map leads to the parent; requests that began before end | the same |
 * | punch it out of the child | reads fall through to the parent, which has it |
 *
 * At the end the parent is synced once more; only then may `ChainChanges.replace` give the child's name away.
 *
 * Prune punches holes into the snapshot below the head. Only for blocks that the map says are in the head, because
 * their write is complete and will not be taken back; and after a sync of the head that began when they were
 * there already, because a power failure must not take the newer copy after the older one was given up.
 *
 * Hosts come first: while requests are under way, a piece is followed by a pause.
 *
 * While a job is under way an unmap leaves the removed files alone and writes zeros into the head instead: a block
 * that is being copied must not come back after it was trimmed.
 *
 * @module
 */
import { Errno, IoError } from "../io/errno.ts";
import type { Completer, Io } from "../io/io.ts";
import { NO_BUFFER } from "../io/pool.ts";
import { BLOCK_BYTES } from "./block_map.ts";
import { firstBlock, lastBlock } from "./chunk_loader.ts";
import { type DiskCore, failure } from "./core.ts";
import type { DiskSet } from "./disk_set.ts";
import { ReplicaStateError } from "./errors.ts";
import { NO_FILE } from "./layers.ts";
import { BOUNCE_BYTES } from "./memory.ts";
import { openDisk } from "./open_chain.ts";

/** Bytes of a window: what is planned at once. */
const WINDOW_BYTES = 64 * 1024 * 1024;

/** Pause after a piece while hosts have requests under way, and between looks for their end; milliseconds. */
const YIELD_MS = 1;

/** What a job is waiting for. */
const READ = 0;
const WRITE = 1;
const SYNC_HEAD = 2;
const PUNCH = 3;
const SYNC_END = 4;
const YIELD = 5;
const SYNC_PARENT = 6;
const DRAW_LINE = 7;
const GRACE = 8;
const PUNCH_CHILD = 9;

/** The jobs of an open replica, one at a time; see the module text. */
export class Folds implements Completer {
  readonly #io: Io;
  readonly #core: DiskCore;
  readonly #set: DiskSet;
  /** Names of the disks of the job, "" when there is none. */
  #source = "";
  #target = "";
  #prune = false;
  #cancelled = false;
  #step = READ;
  #sourceFd = NO_FILE;
  #targetFd = NO_FILE;
  #buffer: number = NO_BUFFER;
  /** Bytes to look at, the next window, and the pieces of the present one: offsets and lengths by turns. */
  #size = 0;
  #window = 0;
  #pieces: number[] = [];
  #piece = 0;
  /** What the present window copied, to be punched out of the child. */
  readonly #copied: number[] = [];
  #punched = 0;
  #who: Completer | undefined;
  #tag = 0;

  /** Works on the disks of `set`. */
  constructor(core: DiskCore, set: DiskSet) {
    this.#io = core.io;
    this.#core = core;
    this.#set = set;
  }

  /** A job is under way. */
  get busy(): boolean {
    return this.#source !== "";
  }

  /** Refuses a change of disks that a job works on. @throws {ReplicaStateError} */
  refuse(what: string, ...disks: string[]): void {
    if (this.busy && disks.some((disk) => disk === this.#source || disk === this.#target)) {
      throw new ReplicaStateError(`cannot ${what}: ${this.#source} is being merged or pruned`);
    }
  }

  /** Ends the job at its next step, with ECANCELED. */
  cancel(): void {
    this.#cancelled = true;
  }

  /** The head is about to change: pruning below it ends. */
  headChanges(): void {
    if (this.#prune) this.cancel();
  }

  /**
   * Begins to copy a child's data into its removed parent. To be called while no request is under way.
   *
   * @param source file name of the parent
   * @param target file name of its only child, not the head
   * @param who told 0 when the parent holds everything, durably; or `-errno`
   * @throws {ReplicaStateError} {@linkcode IoError}
   */
  coalesce(source: string, target: string, head: string, who: Completer, tag: number): void {
    if (target === head) throw new ReplicaStateError("cannot merge the active differencing disk");
    this.#begin(source, target, false, who, tag);
  }

  /**
   * Begins to give back what the head hides of the removed snapshot below it. As {@linkcode coalesce}.
   *
   * @param source file name of the snapshot
   * @throws {ReplicaStateError} {@linkcode IoError}
   */
  prune(source: string, head: string, who: Completer, tag: number): void {
    this.#begin(source, head, true, who, tag);
  }

  #begin(source: string, target: string, prune: boolean, who: Completer, tag: number): void {
    const { files } = this.#io, directory = this.#set.directory, { direct } = this.#core;
    const parent = this.#set.get(source), child = this.#set.get(target);
    if (this.busy) throw new ReplicaStateError(`${this.#source} is being merged or pruned already`);
    if (!parent?.removed || child?.parent !== source || this.#set.children(source).length !== 1) {
      throw new ReplicaStateError(
        `${target} is not the only child of ${source}, or that is not marked as removed`,
      );
    }
    if (this.#core.requests.underWay > 0) {
      throw new ReplicaStateError("requests are under way: merge disks later");
    }
    const buffer = this.#core.memory.pool.allocate(BOUNCE_BYTES);
    if (buffer === NO_BUFFER) throw new ReplicaStateError("no memory is free to merge disks: try again");
    try {
      this.#sourceFd = openDisk(files, { directory, direct }, source);
      this.#targetFd = openDisk(files, { directory, direct }, target);
      this.#size = this.#extent(prune);
      if (!prune && files.fstat(this.#sourceFd).size < this.#size) files.truncate(this.#sourceFd, this.#size);
    } catch (error) {
      this.#closeFiles();
      this.#core.bounce.release(buffer);
      throw error;
    }
    this.#buffer = buffer;
    this.#source = source;
    this.#target = target;
    this.#prune = prune;
    this.#cancelled = false;
    this.#window = 0;
    this.#pieces.length = 0;
    this.#piece = 0;
    this.#copied.length = 0;
    this.#punched = 0;
    this.#who = who;
    this.#tag = tag;
    // The first step comes from the loop, as all others.
    this.#io.timer(0, this, 0);
    this.#step = PUNCH;
  }

  /** Bytes to look at. */
  #extent(prune: boolean): number {
    const { files } = this.#io, parent = files.fstat(this.#sourceFd), child = files.fstat(this.#targetFd);
    // A crash in `ChainChanges.replace` leaves both names for one file: all is merged, and punching would lose it.
    return !prune && parent.inode === child.inode ? 0 : child.size;
  }

  /** A step is over. */
  complete(_tag: number, result: number): void {
    if (this.#cancelled) return this.#end(-Errno.ECANCELED);
    if (this.#core.fault !== "") return this.#end(-Errno.EIO);
    if (result < 0) return this.#end(result);
    try {
      this.#continue(result);
    } catch (error) {
      this.#end(failure(error));
    }
  }

  #continue(result: number): void {
    switch (this.#step) {
      case READ:
        return this.#write(result);
      case WRITE:
      case PUNCH:
        return this.#yield();
      case SYNC_PARENT:
        this.#leadToParent();
        return this.#grace();
      case DRAW_LINE:
      case GRACE:
        return this.#grace();
      case PUNCH_CHILD:
        return this.#punchChild();
      case SYNC_END:
        return this.#end(0);
      default:
        return this.#next();
    }
  }

  /** Lets hosts have the disk for a moment, if they want it. */
  #yield(): void {
    if (this.#core.requests.underWay === 0) return this.#next();
    this.#step = YIELD;
    this.#io.timer(YIELD_MS, this, 0);
  }

  /** From here on requests read what was copied from the parent. @throws {IoError} */
  #leadToParent(): void {
    const { layers, loader, map } = this.#core;
    let child = 0, parent = 0;
    for (let position = 0; position < layers.count; position++) {
      const { id, name } = layers.at(position);
      if (name === this.#target) child = id;
      if (name === this.#source) parent = id;
    }
    this.#step = DRAW_LINE;
    // A branch is in no map.
    if (child === 0 || parent === 0) return;
    for (let i = 0; i < this.#copied.length; i += 2) {
      const from = this.#copied[i] / BLOCK_BYTES;
      const to = Math.min(map.blocks, from + Math.ceil(this.#copied[i + 1] / BLOCK_BYTES));
      if (to > from) loader.ensure(from, to);
      for (let block = from; block < to;) {
        const run = map.run(block, to - block);
        if (map.get(block) === child) map.set(block, run, parent);
        block += run;
      }
    }
  }

  /** Waits for the requests that may still read from the child. */
  #grace(): void {
    const { requests } = this.#core;
    if (this.#step === DRAW_LINE && requests.mark()) this.#step = GRACE;
    if (this.#step === GRACE && requests.beforeMark === 0) return this.#punchChild();
    this.#io.timer(YIELD_MS, this, 0);
  }

  /** Gives back what the parent has now, piece by piece. @throws {IoError} */
  #punchChild(): void {
    if (this.#punched === this.#copied.length) {
      this.#copied.length = 0;
      this.#punched = 0;
      return this.#next();
    }
    const offset = this.#copied[this.#punched], length = this.#copied[this.#punched + 1];
    this.#punched += 2;
    this.#step = PUNCH_CHILD;
    this.#io.punchHole(this.#targetFd, offset, length, this, 0);
  }

  /** Begins the next piece. @throws {IoError} */
  #next(): void {
    while (this.#piece === this.#pieces.length) {
      if (this.#copied.length > 0) {
        this.#step = SYNC_PARENT;
        return this.#io.syncData(this.#sourceFd, this, 0);
      }
      if (this.#window >= this.#size) {
        this.#step = SYNC_END;
        return this.#io.syncData(this.#sourceFd, this, 0);
      }
      this.#plan();
      if (this.#pieces.length > 0 && this.#prune) {
        this.#step = SYNC_HEAD;
        return this.#io.syncData(this.#targetFd, this, 0);
      }
    }
    const offset = this.#pieces[this.#piece], length = this.#pieces[this.#piece + 1];
    if (this.#prune) {
      this.#piece += 2;
      this.#step = PUNCH;
      return this.#io.punchHole(this.#sourceFd, offset, length, this, 0);
    }
    this.#step = READ;
    this.#io.read(this.#targetFd, this.#buffer, Math.min(length, BOUNCE_BYTES), offset, this, 0);
  }

  /** Copies what was read; a short last block is filled up with the zeros that readers see behind it. */
  #write(read: number): void {
    const { u8 } = this.#io.arena, offset = this.#pieces[this.#piece], left = this.#pieces[this.#piece + 1];
    const length = Math.min(left, BOUNCE_BYTES);
    u8.fill(0, this.#buffer + read, this.#buffer + length);
    if (left > length) {
      this.#pieces[this.#piece] = offset + length;
      this.#pieces[this.#piece + 1] = left - length;
    } else this.#piece += 2;
    const last = this.#copied.length - 2;
    if (last >= 0 && this.#copied[last] + this.#copied[last + 1] === offset) this.#copied[last + 1] += length;
    else this.#copied.push(offset, length);
    this.#step = WRITE;
    this.#io.write(this.#sourceFd, this.#buffer, length, offset, this, 0);
  }

  /** Plans the next window. @throws {IoError} */
  #plan(): void {
    const { files } = this.#io, start = this.#window, length = Math.min(WINDOW_BYTES, this.#size - start);
    const blocks = Math.ceil(length / BLOCK_BYTES);
    this.#window += length;
    this.#pieces.length = 0;
    this.#piece = 0;
    for (const extent of files.extents(this.#prune ? this.#sourceFd : this.#targetFd, start, length)) {
      if (extent.unwritten && !this.#prune) continue;
      const from = firstBlock(extent, start), to = lastBlock(extent, start, blocks);
      if (this.#prune) this.#hidden(start / BLOCK_BYTES + from, start / BLOCK_BYTES + to);
      else if (to > from) this.#pieces.push(start + from * BLOCK_BYTES, (to - from) * BLOCK_BYTES);
    }
  }

  /** Pieces of a range of blocks that are in the head. @throws {IoError} */
  #hidden(from: number, to: number): void {
    const { loader, map, headId } = this.#core;
    if (to > from) loader.ensure(from, to);
    for (let block = from; block < to;) {
      const run = map.run(block, to - block);
      if (map.get(block) === headId) this.#pieces.push(block * BLOCK_BYTES, run * BLOCK_BYTES);
      block += run;
    }
  }

  #closeFiles(): void {
    for (const fd of [this.#sourceFd, this.#targetFd]) if (fd !== NO_FILE) this.#io.files.close(fd);
    this.#sourceFd = NO_FILE;
    this.#targetFd = NO_FILE;
  }

  #end(result: number): void {
    const who = this.#who, buffer = this.#buffer;
    this.#closeFiles();
    this.#source = "";
    this.#target = "";
    this.#prune = false;
    this.#who = undefined;
    this.#core.bounce.release(buffer);
    who?.complete(this.#tag, result);
  }
}

/** Turns the end of a job into an error, or undefined. */
export function foldProblem(result: number, source: string): Error | undefined {
  if (result >= 0) return undefined;
  if (result === -Errno.ECANCELED) {
    return new ReplicaStateError(`the merge of ${source} was interrupted: begin again`);
  }
  return new IoError("merge", source, result);
}
