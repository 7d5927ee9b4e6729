/**
 * Inodes of a simulated disk: files with sparse contents, directories, sockets.
 *
 * @module
 */
import { PAGE_BYTES } from "../arena.ts";
import { Errno } from "../errno.ts";
import type { Extent } from "../files.ts";
import { ALL_SECTORS, Page, PageState, sectorMask } from "./page.ts";
import type { Random } from "./random.ts";

/** Where pages come from: a bounded disk. */
export interface Space {
  /** Takes one page. @returns false when the disk is full */
  take(): boolean;
  /** Gives pages back. */
  give(pages: number): void;
}

/** What every inode has. */
export class Inode {
  /** Names of it, as processes see them. */
  links = 0;
  /** Open file descriptions of it. */
  opens = 0;
  /** Of the last change of the contents, wall-clock ms. */
  modifiedMs = 0;
  /** Of the last change of anything, wall-clock ms. */
  changedMs = 0;
  /** The open file description that holds the lock. */
  lock: object | null = null;

  /** Without a name yet. @param id its number, unique on the disk */
  constructor(readonly id: number, readonly kind: "file" | "directory" | "other") {}
}

/** A directory: its names as processes see them, and as a power cut leaves them. */
export class DirectoryInode extends Inode {
  /** As processes see it. */
  entries: Map<string, Inode> = new Map();
  /** As far as journalled. */
  stored: Map<string, Inode> = new Map();

  /** An empty directory. */
  constructor(id: number) {
    super(id, "directory");
  }
}

/** The name of a unix socket. */
export class SocketInode extends Inode {
  /** Whoever listens; null when the socket file is stale. */
  listener: object | null = null;

  /** A socket nobody listens on yet. */
  constructor(id: number) {
    super(id, "other");
  }
}

/** How likely an un-synced sector survives a power cut: one of these is drawn per file and cut. */
const KEEP: [number, ...number[]] = [0, 0, 0.1, 0.5, 0.5, 0.9, 1, 1];

/** A file. */
export class FileInode extends Inode {
  /** Size as processes see it, bytes. */
  size = 0;
  /** Size as a power cut leaves it, unless a later one survives. */
  storedSize = 0;
  /** Pages that processes see as allocated. */
  allocated = 0;
  /** By index; a missing one is a hole in both states. */
  readonly pages: Map<number, Page> = new Map();
  #changed: Page[] = [];
  #storedModifiedMs = 0;
  #storedChangedMs = 0;
  readonly #space: Space;
  readonly #random: Random;
  readonly #writeback: number;

  /**
   * An empty file.
   *
   * @param writeback see {@linkcode DiskOptions.writeback}
   */
  constructor(id: number, space: Space, random: Random, writeback: number) {
    super(id, "file");
    this.#space = space;
    this.#random = random;
    this.#writeback = writeback;
  }

  /** Reads up to `length` bytes; @returns the count, short at the end of the file. */
  read(into: Uint8Array, at: number, length: number, offset: number): number {
    const count = Math.max(0, Math.min(length, this.size - offset));
    for (let done = 0; done < count;) {
      const position = offset + done;
      const index = Math.floor(position / PAGE_BYTES);
      const inside = position - index * PAGE_BYTES;
      const part = Math.min(PAGE_BYTES - inside, count - done);
      const seen = this.pages.get(index)?.seen ?? null;
      if (seen === null) into.fill(0, at + done, at + done + part);
      else if (part === PAGE_BYTES) into.set(seen, at + done);
      else into.set(seen.subarray(inside, inside + part), at + done);
      done += part;
    }
    return count;
  }

  /**
   * Writes into the page cache.
   *
   * @returns bytes written: fewer than `length` when the disk is full
   */
  write(from: Uint8Array, at: number, length: number, offset: number): number {
    let done = 0;
    while (done < length) {
      const position = offset + done;
      const index = Math.floor(position / PAGE_BYTES);
      const inside = position - index * PAGE_BYTES;
      const part = Math.min(PAGE_BYTES - inside, length - done);
      const mask = sectorMask(inside, inside + part);
      const page = this.#allocate(index);
      if (page === null) break;
      this.#change(page, mask);
      page.touch(mask).set(from.subarray(at + done, at + done + part), inside);
      done += part;
    }
    if (done > 0 && offset + done > this.size) this.#resize(offset + done);
    return done;
  }

