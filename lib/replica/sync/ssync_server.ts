/**
 * The receiving side of Longhorn's file transfer (ssync) and of Drover's own additions to it, on one connection.
 *
 * | request | does |
 * |---|---|
 * | GET `open` ?begin=0&end=SIZE&directIO=BOOL | opens the file; `true` if it existed |
 * | POST `sendHole` ?begin&end | punches a hole |
 * | POST `writeData` ?begin&end, data | writes |
 * | GET `getChecksum` ?begin&end | SHA-512 in base64 of a range that is all data, else `null` |
 * | GET `getRecordedMetadata` | the checksum record, 404 when none holds |
 * | POST `close` ?checksumMethod&checksum | makes it durable; the server ends |
 *
 * All are below `/v1-ssync/`. Every answer carries the field `Drover-Sync: 1`, which Longhorn ignores; a sender that
 * knows it goes on with these:
 *
 * | request | does |
 * |---|---|
 * | GET `droverPart` | the next part for this connection: `{"begin","end","compare"}`, `{"wait":true}`, `{"done":true}` |
 * | POST `droverCompare`, lines `BEGIN END SUM` | indices of the batches that differ, as a JSON array |
 * | POST `droverData` ?begin&end&check, a table and its data (see batches.ts) | checks them, makes the range so |
 * | POST `droverSame` | the sender's checksum is that of this file: nothing is to be sent |
 * | POST `droverLeave` ?checksumMethod&checksum | this sender is done; another one, or nobody, closes |
 *
 * Answers come in the order of the requests, so a sender may have several under way.
 *
 * @module
 */
import { IoError } from "../../io/errno.ts";
import { BadTableError, batchCheck, decodeTable, runCount, TABLE_BYTES, tableBytes } from "./batches.ts";
import { changeTime, readChecksum } from "./checksums.ts";
import {
  ByteStream,
  type Connection,
  formatAnswer,
  HttpError,
  MAX_SMALL_BODY,
  parseRequest,
  type Request,
  writeAll,
} from "./http1.ts";
import type { Parts } from "./parts.ts";
import type { Reception } from "./reception.ts";
import { WriteBuffers } from "./write_buffers.ts";

/** Field of every answer: this side knows the additions. */
export const EXTENSION_FIELD = "Drover-Sync";
/** Path before every request's name. */
export const BASE_PATH = "/v1-ssync/";
/** Largest body of writeData, bytes; Longhorn's batch is 2 MiB. */
const MAX_WRITE_BYTES = 16 * 1024 * 1024;
/** How long who asks for a part while others are at the last ones waits for his answer, milliseconds. */
const PART_WAIT_MS = 2_000;
/** Batches that are compared in one go. */
const TURN = 8;

const FIELDS = { "Content-Type": "application/json", [EXTENSION_FIELD]: "1" };
/** The answer to most requests. */
const DONE = formatAnswer(200, "", FIELDS);

type Route = (request: Request, server: SsyncConnection) => Promise<unknown>;

const ROUTES: Readonly<Record<string, Route>> = {
  "GET open": (request, server) => Promise.resolve(server.open(request)),
  "POST sendHole": (request, server) => Promise.resolve(server.hole(request)),
  "POST writeData": (request, server) => server.write(request),
  "GET getChecksum": (request, server) => Promise.resolve(server.checksum(request)),
  "GET getRecordedMetadata": (_request, server) => Promise.resolve(server.record()),
  "POST close": (request, server) => server.leave(request, true),
  "GET droverPart": (_request, server) => server.part(),
  "POST droverCompare": (request, server) => server.compare(request),
  "POST droverData": (request, server) => server.data(request),
  "POST droverSame": (_request, server) => Promise.resolve(server.same()),
  "POST droverLeave": (request, server) => server.leave(request, false),
};

/** Requests whose bodies their routes read themselves. */
const WITH_BODY: ReadonlySet<string> = new Set(["POST writeData", "POST droverCompare", "POST droverData"]);

/** One connection of a sender. */
export class SsyncConnection {
  readonly #stream: ByteStream;
  readonly #table = new Uint8Array(TABLE_BYTES);
  readonly #buffers: WriteBuffers;

