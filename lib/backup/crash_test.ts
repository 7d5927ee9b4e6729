/**
 * A client that dies at every single call of create, delete and restore; the same again in random histories; and two
 * clients whose calls interleave in every way. The one promise: what is recorded as complete can be restored whole.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Level, setLogLevel } from "../log/log.ts";
import { setImmediate } from "node:timers";
import fc from "fast-check";
import { InlineCodec } from "./codec.ts";
import { createBackup } from "./create.ts";
import { collectGarbage, deleteBackup, deleteVolume } from "./delete.ts";
import { BackupInputError, BlockError, LockedError, NoSuchBackupError } from "./errors.ts";
import { blocksFolder, checksumOfPath } from "./names.ts";
import { restoreBackup } from "./restore.ts";
import { backupNames, findBackup, isComplete } from "./store.ts";
import { crashAt, CrashedError, type MemoryFaults, MemoryStore, type MemoryTarget } from "./target/memory.ts";
import { MemoryJournal, MemorySink, TestVolume } from "./test_kit.ts";

// A client that died cannot remove its lock, and says so each time.
setLogLevel(Level.ERROR);

const BLOCK = 8192;
const UNITS = 32;
/** Longer than locks live. */
const LONG_MS = 400_000;
const codec = new InlineCodec();
const FAST = { settleMs: 0, codec, concurrency: 1 } as const;

/** A store whose clock a test can move. */
class World {
  readonly store: MemoryStore;
  readonly volume = new TestVolume(UNITS);
  #lateMs = 0;
  #times = 0;

