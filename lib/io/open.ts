/**
 * Chooses the world: io_uring where the host allows it, poll(2) elsewhere.
 *
 * @module
 */
import { Errno, IoError } from "./errno.ts";
import type { Io } from "./io.ts";
import { PollIo } from "./poll.ts";
import { UringIo } from "./uring.ts";

/** The environment variable that forces a world: `uring` or `poll`. */
export const WORLD_VARIABLE = "DROVER_IO";

/** The worlds that talk to a kernel. */
export type KernelWorld = "uring" | "poll";

/** How to open an Io. */
export interface OpenIoOptions {
  /** Size of the arena, bytes; memory that is never touched costs nothing. */
  readonly arenaBytes: number;
  /** Forces a world. Default: the environment's {@linkcode WORLD_VARIABLE}, else the best that works. */
  readonly world?: KernelWorld;
  /** Told, once, why the world is not the best one; for the log. */
  readonly note?: (reason: string) => void;
}

/** A wrong value of {@linkcode WORLD_VARIABLE}. */
export class UnknownWorldError extends Error {
  /** The class, for logs. */
  override readonly name = "UnknownWorldError";

  /** Names the value and the valid ones. */
  constructor(readonly value: string) {
    super(`${WORLD_VARIABLE} is ${JSON.stringify(value)}; it must be "uring", "poll" or unset`);
  }
}

/**
 * Opens the Io of this thread.
 *
 * @throws {UnknownWorldError} when the environment names a world that does not exist
 * @throws {IoError} when io_uring was demanded and is refused, or memory is short
 */
export function openIo(options: OpenIoOptions): Io {
  const world = options.world ?? worldFromEnvironment();
  if (world === "poll") {
    options.note?.(`poll(2) was asked for`);
    return new PollIo(options.arenaBytes);
  }
  try {
    return new UringIo(options.arenaBytes);
  } catch (error) {
    if (world === "uring" || !(error instanceof IoError) || error.operation === "mmap") throw error;
    options.note?.(`io_uring cannot be used, poll(2) is used instead: ${explain(error)}`);
    return new PollIo(options.arenaBytes);
  }
}

/** The world that the environment forces. @throws {UnknownWorldError} */
export function worldFromEnvironment(): KernelWorld | undefined {
  const value = Deno.env.get(WORLD_VARIABLE);
  if (value === undefined || value === "") return undefined;
  if (value !== "uring" && value !== "poll") throw new UnknownWorldError(value);
  return value;
}

function explain(error: IoError): string {
  if (error.errno === Errno.EPERM || error.errno === Errno.EACCES) {
    return `${error.message}; forbidden by a seccomp profile or by the sysctl kernel.io_uring_disabled`;
  }
  if (error.errno === Errno.ENOSYS) {
    return `${error.message}; the kernel has no io_uring, or not from 5.11 on`;
  }
  return error.message;
}
