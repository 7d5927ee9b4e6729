/**
 * Removing backups of backing images. All backing images of a target share their blocks, so a block goes only when no
 * record of any of them names it; the order of things is that of `collect.ts`: lock, records, a second look at the
 * records, removals.
 *
 * Locks are taken under the name of a volume that does not exist, as Longhorn does.
 *
 * @module
 */
import { nothingRemoved } from "./collect.ts";
import { LockedError, NoSuchBackupError, RecordError } from "./errors.ts";
import { inspectBackingImage, listBackingImages } from "./images.ts";
import { inLanes, laneCount } from "./lanes.ts";
import { Lock, LockKind } from "./lock.ts";
import {
  BACKING_IMAGES,
  BACKING_LOCKS,
  backingBlocksFolder,
  backingImagePath,
  checksumOfPath,
} from "./names.ts";
import type { Entry, Target } from "./target/target.ts";
import type { DeleteOptions, GarbageReport } from "./types.ts";

/** Looks for new records each time so many blocks were removed. */
const RECHECK_BLOCKS = 256;

/** Checksums that the images need; or why nothing may be removed. */
async function neededBy(
  target: Target,
  images: readonly string[],
): Promise<Set<string> | { state: GarbageReport["state"]; detail: string }> {
  const needed = new Set<string>();
  for (const name of images) {
    try {
      const { blocks, completeTime } = await inspectBackingImage(target, name);
      if (completeTime === "") {
        return { state: "in progress", detail: `backing image ${name} is in progress or was cut short` };
      }
      for (const { checksum } of blocks) needed.add(checksum);
    } catch (error) {
      if (error instanceof RecordError) return { state: "unreadable record", detail: error.message };
      if (!(error instanceof NoSuchBackupError)) throw error;
      return { state: "unreadable record", detail: `${backingImagePath(name)} is missing` };
    }
  }
  return needed;
}

async function collect(target: Target, lock: Lock, options: DeleteOptions): Promise<GarbageReport> {
  const images = await listBackingImages(target);
  const needed = await neededBy(target, images);
  if (!(needed instanceof Set)) return nothingRemoved(needed.state, needed.detail);
  const garbage: Entry[] = [];
  let keptBlocks = 0, removedBlocks = 0, removedBytes = 0;
  for await (const entry of target.list(backingBlocksFolder())) {
    const checksum = checksumOfPath(entry.path);
    if (checksum === undefined) continue;
    if (needed.has(checksum)) keptBlocks++;
    else garbage.push(entry);
  }
  let young: string | undefined;
  const look = async (): Promise<void> => {
    young = (await listBackingImages(target)).find((name) => !images.includes(name));
  };
  if (garbage.length > 0) await look();
  await inLanes(garbage, laneCount(options.concurrency), options.signal, async ({ path, bytes }, index) => {
    if (index > 0 && index % RECHECK_BLOCKS === 0) await look();
    if (young !== undefined) return;
    lock.assertHeld();
    await target.remove(path);
    removedBlocks++;
    removedBytes += bytes;
  });
  const state = young === undefined ? "done" : "in progress";
  const detail = young === undefined ? "" : `backing image ${young} has begun`;
  return { state, detail, removedBlocks, removedBytes, keptBlocks };
}

/**
 * Removes the backup of a backing image, and the blocks that no other one needs.
 *
 * @throws {NoSuchBackupError}
 * @throws {LockedError} with `whenBusy: "fail"` while a backing image is backed up or restored
 */
export async function deleteBackingImage(
  target: Target,
  name: string,
  options: DeleteOptions = {},
): Promise<GarbageReport> {
  if (await target.head(backingImagePath(name)) === undefined) {
    throw new NoSuchBackupError(`there is no backing image ${name} on ${target.url}`);
  }
  let lock: Lock;
  try {
    lock = await Lock.acquire(target, BACKING_LOCKS, LockKind.REMOVE, options);
  } catch (error) {
    if (!(error instanceof LockedError) || options.whenBusy === "fail") throw error;
    await target.removeTree(`${BACKING_IMAGES}/${name}/`);
    return nothingRemoved("busy", error.message);
  }
  await using held = lock;
  await target.removeTree(`${BACKING_IMAGES}/${name}/`);
  return await collect(target, held, options);
}
