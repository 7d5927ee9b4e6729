/**
 * What all connections of one receiver share.
 *
 * @module
 */
import type { Limiter } from "./limiter.ts";
import { Parts } from "./parts.ts";
import type { ReceivedFile } from "./received_file.ts";

/** What a receiver does at the end of a file. */
export interface ReceptionEnd {
  /** The sender says that this was all: makes it durable. */
  finish(): Promise<void>;
  /** The file cannot be written: nothing more can come of it. */
  fail(error: Error): void;
}

/** See the module text. */
export class Reception {
  /** Bytes of data in place. */
  placed = 0;
  /** Bytes of data that came over the network. */
  received = 0;
  /** The checksum that a sender gave. */
  checksum: { readonly method: string; readonly checksum: string } = { method: "", checksum: "" };
  #parts: Parts | undefined;

  /** Of one file. @param limiter bytes per second that may come in */
  constructor(readonly file: ReceivedFile, readonly limiter: Limiter, readonly end: ReceptionEnd) {}

  /** Who copies what; undefined until the file was opened. */
  get parts(): Parts | undefined {
    if (this.#parts === undefined && this.file.size >= 0) this.#parts = new Parts(this.file.size);
    return this.#parts;
  }
}
