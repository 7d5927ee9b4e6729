/**
 * The names of a simulated disk: a tree of directories, and the journal of what changed in it and is not
 * durable yet.
 *
 * A name operation is one journal entry, however many names it sets: a rename is never half done.
 *
 * @module
 */
import { Errno, IoError } from "../errno.ts";
import { DirectoryInode, FileInode, type Inode } from "./inode.ts";
import type { Random } from "./random.ts";

/** One name set (or removed: `to` is null) in one directory. */
export interface NameChange {
  /** Where. */
  readonly directory: DirectoryInode;
  /** One part of a path. */
  readonly name: string;
  /** What it names from now on; null: nothing. */
  readonly to: Inode | null;
}

interface JournalEntry {
  readonly changes: readonly NameChange[];
  /** The inode whose names these are, besides the directories. */
  readonly subject: Inode;
}

/** Options of {@linkcode Names}, see `DiskOptions`. */
export interface NamesOptions {
  /** What a power cut may lose. */
  readonly names: "ordered" | "weak";
  /** A probability. */
  readonly fileSyncCommitsNames: number;
  /** A probability. */
  readonly backgroundCommit: number;
}

/** ENAMETOOLONG and its limit, linux/limits.h NAME_MAX. */
const ENAMETOOLONG = 36;
const NAME_MAX = 255;

/** Splits an absolute path; `.` and empty parts are dropped. */
export function splitPath(operation: string, path: string): string[] {
  if (!path.startsWith("/")) throw new IoError(operation, `${path} (not absolute)`, Errno.EINVAL);
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  for (const part of parts) {
    if (part === ".." || part.includes("\0")) throw new IoError(operation, path, Errno.EINVAL);
    if (part.length > NAME_MAX) throw new IoError(operation, path, ENAMETOOLONG);
  }
  return parts;
}

/** Where a path leads: the directory it is in and its last part. */
export interface Place {
  /** Where the name is, or would be. */
  readonly directory: DirectoryInode;
  /** The last part of the path. */
  readonly name: string;
}

/** The directory tree in two states. */
export class Names {
  /** The root directory; its own name needs no journal. */
  readonly root: DirectoryInode;
  readonly #random: Random;
  readonly #options: NamesOptions;
  #journal: JournalEntry[] = [];
  /** Called with (entries made durable, entries left). */
  onCommit: (committed: number, left: number) => void = () => {};

  /** Names under an empty directory. */
  constructor(root: DirectoryInode, random: Random, options: NamesOptions) {
    this.root = root;
    this.#random = random;
    this.#options = options;
  }

  /** Entries that a power cut may lose. */
  get pending(): number {
    return this.#journal.length;
  }

  /** Where a path leads, whether the name exists or not. @throws IoError ENOENT, ENOTDIR, EISDIR for the root */
  place(operation: string, path: string): Place {
    const parts = splitPath(operation, path);
    const name = parts.pop();
    if (name === undefined) throw new IoError(operation, path, Errno.EISDIR);
    return { directory: this.#walk(operation, path, parts), name };
  }

  /** The inode at a path, or null when its directory has no such name. @throws IoError ENOENT, ENOTDIR */
  find(operation: string, path: string): Inode | null {
    const parts = splitPath(operation, path);
    const name = parts.pop();
    if (name === undefined) return this.root;
    return this.#walk(operation, path, parts).entries.get(name) ?? null;
  }

  /** The inode at a path. @throws IoError ENOENT, ENOTDIR */
  need(operation: string, path: string): Inode {
    const found = this.find(operation, path);
    if (found === null) throw new IoError(operation, path, Errno.ENOENT);
    return found;
  }

  /** The directory at a path. @throws IoError ENOENT, ENOTDIR */
  needDirectory(operation: string, path: string): DirectoryInode {
    const found = this.need(operation, path);
    if (!(found instanceof DirectoryInode)) throw new IoError(operation, path, Errno.ENOTDIR);
    return found;
  }

  #walk(operation: string, path: string, parts: readonly string[]): DirectoryInode {
    let directory = this.root;
    for (const part of parts) {
      const next = directory.entries.get(part);
      if (next === undefined) throw new IoError(operation, path, Errno.ENOENT);
      if (!(next instanceof DirectoryInode)) throw new IoError(operation, path, Errno.ENOTDIR);
      directory = next;
    }
    return directory;
  }

