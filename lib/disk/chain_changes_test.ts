/** Snapshots, reverts, growth and removals: what is on disk afterwards, and what is refused. */
import assert from "node:assert/strict";
import { Errno, IoError } from "../io/errno.ts";
import type { Files } from "../io/files.ts";
import type { Io } from "../io/io.ts";
import { DiskMemory } from "./memory.ts";
import { ReplicaDisk } from "./replica_disk.ts";
import {
  Awaited,
  BLOCK,
  block,
  CREATED,
  diskTest,
  longhornView,
  make,
  put,
  readBlock,
  text,
} from "./test_kit.ts";

const BLOCKS = 64, SIZE = BLOCKS * BLOCK;
const AT = { userCreated: true, created: CREATED };

function fresh(io: Io, parent: string): { disk: ReplicaDisk; data: Awaited; directory: string } {
  const directory = `${parent}/r`;
  ReplicaDisk.create(io, directory, { size: SIZE });
  const disk = ReplicaDisk.open(io, directory, { revisionCounter: false });
  return { disk, data: new Awaited(io, disk), directory };
}

function write(data: Awaited, number: number, fill: number): void {
  assert.equal(data.write(number * BLOCK, block(fill)), BLOCK);
}

/** First bytes of the first blocks. */
function firsts(data: Awaited, count: number): number[] {
  return Array.from({ length: count }, (_, i) => readBlock(data, i));
}

diskTest(
  "a snapshot leaves exactly Longhorn's files, and its data is what was written before",
  (io, parent) => {
    const { disk, data, directory } = fresh(io, parent);
    write(data, 0, 1);
    write(data, 1, 2);
    disk.changes.snapshot("s1", { ...AT, labels: new Map([["k", "v"]]) });
    assert.deepEqual(io.files.list(directory).filter((name) => name !== "volume.meta"), [
      "volume-head-001.img",
      "volume-head-001.img.meta",
      "volume-snap-s1.img",
      "volume-snap-s1.img.meta",
    ]);
    assert.equal(
      text(io.files, `${directory}/volume-snap-s1.img.meta`),
      `{"Name":"volume-snap-s1.img","Parent":"","Removed":false,"UserCreated":true,` +
        `"Created":"${CREATED}","Labels":{"k":"v"}}\n`,
    );
    assert.equal(
      text(io.files, `${directory}/volume-head-001.img.meta`),
      `{"Name":"volume-head-001.img","Parent":"volume-snap-s1.img","Removed":false,"UserCreated":false,` +
        `"Created":"${CREATED}","Labels":null}\n`,
    );
    assert.equal(
      text(io.files, `${directory}/volume.meta`),
      `{"Size":${SIZE},"Head":"volume-head-001.img","Dirty":true,"Rebuilding":false,"Error":"",` +
        `"Parent":"volume-snap-s1.img","SectorSize":512,"BackingFilePath":"","Encrypted":false}\n`,
    );
    assert.equal(io.files.stat(`${directory}/volume-head-001.img`).size, SIZE);
    write(data, 1, 3);
    assert.deepEqual(firsts(data, 3), [1, 3, 0]);
    disk.changes.snapshot("s2", AT);
    write(data, 2, 4);
    assert.equal(data.unmap(0, BLOCK), 0);
    assert.deepEqual(firsts(data, 3), [0, 3, 4]);
    assert.deepEqual(disk.info().chain, ["volume-head-002.img", "volume-snap-s2.img", "volume-snap-s1.img"]);
    disk.close();
    const view = longhornView(io.files, directory);
    assert.deepEqual([view[0], view[BLOCK], view[2 * BLOCK]], [0, 3, 4]);
  },
);

