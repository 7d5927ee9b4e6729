/**
 * The file operations of a thread for long jobs: all its jobs share one queue, which is there as long as one of them
 * runs.
 *
 * @module
 */
import { FileQueue } from "../../io/file_queue.ts";
import { FilesLibc } from "../../io/files_libc.ts";

let queue: FileQueue | undefined, users = 0;

/** The use of a thread's queue; to be disposed of when nothing of this user is under way any more. */
export interface QueueUse extends Disposable {
  /** The queue. */
  readonly queue: FileQueue;
}

/** Uses this thread's queue. */
export function useThreadQueue(): QueueUse {
  const shared = queue ??= new FileQueue(new FilesLibc());
  users++;
  return {
    queue: shared,
    [Symbol.dispose]: () => {
      if (--users > 0) return;
      shared.close();
      queue = undefined;
    },
  };
}
