/**
 * Which file system a path is on: some cannot hold replicas (no extents, no holes) or lose them at the next boot.
 *
 * @module
 */
import { statfsSync } from "node:fs";

/** Names of file systems by the magic number that statfs(2) returns; linux/magic.h and the file systems' sources. */
const NAMES: ReadonlyMap<number, string> = new Map([
  [0xef53, "ext4"], // ext2 and ext3 have the same number
  [0x58465342, "xfs"],
  [0x9123683e, "btrfs"],
  [0x01021994, "tmpfs"],
  [0x858458f6, "ramfs"],
  [0x794c7630, "overlay"],
  [0x6969, "nfs"],
  [0xff534d42, "cifs"],
  [0xfe534d42, "smb2"],
  [0x65735546, "fuse"],
  [0x00c36400, "ceph"],
  [0x2fc12fc1, "zfs"],
  [0xf2f52010, "f2fs"],
  [0x52654973, "reiserfs"],
  [0x73717368, "squashfs"],
]);

/**
 * The type of the file system that a path is on, such as `ext4`; an unknown one as its number, `0x1234`.
 * Do not ask about a path that this very process serves through FUSE.
 *
 * @throws the runtime's error when the path cannot be looked at
 */
export function fileSystemType(path: string): string {
  const magic = statfsSync(path).type >>> 0;
  return NAMES.get(magic) ?? `0x${magic.toString(16)}`;
}

/** File systems that a replica directory works on: FIEMAP, holes and O_DIRECT, and it survives a boot. */
export const GOOD_FILE_SYSTEMS: readonly string[] = ["ext4", "xfs", "btrfs", "f2fs"];