  /** Whether the page at an offset has data, as processes see it. */
  hasData(offset: number): boolean {
    return this.pages.get(Math.floor(offset / PAGE_BYTES))?.seenState === PageState.DATA;
  }

  /** The page, allocated for processes to see; null when the disk is full. */
  #allocate(index: number): Page | null {
    const page = this.pages.get(index);
    if (page !== undefined && page.seenState !== PageState.HOLE) return page;
    if (!this.#space.take()) return null;
    this.allocated++;
    if (page !== undefined) return page;
    const fresh = new Page(index);
    this.pages.set(index, fresh);
    return fresh;
  }

  /** To be called before a page is changed: un-synced sectors may reach the disk before they are changed again. */
  #change(page: Page, mask: number): void {
    if ((page.dirty & mask) !== 0 && this.#random.chance(this.#writeback)) page.commit(mask);
    if (page.listed) return;
    page.listed = true;
    this.#changed.push(page);
  }

  #resize(size: number): void {
    if (this.size !== this.storedSize && this.#random.chance(this.#writeback)) this.storedSize = this.size;
    this.size = size;
  }

  /** Changes the size. */
  truncate(size: number): void {
    if (size < this.size) {
      const whole = Math.ceil(size / PAGE_BYTES);
      for (const page of this.pages.values()) {
        if (page.index >= whole) this.#clear(page, PageState.HOLE);
      }
      this.#zeroBytes(size, whole * PAGE_BYTES);
    }
    if (size !== this.size) this.#resize(size);
  }

  /** Makes a range a hole, or unwritten space, without a change of the size. @returns 0 or -ENOSPC */
  zero(offset: number, length: number, state: PageState): number {
    const end = offset + length;
    const first = Math.ceil(offset / PAGE_BYTES), last = Math.floor(end / PAGE_BYTES);
    if (first > last) {
      this.#zeroBytes(offset, end);
      return 0;
    }
    this.#zeroBytes(offset, first * PAGE_BYTES);
    this.#zeroBytes(last * PAGE_BYTES, end);
    if (state === PageState.HOLE && last - first > this.pages.size) {
      for (const page of this.pages.values()) {
        if (page.index >= first && page.index < last) this.#clear(page, state);
      }
      return 0;
    }
    for (let index = first; index < last; index++) {
      const page = state === PageState.HOLE ? this.pages.get(index) : this.#allocate(index);
      if (page === null) return -Errno.ENOSPC;
      if (page !== undefined) this.#clear(page, state);
    }
    return 0;
  }

  /** Allocates the holes of a range as unwritten space. @returns 0 or -ENOSPC */
  preallocate(offset: number, length: number, keepSize: boolean): number {
    const last = Math.ceil((offset + length) / PAGE_BYTES);
    for (let index = Math.floor(offset / PAGE_BYTES); index < last; index++) {
      const page = this.pages.get(index);
      if (page !== undefined && page.seenState !== PageState.HOLE) continue;
      const fresh = this.#allocate(index);
      if (fresh === null) return -Errno.ENOSPC;
      this.#clear(fresh, PageState.UNWRITTEN);
    }
    if (!keepSize && offset + length > this.size) this.#resize(offset + length);
    return 0;
  }

