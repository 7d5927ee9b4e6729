/**
 * Operations under way: pooled objects that stay with their Io for life.
 *
 * @module
 */
import type { Completer } from "../io.ts";
import type { Descriptor } from "./descriptors.ts";
import type { Target } from "./queue.ts";

/** What an operation does. */
export const Kind = {
  NONE: 0,
  READ: 1,
  WRITE: 2,
  WRITE_DURABLE: 3,
  SYNC: 4,
  PUNCH: 5,
  FALLOCATE: 6,
  ACCEPT: 7,
  CONNECT: 8,
  RECEIVE: 9,
  SEND: 10,
  TIMER: 11,
} as const;

/** One of {@linkcode Kind}. */
export type Kind = typeof Kind[keyof typeof Kind];

/** What an operation belongs to: the Io. */
export interface OperationOwner {
  /** The operation's end: its completer is called at the next wake-up. */
  finish(operation: Operation, result: number): void;
  /** An event of the operation itself. */
  operationEvent(operation: Operation, code: number): void;
  /** Memory of the process. */
  readonly memory: Uint8Array<ArrayBuffer>;
}

/** Completes nobody: stands in freed operations. */
export const NOBODY: Completer = { complete: () => {} };

/** See the module. */
export class Operation implements Target {
  /** NONE while it is in the pool. */
  kind: Kind = Kind.NONE;
  /** Whom to tell. */
  who: Completer = NOBODY;
  /** What to tell with the result. */
  tag = 0;
  /** So far, or at the end. */
  result = 0;
  /** Grows with every use, so that events and handles of an earlier use are recognised. */
  generation = 0;
  /** The result is known and waits for the wake-up. */
  finished = false;
  /** A timer that was cancelled after it fired. */
  cancelled = false;
  /** What it works on, which counts it as under way; null when there is none. */
  descriptor: Descriptor | null = null;
  /** Buffer, or the vector of a send. */
  at = 0;
  /** Bytes, or the segments of a send. */
  length = 0;
  /** Offset in the file, or the segment a send is at. */
  offset = 0;
  /** Mode of a fallocate, or the bytes a send has taken of its segment. */
  mode = 0;
  /** Bytes done. */
  done = 0;
  /** Positive error number the operation will fail with, or 0. */
  fault = 0;

  /** An operation in the pool. @param index its place in the owner's pool */
  constructor(readonly owner: OperationOwner, readonly index: number) {}

  /** See {@linkcode Target.fire}. */
  fire(code: number, generation: number): void {
    if (generation === this.generation) this.owner.operationEvent(this, code);
  }
}

/** Bytes of one (buffer, length) pair of a send's vector. */
export const SEGMENT_BYTES = 16;
