/**
 * What a load is put on: a disk behind some protocol. One object is one connection.
 *
 * @module
 */

/** Failure of a measurement: a target that cannot be reached, an operation that failed. The message is for people. */
export class BenchError extends Error {
  /** The class, for logs. */
  override readonly name = "BenchError";
}

/** Who uses a target. All calls come from the loop. */
export interface TargetOwner {
  /** The target can take operations; its size is known now if it ever is. */
  onReady(target: Target): void;
  /**
   * An operation has ended. `result` is 0 or more, or `-errno`.
   * @param text what the other side said of the failure; may be empty
   */
  onDone(target: Target, tag: number, result: number, text: string): void;
  /** The target is gone; nothing of it is under way. @param error undefined when the owner had closed it */
  onEnded(target: Target, error: BenchError | undefined): void;
}

/** One connection to a disk. */
export interface Target {
  /** Number among the targets of a load; tags are unique within one target. */
  readonly index: number;
  /** Size of the disk in bytes; 0 when the protocol does not tell. Valid after `onReady`. */
  readonly bytes: number;
  /** Connects; `onReady` or `onEnded` follows. @throws {BenchError} when that cannot even be tried */
  open(): void;
  /**
   * Starts an operation; `onDone` follows from the loop.
   *
   * @param write write, else read
   * @param offset bytes, a multiple of 512
   * @param length bytes, a multiple of 512
   * @param at arena offset of the data; page aligned when the length is a multiple of pages
   * @param tag below the depth that the target was made for, and not under way
   */
  submit(write: boolean, offset: number, length: number, at: number, tag: number): void;
  /** Says farewell and ends; `onEnded` follows. Nothing may be under way. */
  close(): void;
}
