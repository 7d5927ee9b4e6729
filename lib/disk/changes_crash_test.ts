/** Kills and power cuts at every step of a change of the chain: the state before or after, and all flushed data. */
import assert from "node:assert/strict";
import { drawOptions, SimCluster, SimCrash, type SimHost, type SimIo } from "../io/sim/mod.ts";
import { ReplicaDisk } from "./replica_disk.ts";
import { BLOCK, block, CREATED, type HandmadeDisk, longhornView, make } from "./test_kit.ts";

const DIRECTORY = "/replica";
/** Histories per crash point: what a power cut loses is drawn. */
const SEEDS = 6;
const BLOCKS = 12;
const SIZE = BLOCKS * BLOCK;
const AT = { userCreated: true, created: CREATED };

/** A kind of change. */
interface Change {
  readonly name: string;
  readonly make: (disk: ReplicaDisk, then: () => void) => void;
  /** Content by block, before and after; what was written into the head before the change is in it. */
  readonly before: readonly number[];
  readonly after: readonly number[];
  /** Tells that the change has happened. */
  readonly happened: (disk: ReplicaDisk) => boolean;
  /** Block of the head that is written before, and whether that is flushed; default: 4, flushed. */
  readonly unflushed?: number;
  /** What the disks look like before. */
  readonly start?: readonly HandmadeDisk[];
  /** Names of disks that there may be when it is over, whichever it was. */
  readonly disks: RegExp;
}

const A = "volume-snap-a.img",
  B = "volume-snap-b.img",
  HEAD = "volume-head-004.img",
  LEAF = "volume-snap-leaf.img";

/** `a` holds 1 in blocks 0 to 3 (and what `b` has: it was merged), `b` 2 in 1 and 2, the head 3 in 2; 9 is written at last. */
function disks(merged: boolean): HandmadeDisk[] {
  const blocks = (...pairs: [number, number][]) => new Map(pairs.map(([at, fill]) => [at, block(fill)]));
  const own: [number, number][] = [[0, 1], [1, merged ? 2 : 1], [2, merged ? 2 : 1], [3, 1]];
  return [
    { name: A, removed: merged, blocks: blocks(...own) },
    { name: B, parent: A, blocks: blocks([1, 2], [2, 2]) },
    { name: "volume-snap-leaf.img", parent: A, removed: true, blocks: blocks([0, 7]) },
    { name: HEAD, parent: B, blocks: blocks([2, 3]) },
  ];
}

const NOW = [1, 2, 3, 1, 9, 0], PRUNED = [1, 9, 3, 1, 0, 0];

/** A change that is over when it returns. */
function now(make: (disk: ReplicaDisk) => void): Change["make"] {
  return (disk, then) => {
    make(disk);
    then();
  };
}

const CHANGES: readonly Change[] = [
  {
    name: "snapshot",
    make: now((disk) => disk.changes.snapshot("new", AT)),
    before: NOW,
    after: NOW,
    happened: (disk) => disk.info().parent === "volume-snap-new.img",
    disks: /^(volume-snap-(a|b|leaf|new)|volume-head-00[45])\.img$/,
  },
  {
    name: "expand",
    make: now((disk) => disk.changes.expand(2 * SIZE)),
    before: NOW,
    after: NOW,
    happened: (disk) => disk.bytes === 2 * SIZE,
    disks: /^(volume-snap-(a|b|leaf|expand-98304)|volume-head-00[45])\.img$/,
  },
  {
    name: "revert",
    make: now((disk) => disk.changes.revert("a", CREATED)),
    before: NOW,
    after: [1, 1, 1, 1, 0, 0],
    happened: (disk) => disk.info().parent === A,
    // The old head may stay, as a branch.
    disks: /^(volume-snap-(a|b|leaf)|volume-head-00[45])\.img$/,
  },
  {
    name: "remove",
    make: now((disk) => disk.changes.remove("volume-snap-leaf.img", false)),
    before: NOW,
    after: NOW,
    happened: (disk) => !disk.info().disks.has("volume-snap-leaf.img"),
    disks: /^(volume-snap-(a|b|leaf)|volume-head-004)\.img$/,
  },
  {
    name: "remove by force",
    make: now((disk) => disk.changes.remove(B, true)),
    before: NOW,
    after: [1, 1, 3, 1, 9, 0],
    happened: (disk) => disk.info().parent === A,
    disks: /^(volume-snap-(a|b|leaf)|volume-head-004)\.img$/,
  },
  {
    name: "replace",
    start: disks(true),
    make: now((disk) => {
      disk.changes.remove("volume-snap-leaf.img", true);
      disk.changes.replace(B, A);
    }),
    before: NOW,
    after: NOW,
    happened: (disk) => !disk.info().disks.has(A),
    disks: /^(volume-snap-(a|b|leaf)|volume-head-004)\.img$/,
  },
  {
    name: "merge",
    start: disks(false).map((disk) => ({ ...disk, removed: disk.name === A })).filter(({ name }) =>
      name !== LEAF
    ),
    make: (disk, then) =>
      disk.folds.coalesce(A, B, HEAD, {
        complete: (_tag, result) => {
          assert.equal(result, 0);
          disk.changes.replace(B, A);
          then();
        },
      }, 0),
    before: NOW,
    after: NOW,
    happened: (disk) => !disk.info().disks.has(A),
    disks: /^(volume-snap-(a|b)|volume-head-004)\.img$/,
  },
  {
    name: "prune",
    start: disks(false).map((disk) => ({ ...disk, removed: disk.name === B })).filter(({ name }) =>
      name !== LEAF
    ),
    unflushed: 1,
    make: (disk, then) =>
      disk.folds.prune(B, disk.info().head, {
        complete: (_tag, result) => {
          assert.equal(result, 0);
          then();
        },
      }, 0),
    before: PRUNED,
    after: PRUNED,
    happened: () => true,
    disks: /^(volume-snap-(a|b)|volume-head-004)\.img$/,
  },
];

