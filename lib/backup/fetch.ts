/**
 * Blocks on their way back: read, decompressed and compared with their checksum.
 *
 * @module
 */
import { type Bytes, type Codec, ENCODED_SPARE_BYTES, owned } from "./codec.ts";
import { BlockError, CodecError } from "./errors.ts";
import { blockPath, checksumOf } from "./names.ts";
import type { BackupRecord, BlockRef } from "./records.ts";
import { Spares } from "./spares.ts";
import { NotFoundError, type Target } from "./target/target.ts";

/** A block that does not match is read so often before it is given up: a body may be damaged on its way. */
const ATTEMPTS = 3;

/** Fetches blocks of one backup. */
export class BlockReader {
  readonly #target: Target;
  readonly #codec: Codec;
  readonly #record: BackupRecord;
  readonly #folder: string;
  readonly #blockBytes: number;
  readonly #contents: Spares;
  readonly #stored: Spares;
  #zeros: string | undefined;
  /** Bytes read, as stored. */
  bytes = 0;
  /** Blocks read. */
  blocks = 0;

  /** A reader of the blocks in `folder`, which ends with `/`; `lanes` of them at once. */
  constructor(
    target: Target,
    codec: Codec,
    record: BackupRecord,
    folder: string,
    blockBytes: number,
    lanes: number,
  ) {
    this.#target = target;
    this.#codec = codec;
    this.#record = record;
    this.#folder = folder;
    this.#blockBytes = blockBytes;
    this.#contents = new Spares(blockBytes, lanes);
    this.#stored = new Spares(blockBytes + ENCODED_SPARE_BYTES, lanes);
  }

  /** True for the block of nothing but zeros, which need not be read. */
  isZeros(checksum: string): boolean {
    this.#zeros ??= checksumOf(new Uint8Array(this.#blockBytes));
    return checksum === this.#zeros;
  }

  /**
   * The content of a block. Its memory is used again after {@linkcode BlockReader.release}.
   *
   * @param least bytes that it has to have; by default it is as long as the backup's blocks are
   * @throws {BlockError} when it is missing or not what its name says
   */
  async read(ref: BlockRef, signal?: AbortSignal, least: number = this.#blockBytes): Promise<Bytes> {
    const path = blockPath(this.#folder, ref.checksum);
    let problem: unknown;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const room = this.#stored.take();
      let stored: Bytes;
      try {
        const read = await this.#target.read(path, signal, room);
        stored = read.buffer === room.buffer ? read as Bytes : owned(read);
      } catch (error) {
        if (error instanceof NotFoundError) throw this.#bad(ref, `${path} is missing`, error);
        throw error;
      }
      this.bytes += stored.length;
      try {
        const { compression } = this.#record;
        const into = this.#contents.take();
        const { data, spare } = await this.#codec.decode(stored, compression, ref.checksum, into);
        this.#stored.give(spare);
        if (data.length < least) {
          throw this.#bad(ref, `it has ${data.length} bytes, the backup's blocks have ${this.#blockBytes}`);
        }
        this.blocks++;
        return data;
      } catch (error) {
        if (!(error instanceof CodecError)) throw error;
        problem = error;
      }
    }
    throw this.#bad(ref, `${path} is damaged: ${(problem as Error).message}`, problem);
  }

  /** The content of a block is not needed any more. */
  release(data: Bytes): void {
    this.#contents.give(data);
  }

  #bad({ checksum, offset }: BlockRef, problem: string, cause?: unknown): BlockError {
    const { volumeName, name } = this.#record;
    return new BlockError(volumeName, name, checksum, offset, problem, { cause });
  }
}
