/**
 * One 4 KiB page of a simulated file, in two states: what processes see, and what a power cut leaves.
 *
 * The two share one array while they are equal; the first write after a sync makes a copy.
 *
 * @module
 */
import { PAGE_BYTES } from "../arena.ts";
import type { Random } from "./random.ts";

/** What a disk writes in one piece, bytes: a power cut tears nothing smaller. */
export const SECTOR_BYTES = 512;

/** The mask of all eight sectors of a page. */
export const ALL_SECTORS = 0xff;

/** Whether space is allocated for a page, and whether it was ever written. */
export const PageState = { HOLE: 0, UNWRITTEN: 1, DATA: 2 } as const;

/** One of {@linkcode PageState}. */
export type PageState = typeof PageState[keyof typeof PageState];

/** Arrays kept for reuse, over all worlds: 64 MiB. */
const MAX_SPARE_PAGES = 16 * 1024;
const spare: Uint8Array<ArrayBuffer>[] = [];

function zeroPage(): Uint8Array<ArrayBuffer> {
  const page = spare.pop();
  return page === undefined ? new Uint8Array(PAGE_BYTES) : page.fill(0);
}

function copyPage(from: Uint8Array): Uint8Array<ArrayBuffer> {
  const page = spare.pop() ?? new Uint8Array(PAGE_BYTES);
  page.set(from);
  return page;
}

function dropPage(page: Uint8Array<ArrayBuffer> | null): void {
  if (page !== null && spare.length < MAX_SPARE_PAGES) spare.push(page);
}

/** The mask of the sectors that [from, to) of a page touches. */
export function sectorMask(from: number, to: number): number {
  const first = from >> 9, end = (to + SECTOR_BYTES - 1) >> 9;
  return ((1 << end) - 1) & ~((1 << first) - 1);
}

/** A page. `null` contents are zeros. */
export class Page {
  /** Contents as processes see them. */
  seen: Uint8Array<ArrayBuffer> | null = null;
  /** Contents as a power cut leaves them, but for the dirty sectors, which may go either way. */
  stored: Uint8Array<ArrayBuffer> | null = null;
  /** As processes see it. */
  seenState: PageState = PageState.HOLE;
  /** As a power cut leaves it, with the same reserve as `stored`. */
  storedState: PageState = PageState.HOLE;
  /** Sectors that the next sync makes durable. 0xff when `seenState` is not DATA and differs from what is stored. */
  dirty = 0;
  /** Sectors that a failed sync gave up: clean, but not durable. */
  lost = 0;
  /** Whether the inode's list of changed pages has it. */
  listed = false;

  /** A hole. @param index offset in the file divided by 4096 */
  constructor(readonly index: number) {}

  /** Readies the seen contents for a write into `mask`. */
  touch(mask: number): Uint8Array<ArrayBuffer> {
    if (this.seen === null || this.seen === this.stored) {
      this.seen = this.seen === null ? zeroPage() : copyPage(this.seen);
    }
    this.seenState = PageState.DATA;
    this.dirty |= mask;
    this.lost &= ~mask;
    return this.seen;
  }

  /** Makes the whole page a hole or unwritten space, as processes see it. */
  clear(state: PageState): void {
    if (this.seen !== this.stored) dropPage(this.seen);
    this.seen = null;
    this.seenState = state;
    this.dirty = ALL_SECTORS;
    this.lost = 0;
  }

  /**
   * Makes the dirty ones of these sectors durable. A page that is not DATA goes as a whole or not at all, and so does
   * one that is written for the first time: a file system's journal points to a new block only when that is written.
   */
  commit(sectors: number): void {
    let mask = sectors & this.dirty;
    if (mask === 0) return;
    if (this.storedState !== PageState.DATA && this.seenState === PageState.DATA) mask = this.dirty;
    if (mask === this.dirty && this.lost === 0) {
      if (this.stored !== this.seen) dropPage(this.stored);
      this.stored = this.seen;
      this.storedState = this.seenState;
      this.dirty = 0;
      return;
    }
    if (this.seenState !== PageState.DATA || this.seen === null) return;
    this.stored ??= zeroPage();
    copySectors(this.stored, this.seen, mask);
    this.storedState = PageState.DATA;
    this.dirty &= ~mask;
  }

  /** A sync failed: of the dirty sectors these are on disk, the others are given up. */
  loseDirty(written: number): void {
    if (this.seenState === PageState.DATA) this.commit(written);
    this.lost |= this.dirty;
    this.dirty = 0;
  }

  /**
   * A power cut: dirty sectors end up old or new, lost ones old, and both states become one.
   *
   * @param keep probability of new, per sector
   * @param unwritten probability that a page written for the first time is left allocated but unwritten
   */
  cut(random: Random, keep: number, unwritten: number): void {
    if (this.dirty !== 0 || this.lost !== 0) {
      if (this.seenState !== PageState.DATA) {
        if (this.dirty === 0 || !random.chance(keep)) this.#revert();
      } else {
        let kept = 0;
        if (this.storedState !== PageState.DATA) kept = random.chance(keep) ? this.dirty : 0;
        else {
          for (let bit = 1; bit <= ALL_SECTORS; bit <<= 1) {
            if ((this.dirty & bit) !== 0 && random.chance(keep)) kept |= bit;
          }
        }
        if (kept !== 0) this.commit(kept);
        if (this.dirty !== 0 || this.lost !== 0) {
          const blank = this.storedState === PageState.HOLE && random.chance(unwritten);
          this.#revert();
          if (blank) this.seenState = PageState.UNWRITTEN;
        }
      }
    }
    this.settle();
  }

  /** Back to what is stored. */
  revert(): void {
    this.#revert();
    this.settle();
  }

  #revert(): void {
    if (this.seen !== this.stored) dropPage(this.seen);
    this.seen = this.stored;
    this.seenState = this.storedState;
  }

  /** What is seen is what is stored. */
  settle(): void {
    if (this.seen !== this.stored) dropPage(this.stored);
    this.stored = this.seen;
    this.storedState = this.seenState;
    this.dirty = 0;
    this.lost = 0;
    this.listed = false;
  }
}

function copySectors(into: Uint8Array, from: Uint8Array, mask: number): void {
  for (let sector = 0; sector < 8; sector++) {
    if ((mask & (1 << sector)) === 0) continue;
    const at = sector * SECTOR_BYTES;
    // A loop beats a subarray for so few bytes only without allocation; set() of a view is the fast copy.
    into.set(from.subarray(at, at + SECTOR_BYTES), at);
  }
}