/** Runs one process to its end; @returns whether it crashed */
function process(
  world: SimCluster,
  host: SimHost,
  main: (io: SimIo) => void,
  hook?: (name: string, path: string, number: number) => void,
): void {
  host.boot();
  let over = false;
  const self = host.spawn("replica", main, {
    arenaBytes: 8 * 1024 * 1024,
    onExit: () => over = true,
    ...(hook ? { onMutation: hook } : {}),
  });
  world.runUntil(() => over || (self.io.underWay === 0 && !self.alive), world.now + 60_000);
  world.runToEnd();
  if (self.alive) self.kill();
  world.runToEnd();
}

/** Reads the first blocks of an open replica, then goes on. */
function readThen(io: SimIo, disk: ReplicaDisk, then: (found: number[]) => void): void {
  const at = io.arena.reserve(6 * BLOCK, BLOCK);
  disk.read(0, 6 * BLOCK, at, {
    complete: (_tag, result) => {
      assert.equal(result, 6 * BLOCK);
      then(Array.from({ length: 6 }, (_, i) => io.arena.u8[at + i * BLOCK]));
    },
  }, 0);
}

/** A write into the head, flushed, then the change with a crash at its step `point`. @returns whether it was reached */
function history(change: Change, seed: number, point: number, power: boolean): boolean {
  using world = new SimCluster(seed * 1000 + point, drawOptions(seed * 1000 + point));
  const host = world.host("a");
  let started = false, count = 0, reached = false, done = false;
  process(
    world,
    host,
    (io) => make(io.files, DIRECTORY, { size: SIZE, disks: change.start ?? disks(false) }),
  );
  process(world, host, (io) => {
    const disk = ReplicaDisk.open(io, DIRECTORY), at = io.arena.reserve(BLOCK, BLOCK);
    io.arena.u8.fill(9, at, at + BLOCK);
    disk.write((change.unflushed ?? 4) * BLOCK, BLOCK, at, change.unflushed === undefined, {
      complete: (_tag, result) => {
        assert.equal(result, BLOCK);
        started = true;
        change.make(disk, () => {
          done = true;
          started = false;
          readThen(io, disk, (found) => assert.deepEqual(found, change.after));
        });
      },
    }, 0);
  }, (name, path) => {
    if (!started || count++ !== point) return;
    reached = true;
    throw new SimCrash(`crash before ${name} ${path}`, power);
  });
  assert.equal(done, !reached);
  try {
    look(world, host, change, power, done);
  } catch (error) {
    throw world.failure(error);
  }
  return reached;
}

/** Opens what the crash left, twice; all that is there makes sense, and the same change can be made again. */
function look(world: SimCluster, host: SimHost, change: Change, power: boolean, done: boolean): void {
  let first: readonly number[] | undefined, looks = 0;
  for (let round = 0; round < 2; round++) {
    process(world, host, (io) => {
      const disk = ReplicaDisk.open(io, DIRECTORY), happened = change.happened(disk);
      if (done) assert.ok(happened, "what was reported has happened");
      for (const { name } of disk.info().disks.values()) {
        assert.match(name, change.disks);
        assert.ok(io.files.exists(`${DIRECTORY}/${name}`), `${name} has a file`);
      }
      readThen(io, disk, (found) => {
        const expected = [...happened ? change.after : change.before], { unflushed } = change;
        // What was not flushed may be lost; then the snapshot shows, whole.
        if (unflushed !== undefined && power && !done && found[unflushed] === 2) expected[unflushed] = 2;
        assert.deepEqual(found, expected);
        assert.deepEqual(found, first ?? found, "a second look");
        first = found;
        disk.close();
        const view = longhornView(io.files, DIRECTORY);
        assert.deepEqual(found, found.map((_, i) => view[i * BLOCK]), "Longhorn's view");
        looks++;
      });
    });
  }
  process(world, host, (io) => {
    const disk = ReplicaDisk.open(io, DIRECTORY);
    const go = () => {
      assert.ok(change.happened(disk));
      disk.changes.snapshot("afterwards", AT);
      readThen(io, disk, (found) => {
        assert.deepEqual(found, change.unflushed === undefined ? change.after : first, "made again");
        disk.close();
        looks++;
      });
    };
    if (change.happened(disk) && change.unflushed === undefined) go();
    else change.make(disk, go);
  });
  assert.equal(looks, 3);
}

for (const change of CHANGES) {
  for (const power of [false, true]) {
    Deno.test(`${power ? "a power cut" : "a kill"} at any step leaves the state before or after: ${change.name}`, () => {
      for (let seed = 0; seed < SEEDS; seed++) {
        let point = 0;
        while (history(change, seed, point, power)) point++;
        assert.ok(point >= 3, `only ${point} steps`);
      }
    });
  }
}
