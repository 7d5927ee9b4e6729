/**
 * A simulated listening socket.
 *
 * @module
 */
import { Errno } from "../errno.ts";
import type { Socket } from "./socket.ts";
import type { Descriptor } from "./descriptors.ts";
import type { Operation } from "./operation.ts";
import type { SimProcess } from "./process.ts";

/** Holds connections that nobody accepted yet. */
export class Listener implements Descriptor {
  underWay = 0;
  /** It takes no more connections. */
  shut = false;
  #waiting: Socket[] = [];
  #accepts: Operation[] = [];
  readonly #onRelease: () => void;

  /**
   * Is to be registered by who makes it.
   *
   * @param scope whether it hears all addresses of its host, only the loopback one, or only the others
   * @param backlog connections that may wait
   * @param onRelease takes it out of its host's register
   */
  constructor(
    readonly process: SimProcess,
    readonly path: string,
    readonly port: number,
    readonly scope: "any" | "loopback" | "named",
    readonly backlog: number,
    onRelease: () => void,
  ) {
    this.#onRelease = onRelease;
  }

  /** Whether the backlog is full: further attempts are not answered. */
  get full(): boolean {
    return this.#accepts.length === 0 && this.#waiting.length >= this.backlog;
  }

  /** A connection came in. */
  offer(socket: Socket): void {
    const accept = this.#accepts.shift();
    if (accept === undefined) this.#waiting.push(socket);
    else accept.owner.finish(accept, this.process.installSocket(socket));
  }

  /** Starts an accept. */
  accept(operation: Operation): void {
    if (this.shut) return operation.owner.finish(operation, -Errno.EINVAL);
    const socket = this.#waiting.shift();
    if (socket === undefined) this.#accepts.push(operation);
    else operation.owner.finish(operation, this.process.installSocket(socket));
  }

  /** Ends the accepts under way. */
  shutdown(): void {
    if (this.shut) return;
    this.shut = true;
    for (const operation of this.#accepts) operation.owner.finish(operation, -Errno.EINVAL);
    this.#accepts.length = 0;
    this.#drop();
  }

  /** Connections that nobody accepted are reset. */
  #drop(): void {
    for (const socket of this.#waiting) socket.released(true);
    this.#waiting.length = 0;
  }

  /** See {@linkcode Descriptor.released}. */
  released(): void {
    this.shut = true;
    this.#accepts.length = 0;
    this.#drop();
    this.#onRelease();
  }
}
