/**
 * A client of the frame protocol of the tests' own, over the runtime's sockets: it shares no code with what is tested
 * but the numbers of the types.
 *
 * @module
 */
import { FRAME_BYTES, FrameType } from "../../lib/wire/frame.ts";

/** A reply. */
export interface FrameReply {
  /** Type of the frame. */
  readonly type: number;
  /** Its size field. */
  readonly size: number;
  /** Its payload. */
  readonly data: Uint8Array;
  /** Text of an Error or ENOSPC frame, else "". */
  readonly text: string;
}

/** A connection that broke. */
export class Disconnected extends Error {
  /** The class, for messages. */
  override readonly name = "Disconnected";
}

/** The bytes of a request. @param claimed payload length to claim, if not the true one */
export function requestBytes(
  sequence: number,
  type: number,
  offset: number | bigint,
  size: number,
  payload?: Uint8Array,
  claimed = payload?.length ?? 0,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(FRAME_BYTES + (payload?.length ?? 0)), view = new DataView(bytes.buffer);
  view.setUint16(0, 0x1b01, true);
  view.setUint32(2, sequence, true);
  view.setUint32(6, type, true);
  view.setBigInt64(10, BigInt(offset), true);
  view.setUint32(18, size, true);
  view.setUint32(22, claimed, true);
  if (payload) bytes.set(payload, FRAME_BYTES);
  return bytes;
}

/** A pipelining client; dispose closes it. */
export class Frames implements Disposable {
  readonly #waiting = new Map<
    number,
    { resolve: (reply: FrameReply) => void; reject: (error: Error) => void }
  >();
  #next = 0;
  #end: Error | undefined;
  #sending: Promise<unknown> = Promise.resolve();
  readonly #reading: Promise<void>;

  /** Takes a connected socket. */
  constructor(readonly socket: Deno.Conn) {
    this.#reading = this.#read();
  }

  /** Connects to a unix socket, or to a port of 127.0.0.1. */
  static async connect(to: string | number): Promise<Frames> {
    return new Frames(
      typeof to === "string"
        ? await Deno.connect({ transport: "unix", path: to })
        : await Deno.connect({ hostname: "127.0.0.1", port: to }),
    );
  }

  async #read(): Promise<void> {
    try {
      for (;;) {
        const header = await this.#take(FRAME_BYTES), view = new DataView(header.buffer);
        if (view.getUint16(0, true) !== 0x1b01) throw new Error("a reply has the wrong magic");
        const data = await this.#take(view.getUint32(22, true)), type = view.getUint32(6, true);
        const failed = type === FrameType.ERROR || type === FrameType.ENOSPC;
        const text = failed ? new TextDecoder().decode(data) : "";
        const sequence = view.getUint32(2, true), waiting = this.#waiting.get(sequence);
        this.#waiting.delete(sequence);
        waiting?.resolve({ type, size: view.getUint32(18, true), data, text });
      }
    } catch (error) {
      this.#end = new Disconnected(`the connection is over: ${error}`);
      for (const { reject } of this.#waiting.values()) reject(this.#end);
      this.#waiting.clear();
    }
  }

  #window = new Uint8Array();
  async #take(length: number): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(length);
    for (let have = 0; have < length;) {
      if (this.#window.length === 0) {
        const buffer = new Uint8Array(256 * 1024), n = await this.socket.read(buffer);
        if (n === null) throw new Error("end of stream");
        this.#window = buffer.subarray(0, n);
      }
      const part = this.#window.subarray(0, length - have);
      bytes.set(part, have);
      have += part.length;
      this.#window = this.#window.subarray(part.length);
    }
    return bytes;
  }

  /** Sends bytes as they are. @throws {Disconnected} */
  send(bytes: Uint8Array): Promise<void> {
    const sent = this.#sending.then(async () => {
      for (let at = 0; at < bytes.length;) at += await this.socket.write(bytes.subarray(at));
    });
    this.#sending = sent.catch(() => {});
    return sent.catch((cause) => {
      throw new Disconnected("the connection is over", { cause });
    });
  }

  /** Asks. @throws {Disconnected} */
  ask(type: number, offset: number | bigint, size: number, payload?: Uint8Array): Promise<FrameReply> {
    const sequence = this.#next++ >>> 0;
    return new Promise((resolve, reject) => {
      if (this.#end) return reject(this.#end);
      this.#waiting.set(sequence, { resolve, reject });
      this.send(requestBytes(sequence, type, offset, size, payload)).catch(reject);
    });
  }

  /** Reads. @throws {Error} with the text of the failure */
  async read(offset: number, length: number): Promise<Uint8Array> {
    const reply = await this.ask(FrameType.READ, offset, length);
    if (reply.type !== FrameType.RESPONSE) throw new Error(reply.text);
    return reply.data;
  }

  /** Writes. @throws {Error} with the text of the failure */
  async write(offset: number, data: Uint8Array): Promise<void> {
    const reply = await this.ask(FrameType.WRITE, offset, data.length, data);
    if (reply.type !== FrameType.RESPONSE) throw new Error(reply.text);
  }

  /** Waits until the other side has closed. */
  ended(): Promise<void> {
    return this.#reading;
  }

  /** Closes the connection. */
  [Symbol.dispose](): void {
    try {
      this.socket.close();
    } catch {
      // It is closed.
    }
  }
}