  /** Serves nothing yet. */
  constructor(readonly connection: Connection, readonly reception: Reception) {
    this.#stream = new ByteStream(connection);
    this.#buffers = new WriteBuffers(reception.file.queue);
  }

  /** When something came last, as `performance.now()` tells. */
  get lastRead(): number {
    return this.#stream.lastRead;
  }

  /** Answers requests until the sender goes, or breaks the protocol. Never throws. */
  async serve(): Promise<void> {
    try {
      for (;;) {
        const head = await this.#stream.head();
        if (head === undefined) break;
        const request = parseRequest(head);
        const answer = await this.#answer(request);
        await writeAll(this.connection, answer);
        if (request.last) break;
      }
    } catch (error) {
      await this.#refuse(error);
    } finally {
      this.#release();
      this.reception.parts?.leave(this);
      this.#close();
    }
  }

  /** What came last is written before somebody else gets this connection's part. */
  #release(): void {
    try {
      this.#buffers.release();
    } catch (error) {
      this.reception.end.fail(error instanceof Error ? error : new Error(String(error)));
    }
  }

  async #answer(request: Request): Promise<Uint8Array> {
    const name = request.path.startsWith(BASE_PATH) ? request.path.slice(BASE_PATH.length) : "";
    const route = `${request.method} ${name}`;
    const handler = Object.hasOwn(ROUTES, route) ? ROUTES[route] : undefined;
    if (!handler) throw new HttpError(404, `there is no ${request.method} ${request.path.slice(0, 80)}`);
    if (!WITH_BODY.has(route) && request.length > 0) await this.#stream.body(request.length);
    const result = await handler(request, this);
    return result === undefined ? DONE : formatAnswer(200, JSON.stringify(result), FIELDS);
  }

  /** Says why, if anybody still listens; what was not read of the request makes the connection useless. */
  async #refuse(error: unknown): Promise<void> {
    const text = error instanceof Error ? error.message : String(error);
    let status = error instanceof HttpError ? error.status : 0;
    if (error instanceof BadTableError) status = 400;
    if (error instanceof IoError) {
      status = 500;
      this.reception.end.fail(error);
    }
    if (status === 0) return;
    try {
      await writeAll(this.connection, formatAnswer(status, text, { Connection: "close" }));
    } catch {
      // The connection is gone, which is likely why we are here.
    }
  }

  /** Waits for the limit, which is not the sender's silence. */
  async #admit(bytes: number): Promise<void> {
    await this.reception.limiter.take(bytes);
    this.#stream.lastRead = performance.now();
  }

  #close(): void {
    try {
      this.connection.close();
    } catch {
      // Closed already: the receiver ended.
    }
  }

  #range({ query }: Request): [number, number] {
    const number = (name: string) => {
      const text = query.get(name) ?? "";
      return /^\d{1,16}$/.test(text) ? Number(text) : NaN;
    };
    const begin = number("begin"), end = number("end");
    this.reception.file.range(begin, end);
    return [begin, end];
  }

  /** See the module text. */
  open({ query }: Request): boolean {
    const end = query.get("end") ?? "", { file } = this.reception;
    if (query.get("begin") !== "0" || !/^\d{1,16}$/.test(end)) {
      throw new HttpError(400, "open needs begin=0 and the file's size as end");
    }
    file.open(Number(end), query.get("directIO") === "true");
    return file.existed;
  }

  /** See the module text. */
  hole(request: Request): undefined {
    const [begin, end] = this.#range(request);
    this.reception.file.hole(begin, end);
  }

  /** See the module text. */
  async write(request: Request): Promise<undefined> {
    const [begin, end] = this.#range(request), { reception } = this;
    if (request.length !== end - begin || request.length > MAX_WRITE_BYTES) {
      throw new HttpError(400, `a body of ${request.length} bytes for ${begin} to ${end}`);
    }
    for (let at = begin; at < end;) {
      const { bytes, underWay } = this.#buffers.take();
      const part = bytes.subarray(0, Math.min(bytes.length, end - at));
      await this.#admit(part.length);
      await this.#stream.fill(part);
      reception.file.write(part, at, underWay);
      reception.received += part.length;
      reception.placed += part.length;
      at += part.length;
    }
  }

  /** See the module text. */
  checksum(request: Request): string | null {
    const [begin, end] = this.#range(request);
    const hash = this.reception.file.sha512(begin, end);
    if (hash !== null) this.reception.placed += end - begin;
    return hash;
  }

  /** See the module text. */
  record(): Record<string, unknown> {
    const { files, directory, name } = this.reception.file, found = readChecksum(files, directory, name);
    if (!found || found.silentlyCorrupted || found.changeTime !== changeTime(files, directory, name)) {
      throw new HttpError(404, `there is no checksum that holds for ${name}`);
    }
    return {
      method: found.method,
      checksum: found.checksum,
      change_time: found.changeTime,
      last_hashed_at: found.lastHashedAt,
      silently_corrupted: found.silentlyCorrupted,
    };
  }

  /** See the module text. */
  async leave({ query }: Request, close: boolean): Promise<undefined> {
    const checksum = query.get("checksum") ?? "", method = query.get("checksumMethod") ?? "";
    this.#buffers.settle();
    if (checksum !== "") this.reception.checksum = { method, checksum };
    if (close) await this.reception.end.finish();
  }

  /** See the module text. */
  async part(): Promise<Record<string, unknown>> {
    const { reception } = this, { file } = reception;
    this.#buffers.settle();
    let next = this.#parts().next(this);
    if (next === "wait") {
      await this.#parts().changed(PART_WAIT_MS);
      next = this.#parts().next(this);
    }
    if (next === "done" && !reception.complete) {
      await reception.beginToVerify();
      next = this.#parts().next(this);
    }
    return typeof next === "string" ? { [next]: true } : { ...next, compare: file.hasOldData };
  }

  #parts(): Parts {
    if (!this.reception.parts) throw new HttpError(409, "the file was not opened");
    return this.reception.parts;
  }

  /** See the module text. */
  same(): undefined {
    this.#parts();
    this.reception.skip();
  }

  /** See the module text. */
  async compare(request: Request): Promise<number[]> {
    if (request.length > MAX_SMALL_BODY) throw new HttpError(413, "too many batches to compare");
    const text = new TextDecoder().decode(await this.#stream.body(request.length)), wanted: number[] = [];
    const { file } = this.reception;
    for (const [index, line] of text.split("\n").entries()) {
      const match = /^(\d{1,16}) (\d{1,16}) ([0-9a-f]{16})$/.exec(line);
      if (!match) throw new HttpError(400, "batches are lines of BEGIN END SUM");
      const begin = Number(match[1]), end = Number(match[2]);
      file.range(begin, end);
      const own = file.sum(begin, end);
      if (own?.sum === match[3]) this.reception.placed += own.bytes;
      else if (this.reception.verifying) throw this.#damaged(begin, end);
      else wanted.push(index);
      // The other connections and the main thread have their turn.
      if (index % TURN === TURN - 1) await new Promise((resolve) => setTimeout(resolve, 0));
    }
    return wanted;
  }

  /** What was written is not what is read back: the disk is at its end, or somebody else writes. */
  #damaged(begin: number, end: number): HttpError {
    const { file: { name }, end: { fail } } = this.reception;
    const error = new HttpError(
      500,
      `${name}: ${begin} to ${end} reads back differently from what its source has`,
    );
    fail(error);
    return error;
  }

  /** See the module text. */
  async data(request: Request): Promise<undefined> {
    const [begin, end] = this.#range(request), { reception } = this;
    const first = this.#table.subarray(0, 4);
    await this.#stream.fill(first);
    const bytes = tableBytes(runCount(first)), table = this.#table.subarray(0, bytes);
    await this.#stream.fill(this.#table.subarray(4, bytes));
    const batch = decodeTable(table, begin, end);
    if (request.length !== bytes + batch.bytes) {
      throw new HttpError(400, "the body is not as long as its table says");
    }
    const { bytes: buffer, underWay } = this.#buffers.take(), data = buffer.subarray(0, batch.bytes);
    await this.#admit(batch.bytes);
    await this.#stream.fill(data);
    if (batchCheck(table, data) !== request.query.get("check")) {
      throw new HttpError(422, `the data for ${begin} to ${end} was damaged on its way`);
    }
    reception.file.place(batch, data, underWay);
    reception.came(begin, end);
    reception.received += batch.bytes;
    reception.placed += batch.bytes;
  }
}
