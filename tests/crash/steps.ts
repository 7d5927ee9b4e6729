/**
 * One change of a replica directory on a real file system, in a process of its own that is killed after its n-th
 * system call that changes a file; and the look at what is left.
 *
 * ```text
 * steps.ts make|look DIRECTORY [CHANGE] [N]
 * ```
 *
 * `look` prints JSON: the content of the volume and of every snapshot, a byte per block.
 *
 * @module
 */
import { FileQueue } from "../../lib/io/file_queue.ts";
import { ReplicaDisk } from "../../lib/disk/replica_disk.ts";
import type { Io } from "../../lib/io/io.ts";
import { openIo } from "../../lib/io/open.ts";
import { settleOne } from "../../lib/io/test_kit.ts";
import { purge } from "../../lib/replica/sync/purge.ts";
import { ReceivedFile } from "../../lib/replica/sync/received_file.ts";
import { SnapshotSource } from "../../lib/replica/sync/snapshot_source.ts";
import { CrashPoint } from "./crashing.ts";

/** Blocks of the volume. */
export const BLOCKS = 16;
const BLOCK = 4096, BYTES = BLOCKS * BLOCK, CREATED = "2026-01-01T00:00:00Z";

/** What a look finds. */
export interface View {
  /** Bytes of the volume. */
  readonly bytes: number;
  /** First byte of every block, as the host sees it; -1 for a block that is torn. */
  readonly head: readonly number[];
  /** The same of every snapshot that is not marked as removed. */
  readonly snapshots: Readonly<Record<string, readonly number[]>>;
}

function fill(io: Io, disk: ReplicaDisk, first: number, count: number, value: number): void {
  const at = io.arena.reserve(count * BLOCK, BLOCK);
  io.arena.u8.fill(value, at, at + count * BLOCK);
  const result = settleOne(io, (who, tag) => disk.write(first * BLOCK, count * BLOCK, at, false, who, tag));
  if (result !== count * BLOCK) throw new Error(`write: ${result}`);
}

function flush(io: Io, disk: ReplicaDisk): void {
  if (settleOne(io, (who, tag) => disk.flush(who, tag)) < 0) throw new Error("flush");
}

function snapshot(disk: ReplicaDisk, name: string): void {
  disk.changes.snapshot(name, { userCreated: true, created: CREATED });
}

/** What is done before the change that is cut short: `a` below `b` below the head. */
function base(io: Io, directory: string): void {
  ReplicaDisk.create(io, directory, { size: BYTES });
  const disk = ReplicaDisk.open(io, directory, {});
  fill(io, disk, 0, 8, 1);
  snapshot(disk, "a");
  fill(io, disk, 2, 4, 2);
  snapshot(disk, "b");
  fill(io, disk, 4, 4, 3);
  flush(io, disk);
  disk.close();
}

/** The steps of a purge, as the sync agent makes them, but synchronously. */
async function purgeAll(io: Io, disk: ReplicaDisk): Promise<void> {
  const describe = () => {
    const info = disk.info();
    return {
      head: info.head,
      backingFile: "",
      disks: Object.fromEntries(
        [...info.disks.values()].map((d) => [d.name, { ...d, labels: {}, children: {} }]),
      ),
    };
  };
  const text = (body: unknown, key: string) => String((body as Record<string, unknown>)[key]);
  const head = () => disk.info().head;
  await purge({
    call: (kind, body) => {
      if (kind === "get") return Promise.resolve(describe());
      if (kind === "prepareRemove") {
        return Promise.resolve({ operations: disk.changes.prepareRemove(text(body, "name")) });
      }
      if (kind === "coalesce") {
        settleOne(
          io,
          (who, tag) => disk.folds.coalesce(text(body, "source"), text(body, "target"), head(), who, tag),
        );
      } else if (kind === "prune") {
        settleOne(io, (who, tag) => disk.folds.prune(text(body, "source"), head(), who, tag));
      } else if (kind === "replaceDisk") disk.changes.replace(text(body, "target"), text(body, "source"));
      else if (kind === "removeDisk") disk.changes.remove(text(body, "name"), false);
      return Promise.resolve({});
    },
  }, () => {});
}

