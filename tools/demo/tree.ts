/**
 * A tree of real files: finding one on this machine, copying it, comparing it by checksums.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { dirname } from "node:path";
import type { Stage } from "./stage.ts";

/** A file. */
export interface TreeFile {
  /** Below the root of its tree. */
  readonly path: string;
  /** Its size. */
  readonly bytes: number;
}

/** Some files of a directory. */
export interface Tree {
  /** The directory. */
  readonly root: string;
  /** In the order of a walk. */
  readonly files: readonly TreeFile[];
  /** The sum of their sizes. */
  readonly bytes: number;
}

/** Enough to be real, little enough for a minute. */
const MOST_FILES = 2500, MOST_BYTES = 48 * 1024 * 1024, LARGEST_BYTES = 16 * 1024 * 1024;
/** A tree with fewer files is passed over when another one has more. */
const FEW_FILES = 200;

function walk(root: string, below: string, found: TreeFile[], budget: { bytes: number }): void {
  let entries: Deno.DirEntry[];
  try {
    entries = [...Deno.readDirSync(`${root}/${below}`)].sort((a, b) => a.name < b.name ? -1 : 1);
  } catch {
    return; // Not ours to read.
  }
  for (const { name, isDirectory, isFile } of entries) {
    if (found.length >= MOST_FILES || budget.bytes <= 0) return;
    const path = below === "" ? name : `${below}/${name}`;
    if (isDirectory) walk(root, path, found, budget);
    if (!isFile) continue;
    const { size, mode } = Deno.statSync(`${root}/${path}`);
    if (size > LARGEST_BYTES || size > budget.bytes || ((mode ?? 0) & 0o444) === 0) continue;
    found.push({ path, bytes: size });
    budget.bytes -= size;
  }
}

/** The first of the directories with enough files, or else the one with most. */
export function findTree(roots: readonly string[]): Tree {
  let best: Tree = { root: "", files: [], bytes: 0 };
  for (const root of roots) {
    const files: TreeFile[] = [];
    walk(root, "", files, { bytes: MOST_BYTES });
    if (files.length > best.files.length) {
      best = { root, files, bytes: files.reduce((sum, file) => sum + file.bytes, 0) };
    }
    if (best.files.length >= FEW_FILES) break;
  }
  return best;
}

/** Undefined for a file that has gone meanwhile: the tree belongs to somebody else. */
async function readIfThere(path: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  try {
    return await Deno.readFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Copies the files, and returns the SHA-256 of each as it was read. */
export async function copyTree(
  stage: Stage,
  tree: Tree,
  to: string,
  progress: (files: number) => void,
): Promise<Map<string, string>> {
  const sums = new Map<string, string>();
  const made = new Set<string>();
  for (const { path } of tree.files) {
    stage.check();
    const directory = dirname(`${to}/${path}`);
    if (!made.has(directory)) await Deno.mkdir(directory, { recursive: true });
    made.add(directory);
    const bytes = await readIfThere(`${tree.root}/${path}`);
    if (!bytes) continue;
    await Deno.writeFile(`${to}/${path}`, bytes);
    sums.set(path, createHash("sha256").update(bytes).digest("hex"));
    if (sums.size % 50 === 0) progress(sums.size);
  }
  return sums;
}

/** Reads the files again and compares their checksums. @returns the paths that differ or are missing */
export async function compareTree(
  stage: Stage,
  root: string,
  sums: ReadonlyMap<string, string>,
): Promise<string[]> {
  const bad: string[] = [];
  for (const [path, sum] of sums) {
    stage.check();
    try {
      const bytes = await Deno.readFile(`${root}/${path}`);
      if (createHash("sha256").update(bytes).digest("hex") !== sum) bad.push(path);
    } catch {
      bad.push(path);
    }
  }
  return bad;
}
