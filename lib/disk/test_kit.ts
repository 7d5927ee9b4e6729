/**
 * Helpers of this room's tests: a replica whose requests are awaited one by one, directories made by hand as
 * Longhorn leaves them, and recognisable content.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Files } from "../io/files.ts";
import type { Io } from "../io/io.ts";
import { openIo } from "../io/open.ts";
import { settleOne } from "../io/test_kit.ts";
import type { ReplicaDisk } from "./replica_disk.ts";

/** Bytes of a block. */
export const BLOCK = 4096;
/** Creation time in records made by hand. */
export const CREATED = "2026-07-12T08:00:00Z";

/** One disk of a directory made by hand. */
export interface HandmadeDisk {
  /** File name. */
  readonly name: string;
  /** Parent's file name. */
  readonly parent?: string;
  /** Marked for deletion. */
  readonly removed?: boolean;
  /** Content by block number. */
  readonly blocks?: ReadonlyMap<number, Uint8Array>;
  /** Apparent size, bytes; default that of the volume. */
  readonly size?: number;
}

/** A directory made by hand. */
export interface HandmadeReplica {
  /** Size of the volume, bytes. */
  readonly size: number;
  /** Every disk; the last one is the head. */
  readonly disks: readonly HandmadeDisk[];
  /** Not closed cleanly. */
  readonly dirty?: boolean;
  /** Path of a backing file. */
  readonly backingFile?: string;
}

/** A block filled with a number. */
export function block(fill: number): Uint8Array {
  return new Uint8Array(BLOCK).fill(fill);
}

/** Writes a whole file. */
export function put(files: Files, path: string, content: Uint8Array | string): void {
  const fd = files.open(path, { write: true, create: 0o600, truncate: true });
  try {
    files.writeAt(fd, typeof content === "string" ? new TextEncoder().encode(content) : content, 0);
    files.sync(fd);
  } finally {
    files.close(fd);
  }
}

/** The text of a whole file. */
export function text(files: Files, path: string): string {
  return new TextDecoder().decode(files.readWhole(path));
}

/** The record of a disk, as Longhorn writes it. */
export function recordText(disk: HandmadeDisk): string {
  return `{"Name":"${disk.name}","Parent":"${disk.parent ?? ""}","Removed":${disk.removed ?? false},` +
    `"UserCreated":true,"Created":"${CREATED}","Labels":null}\n`;
}

/** The text of volume.meta, as Longhorn writes it. */
export function metaText(replica: HandmadeReplica): string {
  const head = replica.disks[replica.disks.length - 1];
  return `{"Size":${replica.size},"Head":"${head.name}","Dirty":${
    replica.dirty ?? false
  },"Rebuilding":false,` +
    `"Error":"","Parent":"${head.parent ?? ""}","SectorSize":512,` +
    `"BackingFilePath":"${replica.backingFile ?? ""}","Encrypted":false}\n`;
}

/** Makes a directory, durably. */
export function make(files: Files, directory: string, replica: HandmadeReplica): void {
  files.makeDirectory(directory, 0o700);
  for (const disk of replica.disks) {
    const path = `${directory}/${disk.name}`;
    const fd = files.open(path, { write: true, create: 0o644, truncate: true });
    files.truncate(fd, disk.size ?? replica.size);
    for (const [number, content] of disk.blocks ?? []) files.writeAt(fd, content, number * BLOCK);
    files.sync(fd);
    files.close(fd);
    put(files, `${path}.meta`, recordText(disk));
  }
  put(files, `${directory}/volume.meta`, metaText(replica));
  files.syncDirectory(directory);
  files.syncDirectory(directory.replace(/\/[^/]+$/, "") || "/");
}

/** A replica whose requests are waited for. */
export class Awaited {
  readonly #at: number;

  /** Uses 2 MiB of the arena for data: at `at`, or its own. */
  constructor(readonly io: Io, readonly disk: ReplicaDisk, at?: number) {
    this.#at = at ?? io.arena.reserve(2 * 1024 * 1024, BLOCK);
  }

  /** Reads; @returns the bytes, or `-errno` @param shift misaligns the buffer by so many bytes */
  read(offset: number, length: number, shift = 0): Uint8Array | number {
    const at = this.#at + shift;
    this.io.arena.u8.fill(0xee, at, at + length);
    const result = settleOne(this.io, (who, tag) => this.disk.read(offset, length, at, who, tag));
    return result < 0 ? result : this.io.arena.u8.slice(at, at + result);
  }

  /** Writes; @returns the result */
  write(offset: number, bytes: Uint8Array, shift = 0, durable = false): number {
    const at = this.#at + shift;
    this.io.arena.u8.set(bytes, at);
    return settleOne(
      this.io,
      (who, tag) => this.disk.write(offset, bytes.length, at, durable, who, tag),
    );
  }

  /** Unmaps; @returns the result */
  unmap(offset: number, length: number): number {
    return settleOne(this.io, (who, tag) => this.disk.unmap(offset, length, who, tag));
  }

  /** Flushes; @returns the result */
  flush(): number {
    return settleOne(this.io, (who, tag) => this.disk.flush(who, tag));
  }
}

/** The byte that fills a whole block, which is read through the replica. */
export function readBlock(disk: Awaited, number: number): number {
  const found = disk.read(number * BLOCK, BLOCK);
  assert(typeof found !== "number", `read: ${found}`);
  assert(found.every((byte) => byte === found[0]), `block ${number} is mixed`);
  return found[0];
}

/** Registers a test with an Io and a directory for replicas that is gone afterwards. */
export function diskTest(name: string, body: (io: Io, directory: string) => void): void {
  Deno.test(name, () => {
    const directory = Deno.makeTempDirSync({ prefix: "drover-disk-" });
    try {
      using io = openIo({ arenaBytes: 64 * 1024 * 1024 });
      body(io, directory);
    } finally {
      Deno.removeSync(directory, { recursive: true });
    }
  });
}

/**
 * Content of a closed replica as Longhorn finds it: each block from the newest file that has any extent there,
 * written or not; what none has, from the oldest.
 */
export function longhornView(files: Files, directory: string): Uint8Array {
  const meta = JSON.parse(text(files, `${directory}/volume.meta`));
  const result = new Uint8Array(meta.Size), paths: string[] = [];
  for (
    let disk = meta.Head;
    disk !== "";
    disk = JSON.parse(text(files, `${directory}/${disk}.meta`)).Parent
  ) {
    paths.unshift(`${directory}/${disk}`);
  }
  if (meta.BackingFilePath !== "") paths.unshift(meta.BackingFilePath);
  paths.forEach((path, index) => {
    const fd = files.open(path);
    const length = Math.ceil(meta.Size / BLOCK) * BLOCK;
    const extents = index === 0 ? [{ offset: 0, length }] : files.extents(fd, 0, length);
    for (const extent of extents) {
      const from = Math.floor(extent.offset / BLOCK) * BLOCK;
      const to = Math.min(meta.Size, Math.ceil((extent.offset + extent.length) / BLOCK) * BLOCK);
      const bytes = new Uint8Array(Math.max(0, to - from));
      files.readAt(fd, bytes, from);
      result.set(bytes, from);
    }
    files.close(fd);
  });
  return result;
}
