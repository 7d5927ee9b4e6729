/**
 * Serves a {@linkcode VolatileCache} to QEMU by NBD over a unix socket, one client, as little of the protocol as QEMU
 * needs. It stands apart from the product's own NBD server, which may have the faults that this is to find.
 *
 * @module
 */
import {
  Command,
  CommandFlag,
  Handshake,
  Info,
  INIT_MAGIC_HIGH,
  INIT_MAGIC_LOW,
  Option,
  OPTION_BYTES,
  OPTION_MAGIC_HIGH,
  OPTION_MAGIC_LOW,
  OPTION_REPLY_BYTES,
  OPTION_REPLY_MAGIC_HIGH,
  OPTION_REPLY_MAGIC_LOW,
  OptionReply,
  REQUEST_BYTES,
  REQUEST_MAGIC,
  SIMPLE_REPLY_MAGIC,
  Transmission,
} from "../../lib/frontend/nbd/protocol.ts";
import { type Loss, VolatileCache } from "./volatile_cache.ts";

/** Bytes of a simple reply. */
const REPLY_BYTES = 16;
/** The protocol's EINVAL. */
const EINVAL = 22;

/** The client has gone, or the power was cut. */
class Gone extends Error {}

/** See the module text. */
export class VolatileDisk implements AsyncDisposable {
  readonly #listener: Deno.UnixListener;
  readonly #cache: VolatileCache;
  readonly #served: Promise<void>;
  #connection: Deno.UnixConn | undefined;
  /** What went wrong with a client, if anything did. */
  problem: Error | undefined;

  /** Serves the disk in `file` at the unix socket `path`. */
  constructor(file: string, readonly path: string) {
    this.#cache = new VolatileCache(file);
    this.#listener = Deno.listen({ transport: "unix", path });
    this.#served = this.#serve();
  }

  /** Counters for the report. */
  get counts(): { writes: number; flushes: number; unflushedBytes: number } {
    const { writes, flushes, unflushedBytes } = this.#cache;
    return { writes, flushes, unflushedBytes };
  }

  async #serve(): Promise<void> {
    try {
      this.#connection = await this.#listener.accept();
    } catch {
      return; // Closed before anybody came.
    }
    try {
      await this.#handshake();
      for (;;) await this.#request();
    } catch (error) {
      if (!(error instanceof Gone)) this.problem = error instanceof Error ? error : new Error(String(error));
    }
  }

  async #receive(bytes: number): Promise<Uint8Array<ArrayBuffer>> {
    const data = new Uint8Array(bytes);
    for (let done = 0; done < bytes;) {
      const count = await this.#connection?.read(data.subarray(done)).catch(() => null) ?? null;
      if (count === null) throw new Gone();
      done += count;
    }
    return data;
  }

  async #send(data: Uint8Array<ArrayBuffer>): Promise<void> {
    for (let done = 0; done < data.length;) {
      const count = await this.#connection?.write(data.subarray(done)).catch(() => 0) ?? 0;
      if (count === 0) throw new Gone();
      done += count;
    }
  }

  async #handshake(): Promise<void> {
    const hello = new DataView(new ArrayBuffer(18));
    [INIT_MAGIC_HIGH, INIT_MAGIC_LOW, OPTION_MAGIC_HIGH, OPTION_MAGIC_LOW].forEach((word, index) =>
      hello.setUint32(4 * index, word)
    );
    hello.setUint16(16, Handshake.FIXED_NEWSTYLE | Handshake.NO_ZEROES);
    await this.#send(new Uint8Array(hello.buffer));
    await this.#receive(4);
    for (;;) {
      const head = new DataView((await this.#receive(OPTION_BYTES)).buffer);
      const option = head.getUint32(8);
      await this.#receive(head.getUint32(12));
      if (option === Option.ABORT) throw new Gone();
      if (option !== Option.GO && option !== Option.INFO) {
        await this.#answer(option, OptionReply.UNSUPPORTED, new Uint8Array());
        continue;
      }
      const info = new DataView(new ArrayBuffer(12));
      info.setUint16(0, Info.EXPORT);
      info.setBigUint64(2, BigInt(this.#cache.bytes));
      info.setUint16(10, Transmission.HAS_FLAGS | Transmission.SEND_FLUSH | Transmission.SEND_FUA);
      await this.#answer(option, OptionReply.INFO, new Uint8Array(info.buffer));
      await this.#answer(option, OptionReply.ACK, new Uint8Array());
      if (option === Option.GO) return;
    }
  }

  async #answer(option: number, reply: number, data: Uint8Array): Promise<void> {
    const message = new Uint8Array(OPTION_REPLY_BYTES + data.length), view = new DataView(message.buffer);
    [OPTION_REPLY_MAGIC_HIGH, OPTION_REPLY_MAGIC_LOW, option, reply, data.length].forEach((word, index) =>
      view.setUint32(4 * index, word)
    );
    message.set(data, OPTION_REPLY_BYTES);
    await this.#send(message);
  }

  async #request(): Promise<void> {
    const head = new DataView((await this.#receive(REQUEST_BYTES)).buffer);
    if (head.getUint32(0) !== REQUEST_MAGIC) throw new Error("the client and the disk have lost each other");
    const command = head.getUint16(6), offset = Number(head.getBigUint64(16)), length = head.getUint32(24);
    if (command === Command.DISC) throw new Gone();
    const reads = command === Command.READ;
    const reply = new Uint8Array(REPLY_BYTES + (reads ? length : 0)), view = new DataView(reply.buffer);
    view.setUint32(0, SIMPLE_REPLY_MAGIC);
    view.setBigUint64(8, head.getBigUint64(8));
    if (reads) this.#cache.read(offset, reply.subarray(REPLY_BYTES));
    else if (command === Command.WRITE) {
      this.#cache.write(offset, await this.#receive(length), (head.getUint16(4) & CommandFlag.FUA) !== 0);
    } else if (command === Command.FLUSH) this.#cache.flush();
    else view.setUint32(4, EINVAL);
    await this.#send(reply);
  }

  /** The power goes: the client is cut off, then what was not flushed is lost. @returns bytes lost */
  async cut(loss: Loss): Promise<number> {
    await this.#close();
    return this.#cache.cut(loss);
  }

  async #close(): Promise<void> {
    try {
      this.#listener.close();
    } catch {
      // Closed already.
    }
    try {
      this.#connection?.close();
    } catch {
      // The client closed it.
    }
    this.#connection = undefined;
    await this.#served;
  }

  /** Ends the service; what was written stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
    this.#cache[Symbol.dispose]();
  }
}
