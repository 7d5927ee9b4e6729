/**
 * Hashing one snapshot, in a thread of its own. One file is hashed at a time on a node: whoever holds the lock file.
 *
 * | found | done |
 * |---|---|
 * | a record for the present ctime, not asked to hash again | nothing |
 * | a record for the present ctime that says "silently corrupted" | nothing, ever: hashing again would bless the damage |
 * | a record for the present ctime, and the content has another checksum | the record stays, marked as silently corrupted |
 * | another ctime, or no record | a new record |
 * | the ctime changes meanwhile | the record goes, the job fails |
 *
 * Holes are not read: {@linkcode Crc64.zeros}. Reads bypass the page cache, so hashing evicts nothing.
 *
 * @module
 */
import { CHECKSUM_METHOD } from "../../disk/checksum_record.ts";
import { recordTime } from "../../disk/disk_record.ts";
import { Errno, IoError } from "../../io/errno.ts";
import type { Files } from "../../io/files.ts";
import { FilesLibc } from "../../io/files_libc.ts";
import { changeTime, dropChecksum, readChecksum, writeChecksum } from "./checksums.ts";
import { Crc64 } from "./crc64.ts";
import { checkCancelled, type JobContext, pause } from "./job.ts";
import { tryNodeLock } from "./node_lock.ts";

/** What is hashed. */
export interface HashParams {
  /** The replica directory. */
  readonly directory: string;
  /** File name of the snapshot's disk. */
  readonly disk: string;
  /** Also when there is a record for this content. */
  readonly rehash: boolean;
  /** Directory of the node's lock files. */
  readonly locks: string;
}

/** What came out. */
export interface HashResult {
  /** 16 hexadecimal digits. */
  readonly checksum: string;
  /** The content changed although the file's ctime did not. */
  readonly silentlyCorrupted: boolean;
}

/** Bytes read at once, and planned at once. */
const READ_BYTES = 512 * 1024, WINDOW_BYTES = 64 * 1024 * 1024;
/** How often it is tried to get the lock, milliseconds. */
const LOCK_POLL_MS = 500;

/** See the module text. @throws {IoError} @throws {RpcError} CANCELLED */
export async function hashFile(params: HashParams, context: JobContext): Promise<HashResult> {
  const files = new FilesLibc();
  let lock = tryNodeLock(files, params.locks, "hash");
  while (lock === undefined) {
    await pause(LOCK_POLL_MS, context.signal);
    lock = tryNodeLock(files, params.locks, "hash");
  }
  try {
    return await hashLocked(files, params, context);
  } finally {
    files.close(lock);
  }
}

async function hashLocked(files: Files, params: HashParams, context: JobContext): Promise<HashResult> {
  const { directory, disk } = params;
  const before = changeTime(files, directory, disk), known = readChecksum(files, directory, disk);
  const current = known !== undefined && known.checksum !== "" && known.changeTime === before;
  if (current && (known.silentlyCorrupted || !params.rehash)) {
    return { checksum: known.checksum, silentlyCorrupted: known.silentlyCorrupted };
  }
  const checksum = await crcOf(files, `${directory}/${disk}`, context);
  let after = "";
  try {
    after = changeTime(files, directory, disk);
  } catch (error) {
    if (!(error instanceof IoError) || error.errno !== Errno.ENOENT) throw error;
  }
  if (after !== before) {
    dropChecksum(files, directory, disk);
    throw new Error(`${disk} changed while it was hashed: hash it again`);
  }
  const corrupted = current && known.checksum !== checksum;
  if (corrupted) writeChecksum(files, directory, disk, { ...known, silentlyCorrupted: true });
  else {
    writeChecksum(files, directory, disk, {
      method: CHECKSUM_METHOD,
      checksum,
      changeTime: before,
      lastHashedAt: recordTime(Date.now()),
      silentlyCorrupted: false,
      unknown: {},
    });
  }
  return { checksum: corrupted ? known.checksum : checksum, silentlyCorrupted: corrupted };
}

async function crcOf(files: Files, path: string, context: JobContext): Promise<string> {
  const fd = files.open(path, { direct: true });
  try {
    const size = files.fstat(fd).size, buffer = new Uint8Array(READ_BYTES), crc = new Crc64();
    let done = 0;
    for (let window = 0; window < size; window += WINDOW_BYTES) {
      const end = Math.min(size, window + WINDOW_BYTES);
      if (!files.exists(path)) throw new IoError("hash", path, Errno.ENOENT);
      for (const extent of files.extents(fd, window, end - window)) {
        if (extent.unwritten) continue;
        const from = Math.max(done, extent.offset), to = Math.min(end, extent.offset + extent.length);
        if (to <= from) continue;
        crc.zeros(from - done);
        for (done = from; done < to;) {
          // Direct reads start on a block; extents do, and so does every step.
          const got = files.readAt(fd, buffer.subarray(0, Math.min(READ_BYTES, to - done)), done);
          if (got === 0) throw new IoError("hash", `${path} became shorter`, Errno.EIO);
          crc.update(buffer.subarray(0, got));
          done += got;
          // Lets the news in, and others of this machine have the processor.
          await pause(0);
          checkCancelled(context.signal);
        }
      }
    }
    crc.zeros(size - done);
    return crc.digest();
  } finally {
    files.close(fd);
  }
}
