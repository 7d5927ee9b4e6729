/** Creating, opening and closing directories on a real file system. */
import assert from "node:assert/strict";
import { BackingFileError, ChainError, MetadataError, ReplicaStateError } from "./errors.ts";
import { ReplicaLockedError } from "./errors.ts";
import { parseLockHolder } from "./lock.ts";
import { ReplicaDisk } from "./replica_disk.ts";
import {
  Awaited,
  BLOCK,
  block,
  CREATED,
  diskTest,
  make,
  metaText,
  put,
  readBlock,
  recordText,
  text,
} from "./test_kit.ts";

const MIB = 1024 * 1024;

diskTest("a replica is created, opened, written to and closed with exactly Longhorn's files", (io, top) => {
  const directory = `${top}/r`, files = io.files;
  assert.equal(ReplicaDisk.inspect(io, directory).state, "initial");
  ReplicaDisk.create(io, directory, { size: 64 * MIB });
  assert.deepEqual(files.list(directory), ["volume-head-000.img", "volume-head-000.img.meta", "volume.meta"]);
  const meta = (dirty: boolean) =>
    `{"Size":67108864,"Head":"volume-head-000.img","Dirty":${dirty},"Rebuilding":false,"Error":"","Parent":"",` +
    `"SectorSize":512,"BackingFilePath":"","Encrypted":false}\n`;
  assert.equal(text(files, `${directory}/volume.meta`), meta(false));
  assert.match(
    text(files, `${directory}/volume-head-000.img.meta`),
    /^\{"Name":"volume-head-000.img","Parent":"","Removed":false,"UserCreated":false,"Created":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ","Labels":null\}\n$/,
  );
  assert.equal(ReplicaDisk.inspect(io, directory).state, "closed");
  ReplicaDisk.create(io, directory, { size: MIB }); // nothing happens

  const disk = ReplicaDisk.open(io, directory), awaited = new Awaited(io, disk);
  assert.equal(disk.state, "open");
  assert.equal(text(files, `${directory}/volume.meta`), meta(false));
  assert.equal(readBlock(awaited, 5), 0);
  assert.equal(awaited.write(5 * BLOCK, block(9)), BLOCK);
  assert.equal(disk.state, "dirty");
  assert.equal(text(files, `${directory}/volume.meta`), meta(true));
  assert.equal(awaited.unmap(0, 100), 0);
  disk.close();
  assert.equal(text(files, `${directory}/volume.meta`), meta(false));
  const counter = files.readWhole(`${directory}/revision.counter`);
  assert.equal(counter.length, 4096);
  assert.deepEqual([...counter.subarray(0, 3)], [50, 0, 0]); // "2": one write, one unmap of less than a block
  assert(counter.subarray(1).every((byte) => byte === 0));
  assert.equal(files.stat(directory).kind, "directory");
  assert.equal(Deno.statSync(directory).mode! & 0o777, 0o700);
  assert.equal(Deno.statSync(`${directory}/revision.counter`).mode! & 0o777, 0o600);
  assert.equal(files.stat(`${directory}/volume-head-000.img`).size, 64 * MIB);
});

diskTest(
  "a directory as Longhorn leaves it opens, with branches, stale names and any head number",
  (io, top) => {
    const directory = `${top}/r`, files = io.files;
    make(files, directory, {
      size: 4 * MIB,
      disks: [
        { name: "volume-snap-old.img", blocks: new Map([[0, block(1)], [1, block(1)]]) },
        {
          name: "volume-snap-gone.img",
          parent: "volume-snap-old.img",
          removed: true,
          blocks: new Map([[1, block(2)]]),
        },
        { name: "volume-snap-branch.img", parent: "volume-snap-old.img", blocks: new Map([[0, block(7)]]) },
        { name: "volume-head-4711.img", parent: "volume-snap-gone.img", blocks: new Map([[2, block(3)]]) },
      ],
    });
    put(
      files,
      `${directory}/volume-snap-gone.img.meta`,
      recordText({
        name: "volume-head-001.img",
        parent: "volume-snap-old.img",
        removed: true,
      }),
    );
    put(files, `${directory}/volume-snap-old.img.meta`, `{"Parent":""}`);
    put(files, `${directory}/revision.counter`, "41" + "\0".repeat(4094));
    const disk = ReplicaDisk.open(io, directory, { snapshotMaxCount: 10 }), awaited = new Awaited(io, disk);
    assert.deepEqual([0, 1, 2, 3].map((n) => readBlock(awaited, n)), [1, 2, 3, 0]);
    assert.equal(awaited.write(0, block(5)), BLOCK);
    const info = disk.info();
    assert.deepEqual(info.chain, ["volume-head-4711.img", "volume-snap-old.img"]);
    assert.deepEqual([...info.disks.keys()].sort(), [
      "volume-head-4711.img",
      "volume-snap-branch.img",
      "volume-snap-gone.img",
      "volume-snap-old.img",
    ]);
    assert.deepEqual([...info.disks.get("volume-snap-old.img")!.children].sort(), [
      "volume-snap-branch.img",
      "volume-snap-gone.img",
    ]);
    assert.equal(info.disks.get("volume-snap-gone.img")!.removed, true);
    assert.equal(info.disks.get("volume-snap-branch.img")!.created, CREATED);
    assert.equal(info.disks.get("volume-snap-old.img")!.created, "");
    assert.equal(info.disks.get("volume-snap-old.img")!.size, 2 * BLOCK);
    assert.equal(info.revisionCounter, 42);
    // old and branch count, gone is removed; sizes count in the live chain only.
    assert.equal(info.snapshotCountUsage, 2);
    assert.equal(info.remainSnapshots, 8);
    assert.equal(info.snapshotCountTotal, 4);
    assert.equal(info.snapshotSizeUsage, 2 * BLOCK);
    assert.equal(info.headAllocated, 2 * BLOCK);
    assert.equal(info.parent, "volume-snap-gone.img");
    disk.close();
  },
);

diskTest("a backing file lies below everything and costs no snapshot", (io, top) => {
  const directory = `${top}/r`, files = io.files;
  files.makeDirectory(`${top}/image`);
  put(files, `${top}/image/base.raw`, new Uint8Array(10 * BLOCK + 512).fill(0xbb));
  ReplicaDisk.create(io, directory, { size: MIB, backingFile: `${top}/image` });
  const disk = ReplicaDisk.open(io, directory, { revisionCounter: false }), awaited = new Awaited(io, disk);
  assert.equal(readBlock(awaited, 9), 0xbb);
  const edge = awaited.read(10 * BLOCK, BLOCK) as Uint8Array;
  assert(edge.subarray(0, 512).every((b) => b === 0xbb) && edge.subarray(512).every((b) => b === 0));
  const info = disk.info();
  assert.equal(info.backingFile, `${top}/image/base.raw`);
  assert.equal(info.disks.get(info.backingFile)?.size, 12 * BLOCK - BLOCK);
  assert.deepEqual([info.snapshotCountUsage, info.snapshotCountTotal], [0, 2]);
  assert.deepEqual([info.revisionCounter, info.revisionCounterDisabled], [0, true]);
  assert(!files.exists(`${directory}/revision.counter`));
  disk.close();
});

diskTest("a backing file that cannot be used is refused with the reason", (io, top) => {
  const files = io.files,
    open = (size: number, path: string) => () => {
      const directory = `${top}/${Math.random()}`;
      ReplicaDisk.create(io, directory, { size, backingFile: path });
      ReplicaDisk.open(io, directory);
    };
  put(files, `${top}/odd`, new Uint8Array(1000));
  put(files, `${top}/large`, new Uint8Array(8192));
  put(
    files,
    `${top}/qcow2`,
    new Uint8Array(512).fill(0x51, 0, 1).fill(0x46, 1, 2).fill(0x49, 2, 3).fill(0xfb, 3, 4),
  );
  files.makeDirectory(`${top}/two`);
  put(files, `${top}/two/a`, "");
  put(files, `${top}/two/b`, "");
  assert.throws(open(MIB, `${top}/odd`), BackingFileError);
  assert.throws(open(4096, `${top}/large`), /larger \(8192 bytes\) than the volume/);
  assert.throws(open(MIB, `${top}/qcow2`), /qcow version 0 is not supported: copy it/);
  assert.throws(open(MIB, `${top}/two`), /exactly one file is needed, this one has 2/);
  assert.throws(open(MIB, `${top}/none`), /ENOENT/);
});

diskTest("a second open is refused and names the process that has the directory", (io, top) => {
  const directory = `${top}/r`;
  ReplicaDisk.create(io, directory, { size: MIB });
  const disk = ReplicaDisk.open(io, directory);
  assert.throws(() => ReplicaDisk.open(io, directory), (error: unknown) => {
    assert(error instanceof ReplicaLockedError);
    assert.equal(error.pid, Deno.pid);
    return true;
  });
  assert.equal(ReplicaDisk.inspect(io, directory).state, "closed");
  disk.close();
  disk.close(); // once more is nothing
  ReplicaDisk.open(io, directory).close();
});

Deno.test("the holder of a lock is found in the kernel's list, if it is there", () => {
  const list =
    "1: FLOCK  ADVISORY  WRITE 777 fe:01:131 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 778 fe:01:131 0 EOF\n" +
    "2: POSIX  ADVISORY  WRITE 779 fe:01:132 0 EOF\n3: FLOCK  ADVISORY  WRITE 0 fe:01:133 0 EOF\n";
  assert.equal(parseLockHolder(list, 131n), 777);
  assert.equal(parseLockHolder(list, 132n), undefined);
  assert.equal(parseLockHolder(list, 133n), undefined);
});

diskTest("a lost volume.meta is made again from the head", (io, top) => {
  const directory = `${top}/r`, files = io.files;
  const disks = [
    { name: "volume-snap-a.img", blocks: new Map([[0, block(1)]]) },
    { name: "volume-head-003.img", parent: "volume-snap-a.img" },
  ];
  make(files, directory, { size: MIB, disks });
  for (const lost of ["", "\0".repeat(300), null]) {
    if (lost === null) files.unlink(`${directory}/volume.meta`);
    else put(files, `${directory}/volume.meta`, lost);
    assert.equal(ReplicaDisk.inspect(io, directory).state, "initial");
    const disk = ReplicaDisk.open(io, directory);
    assert.match(disk.notes[0], /volume.meta was lost; made again with head volume-head-003.img/);
    assert.equal(readBlock(new Awaited(io, disk), 0), 1);
    assert.equal(disk.state, "dirty");
    disk.close();
    assert.equal(text(files, `${directory}/volume.meta`), metaText({ size: MIB, disks }));
  }
});

diskTest("a lost record of the head is made again from volume.meta", (io, top) => {
  const directory = `${top}/r`, files = io.files;
  const disks = [
    { name: "volume-snap-a.img", blocks: new Map([[0, block(1)]]) },
    { name: "volume-head-003.img", parent: "volume-snap-a.img" },
  ];
  make(files, directory, { size: MIB, disks });
  put(files, `${directory}/volume-head-003.img.meta`, "");
  const disk = ReplicaDisk.open(io, directory);
  assert.equal(readBlock(new Awaited(io, disk), 0), 1);
  disk.close();
  assert(text(files, `${directory}/volume-head-003.img.meta`).includes(`"Parent":"volume-snap-a.img"`));
});

diskTest("what is broken is refused by name; what the live chain does not need is only noted", (io, top) => {
  const files = io.files;
  let number = 0;
  const broken = (damage: (directory: string) => void) => {
    const directory = `${top}/${++number}`;
    make(files, directory, {
      size: MIB,
      disks: [
        { name: "volume-snap-x.img" },
        { name: "volume-snap-a.img" },
        { name: "volume-head-000.img", parent: "volume-snap-a.img" },
      ],
    });
    damage(directory);
    return () => ReplicaDisk.open(io, directory);
  };
  const record = (of: string, parent: string) => (directory: string) =>
    put(files, `${directory}/${of}.img.meta`, recordText({ name: "", parent }));
  const put2 = (name: string, content: string) => (directory: string) =>
    put(files, `${directory}/${name}`, content);
  const descriptors = () => [...Deno.readDirSync("/proc/self/fd")].length, before = descriptors();
  assert.throws(
    broken((d) => files.unlink(`${d}/volume-snap-a.img`)),
    /volume-snap-a.img is missing, although/,
  );
  assert.throws(
    broken((d) => files.unlink(`${d}/volume-snap-a.img.meta`)),
    (error: unknown) =>
      error instanceof ChainError &&
      /volume-snap-a.img.meta is missing, and .* is the parent of/.test(error.message),
  );
  assert.throws(broken(record("volume-snap-a", "volume-head-000.img")), /its own ancestor/);
  assert.throws(
    broken(put2("volume-snap-a.img.meta", "{")),
    (error: unknown) =>
      error instanceof ChainError && error.cause instanceof MetadataError && /not JSON/.test(error.message),
  );
  assert.throws(broken(put2("volume-snap-a.img.meta", "")), /is empty/);
  assert.throws(broken(put2("volume.meta", `{"Size":1,"Head":"volume-head-000.img"}`)), MetadataError);
  assert.throws(broken(put2("revision.counter", "many")), /revision.counter: holds no counter; write 0/);
  assert.throws(() => ReplicaDisk.open(io, `${top}/nowhere`), ReplicaStateError);
  files.makeDirectory(`${top}/empty`);
  assert.throws(() => ReplicaDisk.open(io, `${top}/empty`), /no replica here/);
  assert.throws(() => ReplicaDisk.create(io, `${top}/bad`, { size: 1000 }), /not a multiple of 512/);
  put(files, `${top}/empty/volume-head-000.img`, block(1));
  assert.throws(() => ReplicaDisk.create(io, `${top}/empty`, { size: MIB }), /has data but no record/);

  const fine = broken(put2("volume-snap-x.img.meta", "{"))();
  assert.match(fine.notes[0], /ignored: .*volume-snap-x.img.meta: not JSON/);
  fine.close();
  assert.equal(ReplicaDisk.inspect(io, `${top}/6`).state, "error");
  // Nothing that was refused is still locked or open.
  assert.equal(descriptors(), before);
  assert.throws(() => ReplicaDisk.open(io, `${top}/1`), ChainError);
});

diskTest("a chain of 250 disks opens, one of 251 is refused", (io, top) => {
  const disks = Array.from({ length: 251 }, (_, i) => ({
    name: i === 250 ? "volume-head-000.img" : `volume-snap-${i}.img`,
    parent: i === 0 ? "" : `volume-snap-${i - 1}.img`,
    blocks: new Map([[i, block(i + 1)]]),
  }));
  make(io.files, `${top}/long`, { size: 2 * MIB, disks });
  assert.throws(() => ReplicaDisk.open(io, `${top}/long`), /more than 250 disks in the live chain/);
  make(io.files, `${top}/fits`, { size: 2 * MIB, disks: [{ ...disks[1], parent: "" }, ...disks.slice(2)] });
  put(io.files, `${top}/base`, new Uint8Array(BLOCK).fill(77));
  const disk = ReplicaDisk.open(io, `${top}/fits`, { backingFile: `${top}/base` }),
    awaited = new Awaited(io, disk);
  assert.equal(readBlock(awaited, 0), 77);
  for (let n = 1; n <= 250; n++) assert.equal(readBlock(awaited, n), (n + 1) & 0xff);
  disk.close();
});

diskTest("states and Drover's record are kept in volume.meta", (io, top) => {
  const directory = `${top}/r`;
  const record = { id: "r1", generation: 3, revision: 1, boot: "b", members: ["r1", "r2"], unknown: {} };
  ReplicaDisk.create(io, directory, { size: MIB, drover: record });
  let disk = ReplicaDisk.open(io, directory);
  assert.deepEqual(disk.drover, record);
  disk.setRebuilding(false);
  assert.equal(disk.state, "open");
  disk.setRebuilding(true);
  assert.equal(disk.state, "rebuilding");
  disk.setRebuilding(true);
  disk.setDrover({ ...record, generation: 4 });
  disk.setRevisionCounter(1234567);
  assert.throws(() => disk.setRevisionCounter(-1), ReplicaStateError);
  assert.throws(() => disk.setRevisionCounter(2 ** 53), ReplicaStateError);
  disk.close();
  assert.equal(ReplicaDisk.inspect(io, directory).meta?.rebuilding, true);
  disk = ReplicaDisk.open(io, directory);
  assert.equal(disk.info().state, "rebuilding");
  assert.equal(disk.info().revisionCounter, 1234567);
  assert.equal(disk.drover?.generation, 4);
  disk.setRebuilding(false);
  disk.setDrover(undefined);
  disk.close();
  assert.equal(ReplicaDisk.inspect(io, directory).meta?.drover, undefined);
});

diskTest("marking as removed is written down, refuses the head and ignores what is unknown", (io, top) => {
  const directory = `${top}/r`;
  make(io.files, directory, {
    size: MIB,
    disks: [{ name: "volume-snap-a.img" }, { name: "volume-head-000.img", parent: "volume-snap-a.img" }],
  });
  const disk = ReplicaDisk.open(io, directory);
  disk.markRemoved("nobody");
  assert.throws(
    () => disk.markRemoved("volume-head-000.img"),
    /cannot mark the active differencing disk as removed/,
  );
  disk.markRemoved("a");
  assert.deepEqual(disk.info().chain, ["volume-head-000.img"]);
  disk.close();
  assert(text(io.files, `${directory}/volume-snap-a.img.meta`).includes(`"Removed":true`));
});
