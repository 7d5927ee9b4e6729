/**
 * Sending to a Drover: the receiver hands out parts, batches of which are compared where the file was there before,
 * and sent where they differ. While some batches are on their way the next ones are read; at most {@linkcode DEPTH}
 * have no answer.
 *
 * @module
 */
import {
  type Batch,
  BATCH_DATA_BYTES,
  batchCheck,
  batchesOf,
  batchSum,
  encodeTable,
  readBatch,
  type SparseSource,
} from "./batches.ts";
import { checkCancelled, pause } from "./job.ts";
import { accepted, type Reply, type SsyncClient } from "./ssync_client.ts";
import { giveAligned, takeAligned } from "../../io/direct_write.ts";
import type { FileOperation, FileQueue } from "../../io/file_queue.ts";

/** Batches without an answer. */
const DEPTH = 8;
/** Batches that are being read while others are sent. */
const AHEAD = 2;
/** Batches that the source knows of before they are read. */
const ANNOUNCED = 8;
/** Buffers: those that are being read, one that is filled next, and one that is on its way. */
const BUFFERS = AHEAD + 2;
/** Batches that are compared in one request: up to so much data is read for it. */
const COMPARED = 64;
/** Pause while others are at the last parts, milliseconds. */
const WAIT_MS = 100;

const encoder = new TextEncoder();

interface PartReply {
  readonly begin?: number;
  readonly end?: number;
  readonly compare?: boolean;
  readonly wait?: boolean;
  readonly done?: boolean;
}

/** See the module text. @throws {HttpError} {@linkcode IoError} {@linkcode RpcError} CANCELLED */
export async function sendBatches(
  client: SsyncClient,
  source: SparseSource,
  queue: FileQueue,
  signal: AbortSignal,
): Promise<void> {
  using sender = new BatchSender(client, source, queue, signal);
  for (;;) {
    checkCancelled(signal);
    const { text } = await client.call("GET", "droverPart");
    const { begin = 0, end = 0, compare, wait, done } = JSON.parse(text) as PartReply;
    if (done) return;
    if (wait) await pause(WAIT_MS, signal);
    else if (compare) await sender.compare(begin, end);
    else {
      for (const batch of announced(source, begin, end)) if (batch.bytes > 0) await sender.send(batch);
      await sender.settle();
    }
  }
}

/** The batches of a range; the source knows of each some time before. */
function* announced(source: SparseSource, begin: number, end: number): Generator<Batch> {
  const coming: Batch[] = [];
  for (const batch of batchesOf(source, begin, end)) {
    source.announce?.(batch);
    coming.push(batch);
    const first = coming.length > ANNOUNCED ? coming.shift() : undefined;
    if (first) yield first;
  }
  yield* coming;
}

/** A batch that is being read. */
interface Reading {
  readonly batch: Batch;
  readonly buffer: SendBuffer;
  readonly underWay: readonly FileOperation[];
}

interface SendBuffer {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Resolves when what was in it has gone. */
  written: Promise<void>;
}

class BatchSender implements Disposable {
  readonly #buffers: SendBuffer[] = [];
  #next = 0;
  readonly #reading: Reading[] = [];
  readonly #replies: Promise<Reply>[] = [];

  constructor(
    readonly client: SsyncClient,
    readonly source: SparseSource,
    readonly queue: FileQueue,
    readonly signal: AbortSignal,
  ) {}

  /** Begins to read a batch, and sends one that was begun before. */
  async send(batch: Batch): Promise<void> {
    checkCancelled(this.signal);
    const index = this.#next++ % BUFFERS;
    const buffer = this.#buffers[index] ??= {
      bytes: takeAligned(BATCH_DATA_BYTES),
      written: Promise.resolve(),
    };
    await buffer.written;
    let underWay: FileOperation[] = [];
    if (this.source.begin) underWay = this.source.begin(batch, buffer.bytes);
    else readBatch(this.source, batch, buffer.bytes);
    this.#reading.push({ batch, buffer, underWay });
    if (this.#reading.length > AHEAD) await this.#sendOldest();
  }

  async #sendOldest(): Promise<void> {
    const oldest = this.#reading.shift();
    if (!oldest) return;
    const { batch, buffer, underWay } = oldest;
    this.queue.waitAll(underWay);
    const data = buffer.bytes.subarray(0, batch.bytes), table = encodeTable(batch);
    const name = `droverData?begin=${batch.begin}&end=${batch.end}&check=${batchCheck(table, data)}`;
    const { written, reply } = this.client.send("POST", name, table, data);
    buffer.written = written;
    this.#replies.push(reply);
    if (this.#replies.length >= DEPTH) accepted(await this.#replies.shift() as Reply);
  }

  /** Waits until everything is in place. */
  async settle(): Promise<void> {
    while (this.#reading.length > 0) await this.#sendOldest();
    for (const { written } of this.#buffers) await written;
    for (const reply of this.#replies.splice(0)) accepted(await reply);
  }

  /** Gives the buffers back, each when nobody reads into it or sends it any more. */
  [Symbol.dispose](): void {
    for (const { underWay } of this.#reading) {
      for (const { fd } of underWay) this.queue.forget(fd);
    }
    for (const { bytes, written } of this.#buffers) written.then(() => giveAligned(bytes));
    if (this.#scratch) giveAligned(this.#scratch);
  }

  /** Compares a part, and sends what differs. */
  async compare(begin: number, end: number): Promise<void> {
    let group: Batch[] = [], asked: { group: Batch[]; reply: Promise<Reply> } | undefined;
    const ask = () => {
      const lines = group.map((batch) => `${batch.begin} ${batch.end} ${this.#sum(batch)}`).join("\n");
      return { group, reply: this.client.send("POST", "droverCompare", encoder.encode(lines)).reply };
    };
    for (const batch of announced(this.source, begin, end)) {
      group.push(batch);
      if (group.length < COMPARED) continue;
      // While the receiver compares this group, what differed in the one before is sent.
      const next = ask();
      if (asked) await this.#sendWanted(asked);
      asked = next;
      group = [];
      checkCancelled(this.signal);
    }
    if (group.length > 0) {
      const last = ask();
      if (asked) await this.#sendWanted(asked);
      asked = last;
    }
    if (asked) await this.#sendWanted(asked);
    await this.settle();
  }

  #sum(batch: Batch): string {
    const scratch = this.#scratch ??= takeAligned(BATCH_DATA_BYTES);
    if (!this.source.begin) readBatch(this.source, batch, scratch);
    else this.queue.waitAll(this.source.begin(batch, scratch));
    return batchSum(encodeTable(batch), scratch.subarray(0, batch.bytes));
  }

  /** Not one of the buffers: they may be on their way. */
  #scratch: Uint8Array<ArrayBuffer> | undefined;

  async #sendWanted({ group, reply }: { group: Batch[]; reply: Promise<Reply> }): Promise<void> {
    for (const index of JSON.parse(accepted(await reply).text) as number[]) {
      const batch = group[index];
      if (batch) await this.send(batch);
    }
  }
}