  constructor() {
    this.store = new MemoryStore(() => Date.now() + this.#lateMs);
  }

  later(): void {
    this.#lateMs += LONG_MS;
  }

  snapshot(name: string): void {
    this.volume.snapshot(name);
  }

  create(snapshot: string, target: MemoryTarget = this.store.open()): Promise<unknown> {
    return createBackup(target, this.volume.source(snapshot), {
      volume: "v",
      snapshot,
      name: `b-${snapshot}`,
      snapshotCreatedAt: new Date(Date.UTC(2026, 0, 1) + 1000 * this.#times++).toISOString(),
      blockBytes: BLOCK,
      ...FAST,
    });
  }

  /** Restores every complete backup and compares. */
  async check(): Promise<void> {
    for (const backup of await backupNames(this.store.open(), "v")) {
      const record = await findBackup(this.store.open(), "v", backup);
      if (record === undefined || !isComplete(record)) continue;
      const sink = new MemorySink(this.volume.bytes);
      // Beside whatever locks a dead client left.
      const unlocked = this.store.open({ shown: ({ path }) => !path.endsWith(".lck") });
      await restoreBackup(unlocked, sink, { volume: "v", backup, ...FAST });
      assert.deepEqual(sink.content, this.volume.content(record.snapshotName), backup);
    }
  }

  /** Blocks on the target, and those that complete backups need. */
  async blocks(): Promise<{ stored: string[]; needed: string[] }> {
    const needed = new Set<string>();
    for (const backup of await backupNames(this.store.open(), "v")) {
      const record = await findBackup(this.store.open(), "v", backup);
      for (const { checksum } of record?.blocks ?? []) needed.add(checksum);
    }
    const stored = this.store.paths(blocksFolder("v")).map((path) => checksumOfPath(path) ?? path);
    return { stored: stored.sort(), needed: [...needed].sort() };
  }
}

/** A volume with the backups b-s1 and b-s2, and a snapshot s3. */
async function sample(): Promise<World> {
  const world = new World(), { volume } = world;
  for (const unit of [0, 1, 2, 7, 20, 31]) volume.write(unit, unit + 1);
  world.snapshot("s1");
  volume.write(7, 70);
  volume.write(20, 71);
  world.snapshot("s2");
  volume.write(7, 80);
  volume.write(10, 81);
  volume.write(12, 81);
  volume.write(28, 82);
  world.snapshot("s3");
  await world.create("s1");
  await world.create("s2");
  return world;
}

/** Calls `attempt` on clients that die at call 1, 2, … until one does not die; checks after each with `after`. */
async function atEveryCall(
  attempt: (world: World, target: MemoryTarget) => Promise<unknown>,
  after: (world: World) => Promise<void>,
): Promise<number> {
  for (let at = 1;; at++) {
    let died = false;
    for (const effect of [false, true]) {
      const world = await sample();
      const target = world.store.open(crashAt(at, effect));
      await attempt(world, target).catch((error) => {
        assert.ok(error instanceof CrashedError, `call ${at}: ${error}`);
      });
      died ||= target.count >= at;
      await world.check();
      world.later();
      await after(world);
      await world.check();
    }
    if (!died) return at;
  }
}

Deno.test("a backup that dies at any call leaves the others whole, and goes on without uploading again", async () => {
  const calls = await atEveryCall(
    (world, target) => world.create("s3", target),
    async (world) => {
      const before = (await world.blocks()).stored;
      const target = world.store.open();
      let uploads = 0;
      const counting: MemoryFaults = {
        before: ({ operation, path }) => {
          if (operation === "write" && path.endsWith(".blk")) uploads++;
        },
      };
      await world.create("s3", world.store.open(counting));
      const { stored, needed } = await world.blocks();
      assert.deepEqual(stored, needed);
      assert.equal(uploads, stored.length - before.length, "only what was missing");
      const report = await collectGarbage(target, "v", FAST);
      assert.deepEqual([report.state, report.removedBlocks], ["done", 0]);
    },
  );
  assert.ok(calls > 20, `${calls} calls`);
});

Deno.test("a deletion that dies at any call leaves the others whole, and a later one finishes it", async () => {
  await atEveryCall(
    (_, target) => deleteBackup(target, { volume: "v", backup: "b-s2" }, FAST),
    async (world) => {
      await deleteBackup(world.store.open(), { volume: "v", backup: "b-s2" }, FAST).catch((error) => {
        assert.ok(error instanceof NoSuchBackupError);
      });
      const report = await collectGarbage(world.store.open(), "v", FAST);
      assert.equal(report.state, "done");
      const { stored, needed } = await world.blocks();
      assert.deepEqual(stored, needed);
      await world.create("s3");
    },
  );
});

Deno.test("the deletion of a volume that dies at any call can be finished", async () => {
  await atEveryCall(
    (_, target) => deleteVolume(target, "v", FAST),
    async (world) => {
      await deleteVolume(world.store.open(), "v", FAST).catch((error) => {
        assert.ok(error instanceof NoSuchBackupError);
      });
      const rest = world.store.paths().filter((path) => !path.endsWith(".lck"));
      assert.deepEqual(rest, []);
    },
  );
});

Deno.test("a restore that dies at any call goes on where its journal says", async () => {
  const sinks = new Map<World, { sink: MemorySink; journal: MemoryJournal }>();
  let resumed = 0;
  await atEveryCall(
    (world, target) => {
      const ends = { sink: new MemorySink(world.volume.bytes), journal: new MemoryJournal() };
      sinks.set(world, ends);
      const options = {
        volume: "v",
        backup: "b-s2",
        journal: ends.journal,
        journalEveryBytes: BLOCK,
        ...FAST,
      };
      return restoreBackup(target, ends.sink, options);
    },
    async (world) => {
      const { sink, journal } = sinks.get(world) ?? assert.fail();
      const written = sink.written;
      const options = { volume: "v", backup: "b-s2", journal, journalEveryBytes: BLOCK, ...FAST };
      const result = await restoreBackup(world.store.open(), sink, options);
      assert.deepEqual(sink.content, world.volume.content("s2"));
      assert.equal(journal.text, undefined);
      if (result.resumedBlocks > 0) {
        resumed++;
        assert.ok(sink.written < written + result.record.blocks.length * BLOCK);
      }
    },
  );
  assert.ok(resumed > 0, "some restores went on");
});

/** Errors that a client may meet without any fault of ours. */
function isExpected(error: unknown): boolean {
  return error instanceof CrashedError || error instanceof LockedError ||
    error instanceof NoSuchBackupError ||
    error instanceof BackupInputError;
}

type Step =
  | { readonly kind: "write"; readonly unit: number; readonly value: number }
  | { readonly kind: "create"; readonly crash: number | null }
  | { readonly kind: "delete"; readonly pick: number; readonly crash: number | null }
  | { readonly kind: "collect"; readonly crash: number | null }
  | { readonly kind: "later" };

const crash = fc.option(fc.integer({ min: 1, max: 40 }), { freq: 1 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("write" as const),
      unit: fc.nat({ max: UNITS - 1 }),
      value: fc.nat({ max: 5 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("create" as const), crash }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("delete" as const), pick: fc.nat(), crash }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("collect" as const), crash }) },
  { weight: 2, arbitrary: fc.constant({ kind: "later" as const }) },
);

