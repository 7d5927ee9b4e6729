/** A snapshot or revert as Longhorn makes it, cut short after every step. */
import assert from "node:assert/strict";
import type { Files } from "../io/files.ts";
import { openIo } from "../io/open.ts";
import { tempDir } from "../../tests/support/temp.ts";
import { ReplicaDisk } from "./replica_disk.ts";
import {
  Awaited,
  BLOCK,
  block,
  type HandmadeDisk,
  longhornView,
  make,
  metaText,
  put,
  recordText,
} from "./test_kit.ts";

const SIZE = 1024 * 1024;
const OLD = "volume-head-010.img";
/** What Longhorn calls the head after number 010. */
const NEW = "volume-head-001.img";
const SNAPSHOT = "volume-snap-new.img";
const BASE: HandmadeDisk = { name: "volume-snap-base.img", blocks: new Map([[0, block(1)]]) };

type Step = (files: Files, directory: string) => void;

function empty(name: string): Step {
  return (files, directory) => {
    const fd = files.open(`${directory}/${name}`, { write: true, create: 0o644 });
    files.truncate(fd, SIZE);
    files.close(fd);
  };
}

const meta = (disks: HandmadeDisk[]): Step => (files, directory) =>
  put(files, `${directory}/volume.meta`, metaText({ size: SIZE, disks, dirty: true }));
const record = (disk: HandmadeDisk): Step => (files, directory) => {
  // Replaced by renaming, so that a hard link to the old record is not written through.
  put(files, `${directory}/${disk.name}.meta.tmp`, recordText(disk));
  files.rename(`${directory}/${disk.name}.meta.tmp`, `${directory}/${disk.name}.meta`);
};
const unlink = (name: string): Step => (files, directory) => files.unlink(`${directory}/${name}`);
const link = (from: string, to: string): Step => (files, directory) =>
  files.link(`${directory}/${from}`, `${directory}/${to}`);

const SNAPSHOT_STEPS: readonly Step[] = [
  empty(NEW),
  (files, directory) => put(files, `${directory}/${NEW}.meta.tmp`, `{"Na`),
  record({ name: NEW, parent: SNAPSHOT }),
  link(OLD, SNAPSHOT),
  link(`${OLD}.meta`, `${SNAPSHOT}.meta`),
  meta([{ name: NEW, parent: SNAPSHOT }]),
  record({ name: SNAPSHOT, parent: BASE.name }),
  unlink(OLD),
  unlink(`${OLD}.meta`),
];
/** From this step on the new head counts. */
const SNAPSHOT_DONE = 5;

function disks(files: Files, directory: string): string[] {
  return files.list(directory).filter((name) => name.endsWith(".img") || name.endsWith(".img.meta"));
}

const both = (...names: string[]) => names.flatMap((name) => [name, `${name}.meta`]).sort();

for (const metaLost of [false, true]) {
  Deno.test(`a snapshot cut short after any step leaves a replica that opens${metaLost ? ", also without volume.meta" : ""}`, () => {
    using io = openIo({ arenaBytes: 128 * 1024 * 1024 });
    for (let done = 0; done <= SNAPSHOT_STEPS.length; done++) {
      using top = tempDir();
      const directory = top.join("r"), files = io.files;
      const head = { name: OLD, parent: BASE.name, blocks: new Map([[1, block(2)]]) };
      make(files, directory, { size: SIZE, disks: [BASE, head], dirty: true });
      for (const step of SNAPSHOT_STEPS.slice(0, done)) step(files, directory);
      if (metaLost) put(files, `${directory}/volume.meta`, "");

      let disk = ReplicaDisk.open(io, directory), awaited = new Awaited(io, disk);
      // Without volume.meta the snapshot counts as soon as all of it is there.
      const taken = done > (metaLost ? SNAPSHOT_DONE - 1 : SNAPSHOT_DONE);
      const chain = taken ? [NEW, SNAPSHOT, BASE.name] : [OLD, BASE.name];
      assert.deepEqual(disk.info().chain, chain, `after ${done} steps`);
      assert.deepEqual(disks(files, directory), both(...chain), `after ${done} steps`);
      assert(files.list(directory).every((name) => !name.endsWith(".tmp")));
      // Writing to the head must not change the snapshot.
      assert.equal(awaited.write(BLOCK, block(3)), BLOCK);
      if (taken) assert.equal(files.readWhole(`${directory}/${SNAPSHOT}`, SIZE)[BLOCK], 2);
      disk.close();
      disk = ReplicaDisk.open(io, directory);
      awaited = new Awaited(io, disk);
      assert.deepEqual(disk.notes, []);
      const found = awaited.read(0, 3 * BLOCK) as Uint8Array;
      assert.deepEqual([found[0], found[BLOCK], found[2 * BLOCK]], [1, 3, 0]);
      disk.close();
      assert.equal(longhornView(files, directory)[BLOCK], 3);
    }
  });
}

Deno.test("a revert cut short keeps the old head's data as a branch, and an unused new head goes", () => {
  using io = openIo({ arenaBytes: 64 * 1024 * 1024 });
  const steps: Step[] = [
    empty(NEW),
    record({ name: NEW, parent: BASE.name }),
    meta([{ name: NEW, parent: BASE.name }]),
  ];
  for (let done = 0; done <= steps.length; done++) {
    using top = tempDir();
    const directory = top.join("r"), files = io.files;
    const head = { name: OLD, parent: BASE.name, blocks: new Map([[1, block(2)]]) };
    make(files, directory, { size: SIZE, disks: [BASE, head], dirty: true });
    for (const step of steps.slice(0, done)) step(files, directory);
    const disk = ReplicaDisk.open(io, directory);
    const reverted = done === steps.length;
    assert.equal(disk.info().head, reverted ? NEW : OLD);
    assert.deepEqual(disks(files, directory), both(BASE.name, OLD, ...(reverted ? [NEW] : [])));
    const found = new Awaited(io, disk).read(BLOCK, BLOCK) as Uint8Array;
    assert.equal(found[0], reverted ? 0 : 2);
    disk.close();
  }
});

Deno.test("records that belong to no file, and files of others, are left alone", () => {
  using io = openIo({ arenaBytes: 64 * 1024 * 1024 });
  using top = tempDir();
  const directory = top.join("r"), files = io.files;
  make(files, directory, { size: SIZE, disks: [BASE, { name: OLD, parent: BASE.name }] });
  put(files, `${directory}/volume-snap-lost.img.meta`, recordText({ name: "x", parent: BASE.name }));
  put(files, `${directory}/volume-delta-b.img`, block(1));
  put(files, `${directory}/volume-snap-base.img.snap_tmp`, block(1));
  put(files, `${directory}/volume-snap-base.img.snap_tmp.meta`, "{}");
  put(files, `${directory}/notes.txt`, "mine");
  const before = files.list(directory);
  const disk = ReplicaDisk.open(io, directory, { revisionCounter: false });
  assert.equal(disk.info().disks.get("volume-snap-lost.img")?.size, 0);
  disk.close();
  assert.deepEqual(files.list(directory), before);
});
