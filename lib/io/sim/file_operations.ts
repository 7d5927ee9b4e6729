/**
 * What a file operation under way does to the disk, and when.
 *
 * An operation takes effect at some moment between its submission and its completion, or half of it at one
 * moment and the rest at its completion; the moment is drawn. Therefore overlapping operations under way at
 * once are applied in either order whatever the order of their completions.
 *
 * @module
 */
import { PAGE_BYTES } from "../arena.ts";
import { Errno } from "../errno.ts";
import type { OpenFile } from "./descriptors.ts";
import type { DiskWork, SimDisk } from "./disk.ts";
import { FileInode } from "./inode.ts";
import { Kind, type Operation } from "./operation.ts";
import { PageState, SECTOR_BYTES } from "./page.ts";

/** When an operation takes effect. */
export const Effect = { AT_START: 0, SPLIT: 1, AT_END: 2 } as const;

/** One of {@linkcode Effect}. */
export type Effect = typeof Effect[keyof typeof Effect];

/** fallocate(2) modes, linux/falloc.h. */
const KEEP_SIZE = 0x01, PUNCH_HOLE = 0x02, ZERO_RANGE = 0x10;

/** The group an operation belongs to. */
export function workOf(kind: Kind): DiskWork {
  return kind === Kind.READ ? "read" : kind === Kind.SYNC ? "sync" : "write";
}

/** Applies an operation as far as byte `upTo` of it; what is not a read or write happens as a whole. */
export function applyOperation(disk: SimDisk, operation: Operation, upTo: number): void {
  const file = operation.descriptor as OpenFile;
  const { inode } = file;
  if (!(inode instanceof FileInode) || operation.result < 0) return;
  const { memory } = operation.owner;
  const left = upTo - operation.done;
  switch (operation.kind) {
    case Kind.READ:
      if (left <= 0) return;
      operation.result += inode.read(
        memory,
        operation.at + operation.done,
        left,
        operation.offset + operation.done,
      );
      operation.done = upTo;
      return;
    case Kind.WRITE:
    case Kind.WRITE_DURABLE: {
      if (left <= 0) return;
      const { done } = operation;
      const count = disk.write(inode, memory, operation.at + done, left, operation.offset + done);
      operation.done = upTo;
      operation.result = count < left ? -Errno.ENOSPC : operation.result + count;
      return;
    }
    case Kind.SYNC:
      if (operation.fault === 0) disk.sync(inode);
      else disk.failSync(inode);
      return;
    case Kind.PUNCH:
      operation.done = operation.length;
      if (operation.fault === 0) inode.zero(operation.offset, operation.length, PageState.HOLE);
      disk.stamp(inode, true);
      return;
    case Kind.FALLOCATE:
      operation.done = operation.length;
      if (operation.fault === 0) operation.result = allocate(inode, operation);
      disk.stamp(inode, true);
      return;
  }
}

function allocate(inode: FileInode, operation: Operation): number {
  const { mode, offset, length } = operation;
  const keepSize = (mode & KEEP_SIZE) !== 0;
  switch (mode & ~KEEP_SIZE) {
    case 0:
      return inode.preallocate(offset, length, keepSize);
    case PUNCH_HOLE:
      return keepSize ? inode.zero(offset, length, PageState.HOLE) : -Errno.EOPNOTSUPP;
    case ZERO_RANGE: {
      const result = inode.zero(offset, length, PageState.UNWRITTEN);
      if (result === 0 && !keepSize && offset + length > inode.size) inode.truncate(offset + length);
      return result;
    }
    default:
      return -Errno.EOPNOTSUPP;
  }
}

/**
 * How far an operation got, by draw: of a write, whole sectors, for nobody writes less in one piece, and of a page that
 * had no data all or nothing, see {@linkcode abandonOperation}.
 *
 * @returns bytes, from 0 to the whole length
 */
export function drawPart(disk: SimDisk, operation: Operation): number {
  const part = disk.random.below(operation.length + 1), { offset } = operation;
  if (operation.kind === Kind.READ) return part;
  const { inode } = operation.descriptor as OpenFile, sectors = wholeSectors(offset, part);
  if (inode instanceof FileInode && inode.hasData(offset + sectors)) return sectors;
  return Math.max(0, Math.floor((offset + sectors) / PAGE_BYTES) * PAGE_BYTES - offset);
}

/** The largest count of at most `count` bytes from `offset` that ends a sector; 0 when there is none. */
export function wholeSectors(offset: number, count: number): number {
  return Math.max(0, Math.floor((offset + count) / SECTOR_BYTES) * SECTOR_BYTES - offset);
}

/** The end of an operation: what is left of its effect. @returns its result */
export function endOperation(disk: SimDisk, operation: Operation, effect: Effect): number {
  const { inode } = operation.descriptor as OpenFile;
  const write = operation.kind === Kind.WRITE || operation.kind === Kind.WRITE_DURABLE;
  if (effect !== Effect.AT_START) {
    // A write that fails may have been done in part.
    const upTo = operation.fault === 0 ? operation.length : write ? drawPart(disk, operation) : 0;
    applyOperation(disk, operation, upTo);
    if (operation.fault !== 0 && operation.kind === Kind.READ) {
      // Nobody promised that the buffer of a failed read is as it was.
      operation.owner.memory.fill(0xa5, operation.at, operation.at + drawPart(disk, operation));
    }
  }
  if (operation.fault !== 0) return -operation.fault;
  if (operation.kind === Kind.WRITE_DURABLE && operation.result > 0 && inode instanceof FileInode) {
    inode.syncRange(operation.offset, operation.length);
  }
  return operation.result;
}

/**
 * The process died with this operation under way: it happens in full, in part, or not. Sectors that had data before may
 * be torn from each other. A page that had none gets it as a whole: a file system shows a new block when all of it is
 * written, and until then the hole.
 */
export function abandonOperation(disk: SimDisk, operation: Operation): void {
  const { random } = disk;
  const fate = random.below(4);
  if (fate === 0) return;
  const { inode } = operation.descriptor as OpenFile;
  const write = operation.kind === Kind.WRITE || operation.kind === Kind.WRITE_DURABLE;
  if (!write || !(inode instanceof FileInode)) {
    const change = operation.kind === Kind.PUNCH || operation.kind === Kind.FALLOCATE;
    if (change && operation.done === 0) applyOperation(disk, operation, operation.length);
    return;
  }
  if (fate === 1) return applyOperation(disk, operation, operation.length);
  const { offset, length } = operation, prefix = fate === 2 ? drawPart(disk, operation) : length;
  // What took effect before is not repeated: others may have written since.
  for (let from = operation.done; from < length;) {
    const unit = inode.hasData(offset + from) ? SECTOR_BYTES : PAGE_BYTES;
    const to = Math.min(length, (Math.floor((offset + from) / unit) + 1) * unit - offset);
    if (fate === 2 ? to <= prefix : random.chance(0.5)) {
      disk.write(inode, operation.owner.memory, operation.at + from, to - from, offset + from);
    }
    from = to;
  }
}