async function apply(world: World, one: Step, snapshots: number): Promise<void> {
  const open = (at: number | null): MemoryTarget =>
    world.store.open(at === null ? {} : crashAt(at, at % 2 === 0));
  if (one.kind === "write") return world.volume.write(one.unit, one.value);
  if (one.kind === "later") return world.later();
  if (one.kind === "create") {
    world.snapshot(`s${snapshots}`);
    await world.create(`s${snapshots}`, open(one.crash));
  } else if (one.kind === "collect") {
    await collectGarbage(open(one.crash), "v", FAST);
  } else {
    const names = await backupNames(world.store.open(), "v");
    const backup = names[one.pick % Math.max(1, names.length)];
    if (backup !== undefined) await deleteBackup(open(one.crash), { volume: "v", backup }, FAST);
  }
}

Deno.test("after any history of backups, deletions and crashes every complete backup is whole", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 25 }), async (steps) => {
      const world = new World();
      world.volume.write(0, 1);
      for (const [index, one] of steps.entries()) {
        await apply(world, one, index).catch((error) => assert.ok(isExpected(error), String(error)));
        await world.check();
      }
    }),
    { numRuns: 30 },
  );
});

/** Lets the calls of two clients happen one by one: so many of the first, so many of the second, and so on. */
class Turns {
  readonly #waiting: (() => void)[][] = [[], []];
  readonly #ended = [false, false];

  faults(client: number, blind: boolean): MemoryFaults {
    return {
      before: () => new Promise((resolve) => this.#waiting[client]?.push(resolve)),
      shown: ({ path }) => !blind || !path.endsWith(".lck"),
    };
  }

  ended(client: number): void {
    this.#ended[client] = true;
  }

  /** Runs until both have ended; when the lengths are used up, by turns. */
  async run(lengths: readonly number[]): Promise<void> {
    for (let round = 0; !this.#ended.every(Boolean); round++) {
      const client = round % 2;
      for (let left = lengths[round] ?? 1; left > 0 && this.#ended[client] !== true; left--) {
        // A client that waits for time to pass has no call, so it is not waited for for ever.
        for (let i = 0; i < 3 && this.#waiting[client]?.length === 0; i++) await this.#moment();
        this.#waiting[client]?.shift()?.();
        await this.#moment();
      }
    }
  }

  #moment(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }
}

Deno.test("a backup beside a deletion never loses a block, with locks that are seen and without", async () => {
  let together = 0, stopped = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.nat({ max: 30 }), { minLength: 1, maxLength: 8 }),
      fc.boolean(),
      async (lengths, blind) => {
        const world = await sample();
        // What only the deleted backup has is what the new one needs again.
        world.volume.write(7, 70);
        world.snapshot("s4");
        const turns = new Turns();
        const create = world.create("s4", world.store.open(turns.faults(0, blind)))
          .finally(() => turns.ended(0));
        const name = { volume: "v", backup: "b-s2" };
        const removal = deleteBackup(world.store.open(turns.faults(1, blind)), name, FAST)
          .finally(() => turns.ended(1));
        const [, [made, removed]] = await Promise.all([
          turns.run(lengths),
          Promise.allSettled([create, removal]),
        ]);
        for (const end of [made, removed]) {
          if (end.status === "rejected") assert.ok(isExpected(end.reason), String(end.reason));
        }
        if (made.status === "fulfilled" && removed.status === "fulfilled") {
          together++;
          if (removed.value.state !== "done") stopped++;
        }
        await world.check().catch((error) => {
          if (error instanceof BlockError) assert.fail(`a block in use was removed: ${error.message}`);
          throw error;
        });
      },
    ),
    { numRuns: 80 },
  );
  assert.ok(together > stopped && stopped > 0, "some collections ran to their end, some were stopped");
});

Deno.test("two clients that back up one volume at once leave whole backups", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat({ max: 20 }), { minLength: 1, maxLength: 10 }), async (lengths) => {
      const world = await sample();
      world.volume.write(3, 9);
      world.snapshot("s4");
      const turns = new Turns();
      // The second one holds the snapshots too, as after a move of the volume to another cluster.
      const one = world.create("s3", world.store.open(turns.faults(0, false))).finally(() => turns.ended(0));
      const two = world.create("s4", world.store.open(turns.faults(1, false))).finally(() => turns.ended(1));
      await Promise.all([turns.run(lengths), one, two]);
      await world.check();
      const names = await backupNames(world.store.open(), "v");
      assert.deepEqual(names, ["b-s1", "b-s2", "b-s3", "b-s4"]);
      await deleteBackup(world.store.open(), { volume: "v", backup: "b-s2" }, FAST);
      await world.check();
    }),
    { numRuns: 20 },
  );
});
