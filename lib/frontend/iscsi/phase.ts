/**
 * Where the receiver of a connection is, and where the data at hand goes.
 *
 * @module
 */
import type { Task } from "./scsi/task.ts";

/** Where in a PDU the receiver is. */
export const Phase = {
  /** At the header. */
  HEADER: 0,
  /** At a data segment that is looked at in the window. */
  CONTROL: 1,
  /** At a data segment for which memory is missing. */
  MEMORY: 2,
  /** At the part of a data segment that goes to a task. */
  FILL: 3,
  /** Inside of it. */
  FILLING: 4,
  /** At the part of a data segment that is thrown away. */
  DROP: 5,
  /** At padding and digest. */
  TAIL: 6,
} as const;

/** What a data segment is for: set by the handler of its header. */
export interface DataSink {
  /** Arena offset for the first `take` bytes of it. */
  at: number;
  /** Bytes to keep; the rest is thrown away. */
  take: number;
  /** Whose they are. */
  task: Task | undefined;
}
