/**
 * Sending to a Drover: the receiver hands out parts, batches of which are compared where the file was there before,
 * and sent where they differ. While one batch is on its way the next is read; at most {@linkcode DEPTH} have no
 * answer.
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

/** Batches without an answer. */
const DEPTH = 8;
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
  signal: AbortSignal,
): Promise<void> {
  const sender = new BatchSender(client, source, signal);
  for (;;) {
    checkCancelled(signal);
    const { text } = await client.call("GET", "droverPart");
    const { begin = 0, end = 0, compare, wait, done } = JSON.parse(text) as PartReply;
    if (done) return;
    if (wait) await pause(WAIT_MS, signal);
    else if (compare) await sender.compare(begin, end);
    else {
      for (const batch of batchesOf(source, begin, end)) if (batch.bytes > 0) await sender.send(batch);
      await sender.settle();
    }
  }
}

class BatchSender {
  readonly #buffers = [new Uint8Array(BATCH_DATA_BYTES), new Uint8Array(BATCH_DATA_BYTES)];
  #next = 0;
  #written: Promise<void> = Promise.resolve();
  readonly #replies: Promise<Reply>[] = [];

  constructor(readonly client: SsyncClient, readonly source: SparseSource, readonly signal: AbortSignal) {}

  /** Sends a batch as soon as there is room. */
  async send(batch: Batch): Promise<void> {
    checkCancelled(this.signal);
    // Before the last one: its buffer is this one's.
    const buffer = this.#buffers[this.#next++ % this.#buffers.length];
    const data = readBatch(this.source, batch, buffer), table = encodeTable(batch);
    const name = `droverData?begin=${batch.begin}&end=${batch.end}&check=${batchCheck(table, data)}`;
    await this.#written;
    const { written, reply } = this.client.send("POST", name, table, data);
    this.#written = written;
    this.#replies.push(reply);
    if (this.#replies.length >= DEPTH) accepted(await this.#replies.shift() as Reply);
  }

  /** Waits until everything is in place. */
  async settle(): Promise<void> {
    await this.#written;
    for (const reply of this.#replies.splice(0)) accepted(await reply);
  }

  /** Compares a part, and sends what differs. */
  async compare(begin: number, end: number): Promise<void> {
    let group: Batch[] = [], asked: { group: Batch[]; reply: Promise<Reply> } | undefined;
    const ask = () => {
      const lines = group.map((batch) => `${batch.begin} ${batch.end} ${this.#sum(batch)}`).join("\n");
      return { group, reply: this.client.send("POST", "droverCompare", encoder.encode(lines)).reply };
    };
    for (const batch of batchesOf(this.source, begin, end)) {
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
    return batchSum(encodeTable(batch), readBatch(this.source, batch, this.#scratch));
  }

  /** Not one of the buffers: they may be on their way. */
  readonly #scratch = new Uint8Array(BATCH_DATA_BYTES);

  async #sendWanted({ group, reply }: { group: Batch[]; reply: Promise<Reply> }): Promise<void> {
    for (const index of JSON.parse(accepted(await reply).text) as number[]) {
      const batch = group[index];
      if (batch) await this.send(batch);
    }
  }
}
