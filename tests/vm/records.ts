/**
 * The program in the machine that writes records, each on stable storage before the host hears of it
 * (`guest/writer.js`), seen from the host.
 *
 * @module
 */
import type { Lab } from "../../tools/vm/lab.ts";

const WRITER = "/product/lib/deno run -A --no-config --no-lock /product/guest/writer.js";
/** Time limit for a number of records, and for verifying them, milliseconds. */
const RECORDS_MS = 600_000;

/** Writes to /mnt in the machine. */
export class RecordWriter {
  /** The last record that is on stable storage. */
  last: number;
  readonly #waiting: { readonly until: number; readonly done: () => void }[] = [];

  private constructor(readonly lab: Lab, first: number) {
    this.last = first - 1;
    lab.onRecord = (line) => this.#onRecord(Number(line));
  }

  /** Starts it. @param first number of the first record */
  static async start(lab: Lab, first: number): Promise<RecordWriter> {
    const writer = new RecordWriter(lab, first);
    await lab.sh(`
setsid ${WRITER} /mnt ${first} $(records_port) >/run/writer.out 2>&1 </dev/null &
echo $! >/run/writer.pid`);
    return writer;
  }

  #onRecord(record: number): void {
    this.last = record;
    for (const { until, done } of this.#waiting) if (record >= until) done();
  }

  /** Waits until so many more records are there. @throws {Error} when they take too long */
  async more(count: number): Promise<void> {
    const from = this.last, enough = Promise.withResolvers<void>();
    this.#waiting.push({ until: from + count, done: enough.resolve });
    const late = () => enough.reject(new Error(`only ${this.last - from} of ${count} records came in time`));
    const timer = setTimeout(late, RECORDS_MS);
    await enough.promise.finally(() => clearTimeout(timer));
  }

  /** Ends it. A record that it was at may be there in part. */
  async stop(): Promise<void> {
    await this.lab.sh("kill -9 $(cat /run/writer.pid); within 60 is_over writer");
  }
}

/** Compares all records up to one with what they have to be. */
export async function verifyRecords(lab: Lab, last: number): Promise<void> {
  await lab.sh(`${WRITER} /mnt 1 --verify ${last}`, RECORDS_MS);
}