  /** One name operation: seen at once, durable some time. Link counts of files are kept. */
  apply(subject: Inode, changes: readonly NameChange[]): void {
    for (const { directory, name, to } of changes) {
      const before = directory.entries.get(name);
      if (before !== undefined) before.links--;
      if (to === null) directory.entries.delete(name);
      else {
        to.links++;
        directory.entries.set(name, to);
      }
    }
    this.#journal.push({ changes, subject });
    if (this.#random.chance(this.#options.backgroundCommit)) {
      this.#commitFirst(this.#random.between(1, this.#journal.length));
    }
  }

  /** fsync of a directory: what was done in it is durable. */
  syncDirectory(directory: DirectoryInode): void {
    this.#syncWhere((entry) => entry.changes.some((change) => change.directory === directory));
  }

  /** fsync of a file: its names may become durable, by draw. */
  syncFile(file: Inode): void {
    if (this.#journal.length === 0) return;
    if (this.#random.chance(this.#options.fileSyncCommitsNames)) {
      this.#syncWhere((entry) => entry.subject === file);
    }
  }

  #syncWhere(wanted: (entry: JournalEntry) => boolean): void {
    if (this.#options.names === "weak" && this.#random.chance(0.7)) {
      this.#commitClosure(wanted);
      return;
    }
    let last = this.#journal.length;
    while (last > 0) {
      const entry = this.#journal[last - 1];
      if (entry !== undefined && wanted(entry)) break;
      last--;
    }
    // A journal's commit takes everything along, but nobody promised that.
    if (this.#random.chance(0.3)) last = this.#journal.length;
    this.#commitFirst(last);
  }

  #commitFirst(count: number): void {
    if (count === 0) return;
    for (let index = 0; index < count; index++) store(this.#journal[index]);
    this.#journal.splice(0, count);
    this.onCommit(count, this.#journal.length);
  }

  /** Commits the wanted entries and those before them on which they build. */
  #commitClosure(wanted: (entry: JournalEntry) => boolean): void {
    const taken = new Set<JournalEntry>();
    const touched = new Set<Inode>();
    for (let index = this.#journal.length - 1; index >= 0; index--) {
      const entry = this.#journal[index];
      if (entry === undefined || !(wanted(entry) || touches(entry, touched))) continue;
      taken.add(entry);
      addTouched(entry, touched);
    }
    const left = this.#journal.filter((entry) => !taken.has(entry));
    for (const entry of this.#journal) if (taken.has(entry)) store(entry);
    this.#journal = left;
    if (taken.size > 0) this.onCommit(taken.size, left.length);
  }

  /**
   * A power cut: some pending entries survive, the rest never happened.
   *
   * @returns the files that still have a name
   */
  cut(): Set<FileInode> {
    const before = this.#journal.length;
    if (this.#options.names === "weak") this.#cutWeak();
    else this.#commitFirst(this.#survivors(before));
    this.#journal = [];
    const files = new Set<FileInode>();
    const visit = (directory: DirectoryInode): void => {
      directory.entries = new Map(directory.stored);
      for (const inode of directory.entries.values()) inode.links = 0;
      for (const inode of directory.entries.values()) if (inode instanceof FileInode) files.add(inode);
      for (const inode of directory.entries.values()) if (inode instanceof DirectoryInode) visit(inode);
    };
    visit(this.root);
    const count = (directory: DirectoryInode): void => {
      for (const inode of directory.entries.values()) {
        inode.links++;
        if (inode instanceof DirectoryInode) count(inode);
      }
    };
    count(this.root);
    return files;
  }

  /** How many of the first entries survive: all, none, or some. */
  #survivors(pending: number): number {
    const draw = this.#random.unit();
    if (draw < 0.25) return 0;
    if (draw < 0.5) return pending;
    return this.#random.between(0, pending);
  }

  #cutWeak(): void {
    const broken = new Set<Inode>();
    const keep = this.#random.pick([0, 0.3, 0.5, 0.8, 1]);
    let committed = 0;
    for (const entry of this.#journal) {
      if (!touches(entry, broken) && this.#random.chance(keep)) {
        store(entry);
        committed++;
      } else addTouched(entry, broken);
    }
    this.onCommit(committed, this.#journal.length - committed);
  }
}

function store(entry: JournalEntry | undefined): void {
  if (entry === undefined) return;
  for (const { directory, name, to } of entry.changes) {
    if (to === null) directory.stored.delete(name);
    else directory.stored.set(name, to);
  }
}

function touches(entry: JournalEntry, inodes: ReadonlySet<Inode>): boolean {
  return inodes.has(entry.subject) || entry.changes.some((change) => inodes.has(change.directory));
}

function addTouched(entry: JournalEntry, inodes: Set<Inode>): void {
  inodes.add(entry.subject);
  for (const change of entry.changes) inodes.add(change.directory);
}
