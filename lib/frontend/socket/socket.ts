/**
 * The socket frontend: the volume as a server of frames, on a unix socket or TCP. This is what tgt's `longhorn`
 * backing store and every other client of that protocol connects to.
 *
 * Clients may be careless: they copy what a reply brings without a check, so a reply never brings more than was
 * asked; they number requests from 0; several may be connected at once, also a second one that replaces the
 * first while that one still has requests under way.
 *
 * @module
 */
import { type BlockDevice, FRONTEND_DEPTH, Op, SECTOR_BYTES } from "../../block/device.ts";
import { Errno, errnoText } from "../../io/errno.ts";
import { type Address, type Completer, formatAddress, type Io } from "../../io/io.ts";
import { Later } from "../../io/later.ts";
import type { BufferPool } from "../../io/pool.ts";
import { FrameType, frameTypeName } from "../../wire/frame.ts";
import { type FrameHandler, FrameServer } from "../../wire/server.ts";
import type { Frontend, Parcel } from "../frontend.ts";
import { fromBase64, Standstill, toBase64 } from "../standstill.ts";

/** Most clients at once; one per LUN is usual, two during a replacement. */
const MAX_CLIENTS = 16;

/** Options of a {@linkcode SocketFrontend}. */
export interface SocketOptions {
  /** Where to listen. */
  readonly address: Address;
  /** Told about clients that break the protocol. */
  readonly onProblem?: (error: Error) => void;
  /** Goes on for another process's frontend; `address` counts for nothing then. */
  readonly handed?: Parcel;
}

/** What is handed over besides descriptors: of the listener, and of each connection. */
interface SocketState {
  readonly address: Address;
  /** Received and not used of each connection, base64. */
  readonly unread: readonly string[];
}

/** See the module text. */
export class SocketFrontend implements Frontend, FrameHandler {
  /** See {@linkcode Frontend}. */
  readonly kind = "socket";
  readonly #server: FrameServer;
  readonly #who: (Completer | undefined)[] = new Array(FRONTEND_DEPTH).fill(undefined);
  readonly #later: Later;
  readonly #answer: Completer;
  readonly #address: Address;
  readonly #standstill: Standstill;

  /**
   * Listens at once.
   * @throws {IoError} when the address cannot be used
   */
  constructor(
    readonly io: Io,
    pool: BufferPool,
    readonly device: BlockDevice,
    readonly options: SocketOptions,
  ) {
    this.#answer = { complete: (tag, result) => this.#complete(tag, result) };
    this.#later = new Later(io, FRONTEND_DEPTH, this.#answer);
    this.#standstill = new Standstill(io);
    const { handed } = options, state = handed?.state as SocketState | undefined;
    this.#address = state?.address ?? options.address;
    const [listener = -1, ...connections] = handed?.descriptors ?? [];
    this.#server = new FrameServer(io, pool, this.#address, this, {
      maxConnections: MAX_CLIENTS,
      depth: FRONTEND_DEPTH,
      noSpaceFrames: true,
      ...(options.onProblem ? { onProblem: options.onProblem } : {}),
      ...(state === undefined ? {} : {
        handed: {
          listener,
          connections: connections.map((fd, i) => ({ fd, unread: fromBase64(state.unread[i] ?? "") })),
        },
      }),
    });
  }

  /** The path of a unix socket, or `tcp://host:port`. */
  get endpoint(): string {
    const address = this.#address;
    if (address.kind === "unix") return address.path;
    return formatAddress({ ...address, port: this.#server.port });
  }

  /** See {@linkcode Frontend}. */
  stop(done: () => void): void {
    this.#server.stop(done);
  }

  /** See {@linkcode Frontend.suspend}. */
  suspend(graceMs: number, done: (problem: string) => void): void {
    this.#server.suspend();
    this.#standstill.wait(graceMs, () => this.#server.rests(), (rests) => {
      done(rests ? "" : "a client neither ends its request nor takes its answers");
    });
  }

  /** See {@linkcode Frontend.parcel}. */
  parcel(): Parcel {
    const { listener, connections } = this.#server.handed;
    const state: SocketState = {
      address: this.#address,
      unread: connections.map(({ unread }) => toBase64(unread)),
    };
    return { state, descriptors: [listener, ...connections.map(({ fd }) => fd)] };
  }

  /** See {@linkcode Frontend.resume}. */
  resume(): void {
    this.#standstill.cancel();
    this.#server.resume();
  }

  /** See {@linkcode Frontend.leave}. */
  leave(): void {
    this.#server.leave();
  }

  /** See {@linkcode FrameHandler}. */
  serves(type: number): boolean {
    switch (type) {
      case FrameType.READ:
      case FrameType.WRITE:
      case FrameType.UNMAP:
      case FrameType.PING:
      case FrameType.FLUSH:
      case FrameType.WRITE_DURABLE:
        return true;
      default:
        return false;
    }
  }

  /** See {@linkcode FrameHandler}. */
  start(
    type: number,
    offset: number,
    size: number,
    at: number,
    _peer: number,
    who: Completer,
    tag: number,
  ): void {
    this.#who[tag] = who;
    const { device } = this;
    if (!(offset >= 0 && offset + size <= device.bytes)) return this.#later.push(tag, -Errno.EINVAL);
    switch (type) {
      case FrameType.READ:
        return device.submit(Op.READ, offset, size, at, this.#answer, tag);
      case FrameType.WRITE:
        return device.submit(Op.WRITE, offset, size, at, this.#answer, tag);
      case FrameType.WRITE_DURABLE:
        return device.submit(Op.WRITE_DURABLE, offset, size, at, this.#answer, tag);
      case FrameType.UNMAP: {
        // Shrunk to whole sectors; replicas shrink further to their blocks.
        const from = Math.ceil(offset / SECTOR_BYTES) * SECTOR_BYTES;
        const to = Math.floor((offset + size) / SECTOR_BYTES) * SECTOR_BYTES;
        if (to <= from) return this.#later.push(tag, 0);
        return device.submit(Op.UNMAP, from, to - from, 0, this.#answer, tag);
      }
      case FrameType.FLUSH:
        return device.submit(Op.FLUSH, 0, 0, 0, this.#answer, tag);
      default:
        return this.#later.push(tag, 0);
    }
  }

  #complete(tag: number, result: number): void {
    const who = this.#who[tag];
    this.#who[tag] = undefined;
    who?.complete(tag, result);
  }

  /** See {@linkcode FrameHandler}. */
  errorText(type: number, offset: number, size: number, result: number): string {
    if (result === -Errno.EINVAL) {
      const name = type === FrameType.READ ? "Read" : type === FrameType.UNMAP ? "unmap" : "Write";
      const what = `${name} of ${size} bytes at offset ${offset}`;
      if (offset >= 0 && offset + size <= this.device.bytes) {
        return `${what}: offset and length must be multiples of ${SECTOR_BYTES}`;
      }
      return `EOF: ${what} is beyond volume size ${this.device.bytes}`;
    }
    return `${frameTypeName(type)} of ${size} bytes at offset ${offset}: ${errnoText(result)}`;
  }

  /** See {@linkcode FrameHandler}. */
  onGone(_peer: number): void {}
}