diskTest("snapshots that may not be made are refused with the texts that peers know", (io, parent) => {
  const { disk, data } = fresh(io, parent);
  const refused = (name: string, why: RegExp) =>
    assert.throws(() => disk.changes.snapshot(name, AT), (error: Error) => {
      assert.equal(error.name, "ReplicaStateError");
      assert.match(error.message, why);
      return true;
    });
  disk.changes.snapshot("a", AT);
  refused("a", /^snapshot volume-snap-a\.img is already existing$/);
  refused("", /needs a name/);
  refused("../x", /must not leave the directory/);
  refused("x".repeat(300), /too long/);
  assert.throws(
    () => disk.changes.snapshot("b", { ...AT, labels: new Map([["k", "x".repeat(2 ** 20)]]) }),
    /labels/,
  );
  disk.snapshotMaxCount = 1;
  refused("b", /^too many active disks: 2$/);
  disk.snapshotMaxCount = 250;
  write(data, 0, 1);
  disk.snapshotMaxSize = BLOCK - 1;
  refused("b", /the limit is 4095/);
  disk.snapshotMaxSize = 16 * BLOCK;
  disk.changes.snapshot("b", AT);
  disk.close();
});

diskTest(
  "a full chain takes no snapshot, and removed snapshots do not count against the limit",
  (io, parent) => {
    const { disk } = fresh(io, parent);
    disk.snapshotMaxCount = 1000;
    for (let i = 0; i < 249; i++) disk.changes.snapshot(`s${i}`, AT);
    for (let i = 0; i < 249; i++) disk.markRemoved(`s${i}`);
    assert.throws(() => disk.changes.snapshot("more", AT), /^ReplicaStateError: too many active disks: 250$/);
    assert.throws(() => disk.changes.expand(2 * SIZE), /too many active disks: 250/);
    disk.close();
    const again = ReplicaDisk.open(io, disk.directory);
    assert.equal(again.info().chain.length, 1, "all snapshots are removed");
    again.close();
  },
);

diskTest("a revert shows the snapshot again, the later ones stay as a branch", (io, parent) => {
  const { disk, data, directory } = fresh(io, parent);
  write(data, 0, 1);
  disk.changes.snapshot("a", AT);
  write(data, 0, 2);
  disk.changes.snapshot("b", AT);
  write(data, 0, 3);
  disk.changes.revert("volume-snap-a.img", CREATED);
  assert.deepEqual(firsts(data, 2), [1, 0]);
  write(data, 1, 9);
  const info = disk.info();
  assert.deepEqual(info.chain, ["volume-head-003.img", "volume-snap-a.img"]);
  assert.deepEqual([...info.disks.get("volume-snap-a.img")?.children ?? []].sort(), [
    "volume-head-003.img",
    "volume-snap-b.img",
  ]);
  disk.changes.revert("b", CREATED);
  assert.deepEqual(firsts(data, 2), [2, 0]);
  disk.markRemoved("a");
  assert.deepEqual(disk.changes.prepareRemove("a"), [
    { action: "coalesce", source: "volume-snap-a.img", target: "volume-snap-b.img" },
    { action: "replace", source: "volume-snap-a.img", target: "volume-snap-b.img" },
  ]);
  assert.throws(() => disk.changes.revert("a", CREATED), /marked as removed/);
  assert.throws(() => disk.changes.revert("nobody", CREATED), /cannot find disk nobody/);
  assert.throws(() => disk.changes.revert(disk.info().head, CREATED), /cannot revert to the head/);
  disk.close();
  assert.equal(longhornView(io.files, directory)[0], 2);
});

diskTest("a volume grows: the old part stays, the new one is zeros and takes writes", (io, parent) => {
  const { disk, data, directory } = fresh(io, parent);
  write(data, BLOCKS - 1, 7);
  for (
    const [bytes, why] of [[SIZE - BLOCK, /smaller/], [SIZE + 512, /multiple of 4096/], [
      NaN,
      /size/,
    ]] as const
  ) {
    assert.throws(() => disk.changes.expand(bytes), why);
  }
  disk.changes.expand(SIZE);
  assert.equal(disk.info().disks.size, 1, "nothing happened");
  disk.changes.expand(4 * SIZE);
  assert.equal(disk.bytes, 4 * SIZE);
  assert.deepEqual([readBlock(data, BLOCKS - 1), readBlock(data, BLOCKS), readBlock(data, 4 * BLOCKS - 1)], [
    7,
    0,
    0,
  ]);
  write(data, BLOCKS, 8);
  write(data, 4 * BLOCKS - 1, 9);
  const record = disk.info().disks.get(`volume-snap-expand-${4 * SIZE}.img`);
  assert.deepEqual([record?.userCreated, [...record?.labels ?? []]], [false, [[
    "replica-expansion",
    String(4 * SIZE),
  ]]]);
  assert.equal(io.files.stat(`${directory}/volume-snap-expand-${4 * SIZE}.img`).size, SIZE);
  disk.changes.expand(5 * SIZE);
  disk.close();
  const again = ReplicaDisk.open(io, directory), reader = new Awaited(io, again);
  assert.equal(again.bytes, 5 * SIZE);
  const found = [BLOCKS - 1, BLOCKS, 4 * BLOCKS - 1, 5 * BLOCKS - 1].map((number) =>
    readBlock(reader, number)
  );
  assert.deepEqual(found, [7, 8, 9, 0]);
  again.close();
});

