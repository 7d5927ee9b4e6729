/**
 * What a loop frontend is made of: its memory, who is told, options.
 *
 * @module
 */
import assert from "node:assert/strict";
import { FRONTEND_DEPTH } from "../../block/device.ts";
import { PAGE_BYTES } from "../../io/arena.ts";
import type { Io } from "../../io/io.ts";
import * as fuse from "./protocol.ts";

/** Requests under way when nothing else is said: what one busy block device profits from. */
export const LOOP_DEPTH = 128;
/** Layout of a slot: one page for reply, vector and request header, then the data. */
export const VECTOR_AT = 256;
/** See {@linkcode VECTOR_AT}. */
export const REQUEST_AT: number = PAGE_BYTES - fuse.WRITE_HEADER_BYTES;
/** See {@linkcode VECTOR_AT}. */
export const DATA_AT: number = PAGE_BYTES;
/** See {@linkcode VECTOR_AT}. */
export const SLOT_BYTES: number = PAGE_BYTES + fuse.MAX_DATA_BYTES;
/** See {@linkcode VECTOR_AT}. */
export const REQUEST_BYTES: number = fuse.WRITE_HEADER_BYTES + fuse.MAX_DATA_BYTES;

/**
 * The frontend's part of the arena, which is never given back: keep it for the next frontend. One slot holds a
 * request and its data, at most 1 MiB; memory that was never written costs nothing.
 */
export class LoopMemory {
  /** Arena offset of the first slot. */
  readonly base: number;

  /**
   * Reserves the memory.
   *
   * @param io whose arena
   * @param depth slots, at most {@linkcode FRONTEND_DEPTH}
   * @throws {RangeError} when the arena is too small
   */
  constructor(io: Io, /** Number of slots. */ readonly depth: number = LOOP_DEPTH) {
    assert(depth >= 1 && depth <= FRONTEND_DEPTH, `depth of ${depth}`);
    this.base = io.arena.reserve(depth * SLOT_BYTES, PAGE_BYTES);
  }

  /** Bytes of arena that a depth takes, for sizing it. */
  static bytes(depth: number = LOOP_DEPTH): number {
    return depth * SLOT_BYTES;
  }
}

/** Told from the loop what the host's part has to know. */
export interface LoopEvents {
  /** The volume has a new size; the loop device does not know yet (`resizeLoop` in `attach.ts`). */
  onResized(bytes: number): void;
  /**
   * The kernel has ended the connection: unmounted or aborted. Nothing is under way any more.
   * @param result 0 when the file system was unmounted, else `-errno` of the read that failed
   */
  onEnded(result: number): void;
}

/** What to serve. */
export interface LoopOptions {
  /** Descriptor of /dev/fuse, mounted; the frontend closes it. */
  readonly fd: number;
  /** What `info` shows until the host's part sets {@linkcode LoopFrontend.endpoint} to the device's path. */
  readonly endpoint: string;
  /** Slots for requests. */
  readonly memory: LoopMemory;
  /** Who is told. */
  readonly events: LoopEvents;
  /** Reads under way at once, default {@linkcode READS}. */
  readonly reads?: number;
  /** The protocol was agreed on by another process, which handed `fd` over; the frontend begins suspended. */
  readonly handed?: boolean;
  /** Whether the file bypasses the page cache; default true. False is for measuring. */
  readonly direct?: boolean;
}
