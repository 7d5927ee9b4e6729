/**
 * What a crash in the middle of a snapshot, a revert or a replacement of metadata leaves in a directory, and
 * which of it is removed when the directory is opened.
 *
 * A snapshot creates a new head, links the old head's files to the snapshot's names, writes `volume.meta` (from
 * here on the new head counts), and unlinks the old head. So after a crash there may be:
 *
 * | Left over | How it is told | What is done |
 * |---|---|---|
 * | new head, not yet in `volume.meta` | a head, not in the chain, no data, nobody's parent | removed |
 * | snapshot's name for the head's file | a disk with the head's inode | removed, else the snapshot would change |
 * | old head's name for the snapshot's file | a head with the inode of a disk in the chain | removed |
 * | merged file's old name | a removed, childless snapshot, not in the chain, with the inode of a disk in it | removed |
 * | record without a file | of a head, or of a removed, childless disk outside the chain | removed |
 * | `*.tmp` of a record | its name | removed |
 * | old head after a revert, with data | a head, not in the chain, with data | kept: it is data, and it shows up as a branch |
 *
 * Nothing in the live chain is ever touched.
 *
 * @module
 */
import type { Files, FileStat } from "../io/files.ts";
import { removeIfThere } from "./atomic.ts";
import type { DiskSet } from "./disk_set.ts";
import { CHECKSUM_SUFFIX, headNumber, IMAGE_SUFFIX, isTemporary, META_SUFFIX } from "./names.ts";

/**
 * Removes leftovers; see the module text. Removing may be cut short by a crash at any point and is done again
 * at the next open.
 *
 * @param names the directory's list
 * @param set its records; those of removed disks are deleted from it
 * @param chain the live chain, the head first
 * @returns names of the files that were removed
 * @throws {IoError}
 */
export function removeLeftovers(
  files: Files,
  directory: string,
  names: readonly string[],
  set: DiskSet,
  chain: readonly string[],
): string[] {
  const removed: string[] = [];
  const remove = (name: string) => {
    if (removeIfThere(files, `${directory}/${name}`)) removed.push(name);
  };
  const images = new Map<string, FileStat>();
  for (const name of names) {
    if (isTemporary(name)) remove(name);
    if (name.endsWith(IMAGE_SUFFIX)) images.set(name, files.stat(`${directory}/${name}`));
  }
  const live = new Set(chain.map((disk) => images.get(disk)?.inode));
  const headInode = images.get(chain[0])?.inode;
  for (const [disk, stat] of images) {
    if (chain.includes(disk)) continue;
    const empty = stat.allocated === 0 && set.children(disk).length === 0;
    const merged = set.get(disk)?.removed === true && set.children(disk).length === 0 && live.has(stat.inode);
    const leftover = headNumber(disk) === undefined
      ? stat.inode === headInode || merged
      : live.has(stat.inode) || empty;
    if (leftover) removeDisk(disk);
  }
  for (const disk of [...set.records.keys(), ...set.broken.keys()]) {
    if (chain.includes(disk) || images.has(disk)) continue;
    const removing = set.get(disk)?.removed === true && set.children(disk).length === 0;
    if (headNumber(disk) !== undefined || removing) removeDisk(disk);
  }
  if (removed.length > 0) files.syncDirectory(directory);
  return removed;

  /** The data file goes last, durably: as long as it is there, the next open finds the rest. */
  function removeDisk(disk: string): void {
    remove(disk + CHECKSUM_SUFFIX);
    remove(disk + META_SUFFIX);
    if (images.has(disk)) files.syncDirectory(directory);
    remove(disk);
    set.delete(disk);
  }
}
