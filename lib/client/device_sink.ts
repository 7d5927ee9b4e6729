/**
 * A block device as the place that a backup is restored to. Everything goes through whatever carries the device, so
 * a volume's engine writes it to all copies.
 *
 * @module
 */
import { open } from "node:fs/promises";
import type { BlockSink } from "../backup/source.ts";
import { FilesLibc } from "../io/files_libc.ts";
import { IoError } from "../io/errno.ts";
import { sizeOf } from "./image_source.ts";

/** Zeros written at once where a range cannot be discarded, bytes. */
const ZEROS = new Uint8Array(1024 ** 2);

/** A sink of a known size. */
export interface VolumeSink extends BlockSink {
  /** Bytes that it holds. */
  readonly bytes: number;
}

/** Opens a block device, or a file, for writing. */
export async function openDeviceSink(path: string): Promise<VolumeSink> {
  const bytes = sizeOf(path);
  const handle = await open(path, "r+");
  const files = new FilesLibc();
  let punches = true;

  const write = async (offset: number, data: Uint8Array): Promise<void> => {
    for (let done = 0; done < data.length;) {
      done += (await handle.write(data, done, data.length - done, offset + done)).bytesWritten;
    }
  };

  return {
    bytes,
    write,
    async zero(offset: number, length: number): Promise<void> {
      if (punches) {
        try {
          return files.punchHole(handle.fd, offset, length);
        } catch (error) {
          if (!(error instanceof IoError)) throw error;
          punches = false;
        }
      }
      for (let done = 0; done < length; done += ZEROS.length) {
        await write(offset + done, ZEROS.subarray(0, Math.min(ZEROS.length, length - done)));
      }
    },
    flush: () => handle.datasync(),
    [Symbol.dispose]: () => void handle.close(),
  };
}
