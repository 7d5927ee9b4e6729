/**
 * Snapshots as a tree, and what their removal would free.
 *
 * A snapshot's file holds what was written between it and the one before. What removal frees depends on the rest:
 *
 * | the snapshot has   | rm and purge free                                                          |
 * |--------------------|----------------------------------------------------------------------------|
 * | no child           | its whole file                                                             |
 * | one child          | what the child has, too: the rest is still needed there                     |
 * | several children   | nothing, until only one is left                                            |
 *
 * @module
 */
import { HEAD_PSEUDO_NAME, snapshotDiskName } from "../../lib/disk/names.ts";
import type { SnapshotInfo } from "../../lib/client/snapshots.ts";
import type { Extent, Files } from "../../lib/io/files.ts";

/** Extents are asked for in steps of this many bytes, so that one answer stays small. */
const STEP_BYTES = 1024 ** 3;

/** One line of the tree. */
export interface TreeLine {
  /** The disk. */
  readonly info: SnapshotInfo;
  /** What stands before its name: the branches. */
  readonly prefix: string;
}

/** The disks in the order of a tree, the oldest first, the line to the head last at each fork. */
export function treeOf(disks: Readonly<Record<string, SnapshotInfo>>): TreeLine[] {
  const lines: TreeLine[] = [], seen = new Set<string>();
  const heavy = headLine(disks);
  const childrenOf = (parent: string) =>
    Object.values(disks).filter((one) => one.parent === parent)
      .sort((a, b) =>
        Number(heavy.has(a.name)) - Number(heavy.has(b.name)) || compareText(a.created, b.created) ||
        compareText(a.name, b.name)
      );
  const visit = (info: SnapshotInfo, prefix: string, below: string): void => {
    if (seen.has(info.name)) return;
    seen.add(info.name);
    lines.push({ info, prefix });
    const children = childrenOf(info.name);
    children.forEach((child, i) => {
      // A chain is no fork: it goes straight down, however long it is.
      if (children.length === 1) return visit(child, below, below);
      const last = i === children.length - 1;
      visit(child, below + (last ? "└─ " : "├─ "), below + (last ? "   " : "│  "));
    });
  };
  for (const root of Object.values(disks)) {
    if (root.parent === "" || !disks[root.parent]) visit(root, "", "");
  }
  return lines;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The head and everything below it. */
function headLine(disks: Readonly<Record<string, SnapshotInfo>>): Set<string> {
  const line = new Set<string>();
  for (
    let one: SnapshotInfo | undefined = disks[HEAD_PSEUDO_NAME];
    one && !line.has(one.name);
    one = disks[one.parent]
  ) {
    line.add(one.name);
  }
  return line;
}

/** Written extents of a file, in order. */
function* writtenIn(files: Files, fd: number): Generator<Extent> {
  const { size } = files.fstat(fd);
  for (let start = 0; start < size; start += STEP_BYTES) {
    const end = Math.min(start + STEP_BYTES, size);
    for (const { offset, length, unwritten } of files.extents(fd, start, end - start)) {
      const from = Math.max(offset, start), to = Math.min(offset + length, end);
      if (!unwritten && to > from) yield { offset: from, length: to - from, unwritten };
    }
  }
}

/** Bytes that are in both of two ordered lists of extents. */
export function overlap(a: Iterable<Extent>, b: Iterable<Extent>): number {
  const [left, right] = [a[Symbol.iterator](), b[Symbol.iterator]()];
  let sum = 0, x = left.next(), y = right.next();
  while (!x.done && !y.done) {
    const xEnd = x.value.offset + x.value.length, yEnd = y.value.offset + y.value.length;
    sum += Math.max(0, Math.min(xEnd, yEnd) - Math.max(x.value.offset, y.value.offset));
    if (xEnd <= yEnd) x = left.next();
    else y = right.next();
  }
  return sum;
}

/**
 * What the removal of a snapshot would free in one copy, bytes; 0 for the head.
 *
 * @param directory of the copy; its files are only looked at
 * @param head file name of the head
 * @throws {IoError}
 */
export function freedByRemoval(files: Files, directory: string, head: string, info: SnapshotInfo): number {
  const children = Object.keys(info.children);
  if (info.name === HEAD_PSEUDO_NAME || children.length > 1) return 0;
  if (children.length === 0) return Number(info.size);
  const child = children[0] === HEAD_PSEUDO_NAME ? head : snapshotDiskName(children[0]);
  const own = files.open(`${directory}/${snapshotDiskName(info.name)}`);
  try {
    const above = files.open(`${directory}/${child}`);
    try {
      return overlap(writtenIn(files, own), writtenIn(files, above));
    } finally {
      files.close(above);
    }
  } finally {
    files.close(own);
  }
}
