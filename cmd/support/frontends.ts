/**
 * The frontends by name, as the volume thread makes them.
 *
 * @module
 */
import type { BlockDevice } from "../../lib/block/device.ts";
import type { Frontend } from "../../lib/frontend/frontend.ts";
import { SocketFrontend } from "../../lib/frontend/socket/socket.ts";
import type { Address, Io } from "../../lib/io/io.ts";
import type { BufferPool } from "../../lib/io/pool.ts";
import type { Logger } from "../../lib/log/log.ts";

/** What a frontend is made of. */
export interface FrontendParts {
  readonly io: Io;
  readonly pool: BufferPool;
  readonly device: BlockDevice;
  readonly log: Logger;
}

/** Options that travel from the main thread to the volume thread. */
export interface FrontendOptions {
  readonly listen: Address;
}

/** Makes a frontend. @throws {RangeError} for a kind that does not exist */
export function makeFrontend(kind: string, options: unknown, parts: FrontendParts): Frontend {
  const { io, pool, device, log } = parts;
  const { listen } = options as FrontendOptions;
  const onProblem = (error: Error) => log.warn("client", { frontend: kind, problem: error.message });
  switch (kind) {
    case "socket":
      return new SocketFrontend(io, pool, device, { address: listen, onProblem });
    default:
      throw new RangeError(`frontend "${kind}" does not exist`);
  }
}