diskTest("how a disk is got rid of depends on its children", (io, parent) => {
  const { disk } = fresh(io, parent);
  for (const name of ["a", "b", "c"]) disk.changes.snapshot(name, AT);
  assert.throws(() => disk.changes.prepareRemove("a"), /not marked as removed/);
  assert.throws(
    () => disk.changes.prepareRemove(disk.info().head),
    /cannot delete the active differencing disk/,
  );
  assert.deepEqual(disk.changes.prepareRemove("nobody"), []);
  for (const name of ["a", "b", "c"]) disk.markRemoved(name);
  const head = disk.info().head;
  assert.deepEqual(disk.changes.prepareRemove("c"), [{
    action: "prune",
    source: "volume-snap-c.img",
    target: head,
  }]);
  disk.close();
  make(io.files, `${parent}/branches`, {
    size: SIZE,
    disks: [
      { name: "volume-snap-r.img", removed: true },
      { name: "volume-snap-x.img", parent: "volume-snap-r.img", removed: true },
      { name: "volume-head-001.img", parent: "volume-snap-r.img" },
    ],
  });
  const other = ReplicaDisk.open(io, `${parent}/branches`);
  assert.deepEqual(other.changes.prepareRemove("r"), []);
  assert.deepEqual(other.changes.prepareRemove("volume-snap-x.img"), [
    { action: "remove", source: "volume-snap-x.img", target: "" },
  ]);
  other.changes.remove("volume-snap-x.img", false);
  other.changes.remove("volume-snap-x.img", false);
  assert.deepEqual(io.files.list(`${parent}/branches`).filter((name) => name.includes("-x")), []);
  assert.equal(other.changes.prepareRemove("r")[0]?.action, "prune");
  assert.throws(
    () => other.changes.remove("volume-head-001.img", true),
    /cannot delete the active differencing disk/,
  );
  other.close();
});

diskTest("a disk of the live chain is only removed by force, and its data goes with it", (io, parent) => {
  const { disk, data, directory } = fresh(io, parent);
  write(data, 0, 1);
  disk.changes.snapshot("a", AT);
  write(data, 0, 2);
  disk.changes.snapshot("b", AT);
  write(data, 1, 3);
  assert.throws(
    () => disk.changes.remove("volume-snap-b.img", false),
    /cannot remove disk .* with 1 children/,
  );
  disk.changes.remove("volume-snap-b.img", true);
  assert.deepEqual(firsts(data, 2), [1, 3]);
  assert.equal(disk.info().parent, "volume-snap-a.img");
  disk.changes.remove("volume-snap-a.img", true);
  assert.deepEqual(firsts(data, 2), [0, 3]);
  write(data, 0, 4);
  disk.changes.snapshot("c", AT);
  assert.deepEqual(firsts(data, 2), [4, 3]);
  disk.close();
  assert.equal(JSON.parse(text(io.files, `${directory}/volume.meta`)).Parent, "volume-snap-c.img");
  assert.equal(longhornView(io.files, directory)[0], 4);
});

