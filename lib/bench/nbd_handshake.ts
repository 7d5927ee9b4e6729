/**
 * The first part of an NBD connection: fixed newstyle, structured replies if the server has them, GO.
 *
 * @module
 */
import type { Io } from "../io/io.ts";
import type { Stream } from "../io/stream.ts";
import {
  FIXED_NEWSTYLE,
  FLAG_READ_ONLY,
  GREETING_BYTES,
  GREETING_MAGIC,
  HANDSHAKE_FLAGS,
  INFO_EXPORT,
  MAX_TEXT_BYTES,
  OPT_GO,
  OPT_STRUCTURED_REPLY,
  OPTION_BYTES,
  OPTION_MAGIC,
  OPTION_REPLY_BYTES,
  OPTION_REPLY_MAGIC,
  REP_ACK,
  REP_ERR_UNKNOWN,
  REP_ERROR,
  REP_INFO,
} from "./nbd_protocol.ts";
import { BenchError } from "./target.ts";

const enum Step {
  GREETING,
  STRUCTURED,
  GO,
  DONE,
}

/** The client's side of the handshake. */
export class NbdHandshake {
  /** Size of the export. */
  bytes = 0;
  /** Whether the export can be written. */
  writable = true;
  /** Whether reads are answered in chunks. */
  structured = false;
  #step: Step = Step.GREETING;

  /**
   * Sends nothing yet.
   *
   * @param exportName empty: the server's default
   * @param wantStructured ask for structured replies
   */
  constructor(readonly io: Io, readonly exportName: string, readonly wantStructured: boolean) {}

  /**
   * Goes on with what the stream has.
   * @returns true when the transmission phase has begun
   * @throws {BenchError} when the server does not give the export
   */
  advance(stream: Stream): boolean {
    while (this.#step !== Step.DONE) {
      const went = this.#step === Step.GREETING ? this.#greeting(stream) : this.#reply(stream);
      if (!went) return false;
    }
    return true;
  }

  #greeting(stream: Stream): boolean {
    if (stream.available < GREETING_BYTES) return false;
    const { view } = this.io.arena, at = stream.position;
    this.#expect(at, GREETING_MAGIC, "is no NBD server");
    this.#expect(at + 8, OPTION_MAGIC, "speaks an old style of NBD without options");
    if ((view.getUint16(at + 16) & FIXED_NEWSTYLE) === 0) {
      throw new BenchError("the NBD server is too old: it has no fixed newstyle handshake");
    }
    stream.consume(GREETING_BYTES);
    view.setUint32(stream.header(4), HANDSHAKE_FLAGS);
    if (this.wantStructured) {
      this.#option(stream, OPT_STRUCTURED_REPLY, new Uint8Array());
      this.#step = Step.STRUCTURED;
    } else this.#go(stream);
    return true;
  }

  #go(stream: Stream): void {
    const name = new TextEncoder().encode(this.exportName);
    const data = new Uint8Array(4 + name.length + 2);
    new DataView(data.buffer).setUint32(0, name.length);
    data.set(name, 4);
    this.#option(stream, OPT_GO, data);
    this.#step = Step.GO;
  }

  #option(stream: Stream, option: number, data: Uint8Array): void {
    const { view, u8 } = this.io.arena, at = stream.header(OPTION_BYTES + data.length);
    view.setUint32(at, OPTION_MAGIC[0]);
    view.setUint32(at + 4, OPTION_MAGIC[1]);
    view.setUint32(at + 8, option);
    view.setUint32(at + 12, data.length);
    u8.set(data, at + OPTION_BYTES);
  }

  /** One reply to the option that was sent last. */
  #reply(stream: Stream): boolean {
    if (stream.available < OPTION_REPLY_BYTES) return false;
    const { view, u8 } = this.io.arena, at = stream.position;
    this.#expect(at, OPTION_REPLY_MAGIC, "answers an option with something else");
    const type = view.getUint32(at + 12), length = view.getUint32(at + 16);
    if (length > MAX_TEXT_BYTES) {
      throw new BenchError(`the NBD server answers an option with ${length} bytes`);
    }
    if (stream.available < OPTION_REPLY_BYTES + length) return false;
    const data = at + OPTION_REPLY_BYTES;
    stream.consume(OPTION_REPLY_BYTES + length);
    if (this.#step === Step.STRUCTURED) {
      this.structured = type === REP_ACK;
      this.#go(stream);
    } else if (type === REP_ACK) this.#step = Step.DONE;
    else if (type >= REP_ERROR) this.#refused(type, new TextDecoder().decode(u8.slice(data, data + length)));
    else if (type === REP_INFO && length >= 12 && view.getUint16(data) === INFO_EXPORT) {
      this.bytes = view.getUint32(data + 2) * 2 ** 32 + view.getUint32(data + 6);
      this.writable = (view.getUint16(data + 10) & FLAG_READ_ONLY) === 0;
    }
    return true;
  }

  #refused(type: number, text: string): never {
    const why = text === "" ? "" : `: ${text}`;
    if (type === REP_ERR_UNKNOWN) throw new BenchError(`the server has no export "${this.exportName}"${why}`);
    throw new BenchError(
      `the server refuses export "${this.exportName}" (reply 0x${type.toString(16)})${why}`,
    );
  }

  #expect(at: number, [high, low]: readonly [number, number], otherwise: string): void {
    const { view } = this.io.arena;
    if (view.getUint32(at) !== high || view.getUint32(at + 4) !== low) {
      throw new BenchError(`the other side ${otherwise}`);
    }
  }
}
