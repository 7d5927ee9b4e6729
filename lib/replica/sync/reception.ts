/**
 * What all connections of one receiver share.
 *
 * @module
 */
import type { Limiter } from "./limiter.ts";
import { type Part, Parts } from "./parts.ts";
import type { ReceivedFile } from "./received_file.ts";

/** What a receiver does at the end of a file. */
export interface ReceptionEnd {
  /** The sender says that this was all: makes it durable. */
  finish(): Promise<void>;
  /** The file cannot be written: nothing more can come of it. */
  fail(error: Error): void;
}

/** How much is read back at the end, and compared with the sources once more. */
export type Verify = "nothing" | "sample" | "everything";

/** Of what came, one batch in so many is read back; at least, and at most so many batches. */
const SAMPLE_SHARE = 64, SAMPLE_LEAST = 4, SAMPLE_MOST = 256;

/** See the module text. */
export class Reception {
  /** Bytes of data in place. */
  placed = 0;
  /** Bytes of data that came over the network. */
  received = 0;
  /** The checksum that a sender gave. */
  checksum: { readonly method: string; readonly checksum: string } = { method: "", checksum: "" };
  #parts: Parts | undefined;
  #begun: Promise<void> | undefined;
  /** What is in place is being read back. */
  verifying = false;

  /**
   * Of one file.
   *
   * @param limiter bytes per second that may come in
   * @param verify what is read back at the end, and compared once more
   */
  constructor(
    readonly file: ReceivedFile,
    readonly limiter: Limiter,
    readonly end: ReceptionEnd,
    readonly verify: Verify,
  ) {}

  /** Everything is in place, and was read back as far as that is wanted. */
  get complete(): boolean {
    return this.parts?.complete === true && (this.verifying || !this.#mustVerify);
  }

  get #mustVerify(): boolean {
    return this.verify === "everything" || (this.verify === "sample" && this.#sample.length > 0);
  }

  /** Some of the batches that came, each with the same chance. */
  readonly #sample: Part[] = [];
  #batches = 0;

  /** Takes note of a batch that came. */
  came(begin: number, end: number): void {
    const places = Math.min(SAMPLE_MOST, Math.max(SAMPLE_LEAST, Math.ceil(++this.#batches / SAMPLE_SHARE)));
    if (this.#sample.length < places) this.#sample.push({ begin, end });
    else {
      const index = Math.floor(Math.random() * this.#batches);
      if (index < places) this.#sample[index] = { begin, end };
    }
  }

  /** Begins to read back what is in place: parts are handed out once more. @throws {IoError} */
  beginToVerify(): Promise<void> {
    return this.#begun ??= this.#begin();
  }

  async #begin(): Promise<void> {
    await this.file.sync();
    this.file.forgetCached();
    this.file.hasOldData = true;
    this.#parts = new Parts(this.file.size, this.verify === "sample" ? this.#sample : undefined);
    this.verifying = true;
  }

  /** The sender's checksum is that of the file: nothing is sent, and nothing is to be read back. */
  skip(): void {
    this.verifying = true;
    this.parts?.skip();
    this.placed = Number.MAX_SAFE_INTEGER;
  }

  /** Who copies what; undefined until the file was opened. */
  get parts(): Parts | undefined {
    if (this.#parts === undefined && this.file.size >= 0) this.#parts = new Parts(this.file.size);
    return this.#parts;
  }
}