diskTest("a merged parent takes the child's place, and the child's checksum goes", (io, parent) => {
  const { disk, data, directory } = fresh(io, parent);
  write(data, 0, 1);
  disk.changes.snapshot("a", AT);
  write(data, 1, 2);
  disk.changes.snapshot("b", AT);
  write(data, 2, 3);
  const a = "volume-snap-a.img", b = "volume-snap-b.img", { head } = disk.info();
  assert.throws(() => disk.changes.replace(head, b), /active differencing disk/);
  assert.throws(() => disk.changes.replace(a, b), /not the only child/);
  assert.throws(() => disk.changes.replace("nobody", a), /cannot find disk nobody/);
  put(io.files, `${directory}/${b}.checksum`, "{}");
  const fd = io.files.open(`${directory}/${a}`, { write: true });
  io.files.writeAt(fd, block(2), BLOCK);
  io.files.close(fd);
  disk.changes.replace(b, a);
  assert.deepEqual(firsts(data, 4), [1, 2, 3, 0]);
  assert.deepEqual(disk.info().chain, [head, b]);
  assert.deepEqual(io.files.list(directory).filter((name) => /-[ab]\./.test(name)), [b, `${b}.meta`]);
  write(data, 0, 5);
  disk.close();
  const view = longhornView(io.files, directory);
  assert.deepEqual([0, 1, 2].map((number) => view[number * BLOCK]), [5, 2, 3]);
});

/** An Io whose calls on files fail from the nth change of the directory on, `count` times; `stop` tells whether one did. */
function failing(
  io: Io,
  from: number,
  count: number,
): { readonly io: Io; start(): void; stop(): boolean } {
  let seen = -1;
  const changes = new Set([
    "rename",
    "link",
    "unlink",
    "sync",
    "syncDirectory",
    "writeAt",
    "truncate",
    "open",
  ]);
  const files = new Proxy(io.files, {
    get: (target, name: keyof Files & string) => {
      const call = target[name] as (...args: unknown[]) => unknown;
      return (...args: unknown[]) => {
        if (seen >= 0 && changes.has(name)) {
          const now = seen++;
          if (now >= from && now < from + count) throw new IoError(name, "made to fail", Errno.EIO);
        }
        return call.apply(target, args);
      };
    },
  });
  const world = new Proxy(io, {
    get: (target, name) => {
      if (name === "files") return files;
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  return {
    io: world,
    start: () => void (seen = 0),
    stop: () => {
      const reached = seen > from;
      seen = -1;
      return reached;
    },
  };
}

diskTest(
  "a step that fails leaves the state before or after, and says when it could not be undone",
  (io, parent) => {
    const kinds = ["snapshot", "expand", "revert"] as const,
      shared = io.arena.reserve(2 * 1024 * 1024, BLOCK);
    const memory = new DiskMemory(io);
    for (const kind of kinds) {
      for (const count of [1, 3]) {
        let reached = true;
        for (let from = 0; reached; from++) {
          const directory = `${parent}/${kind}-${count}-${from}`, world = failing(io, from, count);
          ReplicaDisk.create(io, directory, { size: SIZE });
          const disk = ReplicaDisk.open(world.io, directory, {
            revisionCounter: false,
            ioMode: "cached",
            memory,
          });
          const data = new Awaited(io, disk, shared);
          write(data, 0, 1);
          disk.changes.snapshot("base", AT);
          write(data, 0, 2);
          assert.equal(data.flush(), 0);
          world.start();
          let problem: unknown;
          try {
            if (kind === "snapshot") disk.changes.snapshot("x", AT);
            else if (kind === "expand") disk.changes.expand(2 * SIZE);
            else disk.changes.revert("base", CREATED);
          } catch (error) {
            problem = error;
          }
          reached = world.stop();
          const reverted = kind === "revert" && problem === undefined;
          if (disk.fault === "") {
            assert.equal(readBlock(data, 0), reverted ? 1 : 2, `${kind} ${from}`);
            if (count === 1 && problem) disk.changes.snapshot("later", AT);
          }
          disk.close();
          const again = ReplicaDisk.open(io, directory, { acceptFault: true, memory });
          const found = readBlock(new Awaited(io, again, shared), 0);
          if (disk.fault === "") assert.equal(found, reverted ? 1 : 2, `${kind} ${from}, opened again`);
          else assert.ok(found === 1 || found === 2);
          again.close();
        }
      }
    }
  },
);