  #clear(page: Page, state: PageState): void {
    if (page.seenState === state) return;
    this.#change(page, ALL_SECTORS);
    if (page.seenState !== PageState.HOLE && state === PageState.HOLE) {
      this.allocated--;
      this.#space.give(1);
    }
    page.clear(state);
  }

  /** Zeroes part of a page. */
  #zeroBytes(from: number, to: number): void {
    if (from >= to) return;
    const index = Math.floor(from / PAGE_BYTES);
    const page = this.pages.get(index);
    if (page === undefined || page.seen === null) return;
    const base = index * PAGE_BYTES;
    const mask = sectorMask(from - base, to - base);
    this.#change(page, mask);
    page.touch(mask).fill(0, from - base, to - base);
  }

  /** Makes everything durable. */
  sync(): void {
    let kept = 0;
    for (const page of this.#changed) {
      page.commit(page.dirty);
      if (page.lost !== 0) this.#changed[kept++] = page;
      else this.#unlist(page);
    }
    this.#changed.length = kept;
    this.storedSize = this.size;
    this.#storedModifiedMs = this.modifiedMs;
    this.#storedChangedMs = this.changedMs;
  }

  #unlist(page: Page): void {
    page.listed = false;
    if (page.seenState === PageState.HOLE && page.storedState === PageState.HOLE) {
      this.pages.delete(page.index);
    }
  }

  /** Makes a range durable, and as much of the size as it needs. */
  syncRange(offset: number, length: number): void {
    const end = offset + length;
    for (let position = offset; position < end;) {
      const index = Math.floor(position / PAGE_BYTES);
      const base = index * PAGE_BYTES;
      const to = Math.min(end, base + PAGE_BYTES);
      this.pages.get(index)?.commit(sectorMask(position - base, to - base));
      position = to;
    }
    if (this.storedSize < end) {
      this.storedSize = this.size > end && this.#random.chance(0.5) ? this.size : end;
    }
  }

  /** A sync failed: each dirty sector is on disk or given up for good. */
  loseDirty(): void {
    const keep = this.#random.pick(KEEP);
    for (const page of this.#changed) {
      let written = 0;
      for (let bit = 1; bit <= ALL_SECTORS; bit <<= 1) if (this.#random.chance(keep)) written |= bit;
      page.loseDirty(written);
    }
  }

  /** A power cut: see the module `mod.ts` for what may remain. */
  cut(unwritten: number): void {
    const random = this.#random;
    const keep = random.pick(KEEP);
    const seenSize = this.size;
    if (seenSize !== this.storedSize && !random.chance(keep === 0 ? 0.1 : 0.7)) this.size = this.storedSize;
    else this.storedSize = this.size;
    // A cut of the file that is lost takes the loss of its contents with it.
    const uncut = this.size > seenSize ? Math.floor(seenSize / PAGE_BYTES) : Infinity;
    for (const page of this.#changed) {
      if (page.index >= uncut) page.revert();
      else page.cut(random, keep, unwritten);
      if (page.seenState === PageState.HOLE) this.pages.delete(page.index);
    }
    this.#changed.length = 0;
    this.#trim();
    if (random.chance(0.5)) {
      this.modifiedMs = this.#storedModifiedMs;
      this.changedMs = this.#storedChangedMs;
    }
    this.#storedModifiedMs = this.modifiedMs;
    this.#storedChangedMs = this.changedMs;
    this.allocated = this.pages.size;
    this.lock = null;
    this.opens = 0;
  }

  /** After a power cut: nothing but zeros lies beyond the size. */
  #trim(): void {
    const whole = Math.ceil(this.size / PAGE_BYTES);
    for (const page of this.pages.values()) {
      if (page.index >= whole && page.seenState === PageState.DATA) this.pages.delete(page.index);
    }
    const inside = this.size % PAGE_BYTES;
    if (inside === 0) return;
    const page = this.pages.get(whole - 1);
    if (page === undefined || page.seen === null) return;
    page.seen.fill(0, inside);
  }

  /** Extents within a range, clipped to it. @param split probability that one is reported in two pieces */
  extents(offset: number, length: number, split: number): Extent[] {
    const first = Math.floor(offset / PAGE_BYTES), end = offset + length;
    const found: Page[] = [];
    for (const page of this.pages.values()) {
      if (page.seenState === PageState.HOLE || page.index < first || page.index * PAGE_BYTES >= end) continue;
      found.push(page);
    }
    found.sort((a, b) => a.index - b.index);
    const extents: { offset: number; length: number; unwritten: boolean }[] = [];
    let last: { offset: number; length: number; unwritten: boolean } | undefined;
    for (const page of found) {
      const from = Math.max(offset, page.index * PAGE_BYTES);
      const to = Math.min(end, (page.index + 1) * PAGE_BYTES);
      const unwritten = page.seenState === PageState.UNWRITTEN;
      if (
        last !== undefined && last.offset + last.length === from && last.unwritten === unwritten &&
        !this.#random.chance(split)
      ) {
        last.length += to - from;
      } else {
        last = { offset: from, length: to - from, unwritten };
        extents.push(last);
      }
    }
    return extents;
  }
}