/** The changes, by name. */
export const CHANGES: Readonly<Record<string, (io: Io, disk: ReplicaDisk) => void | Promise<void>>> = {
  write: (io, disk) => fill(io, disk, 0, 8, 9),
  "write and flush": (io, disk) => {
    fill(io, disk, 0, 8, 9);
    flush(io, disk);
  },
  unmap: (io, disk) => void settleOne(io, (who, tag) => disk.unmap(0, 8 * BLOCK, who, tag)),
  snapshot: (_io, disk) => snapshot(disk, "c"),
  expand: (_io, disk) => disk.changes.expand(2 * BYTES),
  revert: (_io, disk) => disk.changes.revert("a", CREATED),
  coalesce: async (io, disk) => {
    disk.markRemoved("a");
    await purgeAll(io, disk);
  },
  prune: async (io, disk) => {
    disk.markRemoved("b");
    await purgeAll(io, disk);
  },
  remove: (_io, disk) => disk.changes.remove("volume-snap-b.img", true),
  "rebuild note": (_io, disk) => {
    disk.setRebuilding(true);
    disk.setRebuilding(false);
  },
  close: (io, disk) => {
    fill(io, disk, 8, 1, 4);
    disk.close();
  },
};

/**
 * Makes a copy of the base in another directory, as the receiving side of a rebuild does: joined above a snapshot,
 * marked, filled file by file, looked at anew, and unmarked.
 */
async function rebuild(io: Io, from: string, to: string): Promise<void> {
  ReplicaDisk.create(io, to, { size: BYTES });
  // What it writes is small, and so goes through the files that are watched.
  const disk = ReplicaDisk.open(io, to, {}), { files } = io, queue = new FileQueue(files);
  disk.setRebuilding(true);
  if (!disk.info().disks.has("volume-snap-b.img")) snapshot(disk, "b");
  for (
    const name of [
      "volume-snap-a.img",
      "volume-snap-a.img.meta",
      "volume-snap-b.img",
      "volume-snap-b.img.meta",
    ]
  ) {
    const file = new ReceivedFile(files, queue, to, name),
      fd = files.open(`${from}/${name}`),
      { size } = files.fstat(fd);
    file.open(size, false);
    if (name.endsWith(".meta")) file.write(files.readWhole(`${from}/${name}`), 0, []);
    else {
      file.hole(0, size);
      for (const { offset, length } of files.extents(fd, 0, size)) {
        const bytes = new Uint8Array(length);
        files.readAt(fd, bytes, offset);
        file.write(bytes, offset, []);
      }
    }
    await file.finish("", "");
    files.close(fd);
  }
  queue.close();
  disk.changes.reload();
  disk.setRebuilding(false);
  disk.close();
}

/** Changes that make another directory; cut short, they are begun again and must come to the same end. */
export const MADE_ANEW: Readonly<Record<string, (io: Io, from: string, to: string) => void | Promise<void>>> =
  {
    create: (io, _from, to) => ReplicaDisk.create(io, to, { size: BYTES }),
    rebuild,
  };

/** Makes the base, or a change on it. */
async function make(directory: string, change: string, last: number): Promise<void> {
  using real = openIo({ arenaBytes: 32 * 1024 * 1024 });
  const point = new CrashPoint(last), io = point.over(real);
  if (change === "base") return base(io, directory);
  const anew = MADE_ANEW[change];
  if (anew) return await anew(io, directory, `${directory}.new`);
  const disk = ReplicaDisk.open(io, directory, {});
  await CHANGES[change](io, disk);
  if (change !== "close") disk.close();
}

function blocks(bytes: Uint8Array): number[] {
  return Array.from({ length: bytes.length / BLOCK }, (_, i) => {
    const block = bytes.subarray(i * BLOCK, (i + 1) * BLOCK);
    return block.every((byte) => byte === block[0]) ? block[0] : -1;
  });
}

/** Opens what is left and tells what is in it. */
function look(directory: string): View {
  using io = openIo({ arenaBytes: 32 * 1024 * 1024 });
  const disk = ReplicaDisk.open(io, directory, {});
  const { bytes } = disk, at = io.arena.reserve(bytes, BLOCK);
  const result = settleOne(io, (who, tag) => disk.read(0, bytes, at, who, tag));
  if (result !== bytes) throw new Error(`read: ${result}`);
  const head = blocks(io.arena.u8.slice(at, at + bytes)), info = disk.info();
  const snapshots: Record<string, number[]> = {};
  for (const one of info.disks.values()) {
    if (one.name === info.head || one.removed || !one.name.startsWith("volume-snap-")) continue;
    using source = new SnapshotSource(io.files, directory, one.name);
    const content = new Uint8Array(source.bytes);
    source.read(0, content);
    snapshots[one.name.slice("volume-snap-".length, -".img".length)] = blocks(content);
  }
  disk.close();
  return { bytes, head, snapshots };
}

if (import.meta.main) {
  const [what, directory, change = "", last = "Infinity"] = Deno.args;
  if (what === "look") console.log(JSON.stringify(look(directory)));
  else await make(directory, change, Number(last));
}
