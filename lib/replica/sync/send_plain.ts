/**
 * Sending to Longhorn's receiver, as its own sender does: data in pieces of 2 MiB, compared by SHA-512 first where
 * the file was there before, and every hole; four connections at a time.
 *
 * A request that fails is repeated with growing pauses; an answer from 300 to 499 except 429 says that repeating is
 * useless.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { SparseSource } from "./batches.ts";
import { HttpError } from "./http1.ts";
import { checkCancelled, pause } from "./job.ts";
import { SsyncClient } from "./ssync_client.ts";

/** Bytes of one request. */
const PIECE_BYTES = 2 * 1024 * 1024;
/** Range that is planned at once, bytes. */
const WINDOW_BYTES = 64 * 1024 * 1024;
/** Connections. */
const WORKERS = 4;
/** Retries of a request, and pauses before them, milliseconds. */
const RETRIES = 5, FIRST_PAUSE_MS = 2_000, LONGEST_PAUSE_MS = 30_000;

interface Piece {
  readonly begin: number;
  readonly end: number;
  readonly hole: boolean;
}

function* piecesOf(source: SparseSource): Generator<Piece> {
  let hole = 0;
  for (let window = 0; window < source.size; window += WINDOW_BYTES) {
    const end = Math.min(source.size, window + WINDOW_BYTES);
    for (const { offset, length } of source.runs(window, end)) {
      if (offset > hole) yield { begin: hole, end: offset, hole: true };
      for (let at = offset; at < offset + length; at += PIECE_BYTES) {
        yield { begin: at, end: Math.min(offset + length, at + PIECE_BYTES), hole: false };
      }
      hole = offset + length;
    }
  }
  if (source.size > hole) yield { begin: hole, end: source.size, hole: true };
}

/** See the module text. @param existed the receiver has a file to compare with @throws {HttpError} */
export async function sendPlain(
  host: string,
  port: number,
  timeoutMs: number,
  source: SparseSource,
  existed: boolean,
  signal: AbortSignal,
): Promise<void> {
  const pieces = piecesOf(source);
  const worker = async () => {
    using sender = new PlainSender(host, port, timeoutMs, signal);
    const buffer = new Uint8Array(PIECE_BYTES);
    for (const piece of pieces) {
      const range = `begin=${piece.begin}&end=${piece.end}`;
      if (piece.hole) {
        await sender.call("POST", `sendHole?${range}`);
        continue;
      }
      const data = buffer.subarray(0, piece.end - piece.begin);
      source.read(data, piece.begin);
      if (existed) {
        const theirs = await sender.call("GET", `getChecksum?${range}`);
        if (theirs === JSON.stringify(createHash("sha512").update(data).digest("base64"))) continue;
      }
      await sender.call("POST", `writeData?${range}`, data);
    }
  };
  const results = await Promise.allSettled(Array.from({ length: WORKERS }, worker));
  for (const result of results) if (result.status === "rejected") throw result.reason;
}

/** One connection that is made anew when it breaks. */
class PlainSender implements Disposable {
  #client: SsyncClient | undefined;

  constructor(
    readonly host: string,
    readonly port: number,
    readonly timeoutMs: number,
    readonly signal: AbortSignal,
  ) {}

  async call(method: "GET" | "POST", name: string, ...body: Uint8Array[]): Promise<string> {
    for (let attempt = 0, wait = FIRST_PAUSE_MS;; attempt++, wait = Math.min(LONGEST_PAUSE_MS, 2 * wait)) {
      checkCancelled(this.signal);
      try {
        this.#client ??= await SsyncClient.connect(this.host, this.port, this.timeoutMs);
        return (await this.#client.call(method, name, ...body)).text.trim();
      } catch (error) {
        this.#client?.[Symbol.dispose]();
        this.#client = undefined;
        const status = error instanceof HttpError ? error.status : 0;
        const useless = status >= 300 && status < 500 && status !== 429;
        if (useless || attempt === RETRIES) throw error;
      }
      await pause(wait, this.signal);
    }
  }

  [Symbol.dispose](): void {
    this.#client?.[Symbol.dispose]();
  }
}
