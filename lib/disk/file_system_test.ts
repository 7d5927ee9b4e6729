/** What a replica asks of the file system it lies on: extents, sparse files, holes, room. */
import assert from "node:assert/strict";
import { loopImage } from "../../tests/support/loop_image.ts";
import { peerTest } from "../../tests/support/conditional.ts";
import { openIo } from "../io/open.ts";
import { UnsupportedFileSystemError } from "./errors.ts";
import { ReplicaDisk } from "./replica_disk.ts";
import { makeSpare } from "./spare.ts";
import { Awaited, BLOCK, block, diskTest, make, put, readBlock } from "./test_kit.ts";

const MIB = 1024 * 1024;

diskTest("space that was allocated but never written is given back after an unclean stop only", (io, top) => {
  const directory = `${top}/r`, files = io.files;
  const replica = {
    size: MIB,
    disks: [
      { name: "volume-snap-a.img", blocks: new Map([[0, block(1)], [3, block(1)]]) },
      { name: "volume-head-000.img", parent: "volume-snap-a.img", blocks: new Map([[2, block(2)]]) },
    ],
  };
  for (const dirty of [false, true]) {
    make(files, `${directory}${dirty}`, { ...replica, dirty });
    const path = `${directory}${dirty}/volume-head-000.img`;
    assert(
      new Deno.Command("fallocate", { args: ["-n", "-o", "0", "-l", "8192", path] }).outputSync().success,
    );
    const disk = ReplicaDisk.open(io, `${directory}${dirty}`), awaited = new Awaited(io, disk);
    assert.deepEqual([0, 1, 2, 3].map((n) => readBlock(awaited, n)), [1, 0, 2, 1], "it never counts as data");
    assert.equal(disk.info().headAllocated, dirty ? BLOCK : 3 * BLOCK);
    disk.close();
  }
});

diskTest("a head that a crash left shorter is made as long as the volume", (io, top) => {
  const directory = `${top}/r`;
  make(io.files, directory, { size: MIB, disks: [{ name: "volume-head-000.img", size: 8192 }] });
  const disk = ReplicaDisk.open(io, directory);
  assert.equal(readBlock(new Awaited(io, disk), 100), 0);
  disk.close();
  assert.equal(io.files.stat(`${directory}/volume-head-000.img`).size, MIB);
});

diskTest("an idle volume of 1 TiB costs next to no memory", (io, top) => {
  make(io.files, `${top}/r`, {
    size: 1024 * 1024 * MIB,
    disks: [{ name: "volume-snap-a.img" }, { name: "volume-head-000.img", parent: "volume-snap-a.img" }],
  });
  const disk = ReplicaDisk.open(io, `${top}/r`), awaited = new Awaited(io, disk);
  assert(disk.mapBytes < 10_000, `${disk.mapBytes}`);
  assert.equal(awaited.write(999_999 * MIB + BLOCK, block(1)), BLOCK);
  assert.equal(readBlock(awaited, (999_999 * MIB) / BLOCK + 1), 1);
  disk.close();
});

Deno.test("a file system without FIEMAP is refused with the way out, and nothing is left there", () => {
  using io = openIo({ arenaBytes: 64 * MIB });
  const directory = Deno.makeTempDirSync({ dir: "/dev/shm", prefix: "drover-disk-" });
  try {
    assert.throws(() => ReplicaDisk.create(io, directory, { size: MIB }), (error: unknown) => {
      assert(error instanceof UnsupportedFileSystemError);
      assert.match(error.message, /FIEMAP.*put the directory on ext4 or XFS/);
      return true;
    });
    assert.deepEqual(io.files.list(directory), []);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

for (const kind of ["ext4", "xfs"] as const) {
  peerTest(
    `${kind}: unmapped space is given back, and a full file system fails writes without harm`,
    { needs: ["root", "loop", `mkfs.${kind}`] },
    async () => {
      await using image = await loopImage({ bytes: 320 * MIB, kind });
      using io = openIo({ arenaBytes: 64 * MIB });
      const directory = `${image.path}/r`;
      make(io.files, directory, {
        size: 1024 * MIB,
        disks: [
          { name: "volume-snap-a.img", blocks: new Map(Array.from({ length: 64 }, (_, n) => [n, block(1)])) },
          { name: "volume-head-000.img", parent: "volume-snap-a.img" },
        ],
      });
      const disk = ReplicaDisk.open(io, directory), awaited = new Awaited(io, disk);
      const data = new Uint8Array(MIB).fill(8);
      let written = 1;
      while (awaited.write(written * MIB, data) === MIB) written++;
      assert(written > 100, `${written} MiB fit`);
      assert.equal(awaited.write(0, data), -28, "no space left on device");
      assert.equal(readBlock(awaited, 3), 1, "the snapshot's data shows through where nothing was written");
      assert.equal(disk.fault, "");
      assert.equal(awaited.unmap(MIB, 100 * MIB), 100 * MIB);
      assert.equal(awaited.write(0, data), MIB);
      assert.equal(awaited.flush(), 0);
      assert.equal(readBlock(awaited, 3), 8);
      assert.equal(readBlock(awaited, 300), 0);
      disk.close();
    },
  );
}

for (const kind of ["ext4", "xfs"] as const) {
  peerTest(
    `${kind}: the members are recorded on a full file system, with the space that is set aside`,
    { needs: ["root", "loop", `mkfs.${kind}`] },
    async () => {
      await using image = await loopImage({ bytes: 320 * MIB, kind });
      using io = openIo({ arenaBytes: 64 * MIB });
      const directory = `${image.path}/r`, { files } = io;
      ReplicaDisk.create(io, directory, { size: MIB });
      const record = (revision: number) => ({
        id: "a",
        generation: 1,
        revision,
        boot: "b",
        members: Array.from({ length: 16 }, () => crypto.randomUUID()),
        unknown: {},
      });
      assert.ok(makeSpare(files, directory));
      const disk = ReplicaDisk.open(io, directory);
      try {
        const fill = new Uint8Array(8 * MIB),
          used = files.open(`${image.path}/used`, { write: true, create: 0o600 });
        // Also the last block; what is reserved for root, too.
        let at = 0;
        for (let size = fill.length; size >= BLOCK; size /= 2) {
          try {
            for (;;) {
              files.writeAt(used, fill.subarray(0, size), at);
              files.sync(used);
              at += size;
            }
          } catch (error) {
            assert.match(String(error), /no space left/);
          }
        }
        files.close(used);
        assert.throws(() => put(files, `${directory}/more`, block(1)), /no space left/);
        for (let revision = 1; revision <= 10; revision++) disk.setDrover(record(revision));
      } finally {
        disk.close();
      }
      assert.equal(ReplicaDisk.inspect(io, directory).meta?.drover?.revision, 10);
      // Also after the next opening.
      assert.ok(makeSpare(files, directory));
      const again = ReplicaDisk.open(io, directory);
      again.setDrover(record(11));
      again.close();
      assert.equal(ReplicaDisk.inspect(io, directory).meta?.drover?.revision, 11);
    },
  );
}
