import assert from "node:assert/strict";
import { InlineCodec } from "./codec.ts";
import { createBackup } from "./create.ts";
import { collectGarbage, deleteBackup, deleteVolume, retain } from "./delete.ts";
import { BackupInputError, LockedError, NoSuchBackupError } from "./errors.ts";
import { backupPath, blocksFolder, collectionPath, locksFolder, volumeFolder, volumePath } from "./names.ts";
import { restoreBackup } from "./restore.ts";
import { backupNames, loadBackup, loadVolume } from "./store.ts";
import { MemoryStore } from "./target/memory.ts";
import { MemorySink, TestVolume } from "./test_kit.ts";

const BLOCK = 16384;
const DAY_MS = 24 * 60 * 60 * 1000;
const codec = new InlineCodec();
const FAST = { settleMs: 0, codec } as const;

/** A volume whose snapshots s1 to s5 each change one block, with a backup of each. */
async function five(): Promise<{ volume: TestVolume; store: MemoryStore }> {
  const volume = new TestVolume(64), store = new MemoryStore();
  for (let i = 1; i <= 5; i++) {
    volume.write(4 * i, i);
    volume.write(40, 50 + i);
    volume.snapshot(`s${i}`);
    await createBackup(store.open(), volume.source(`s${i}`), {
      volume: "v",
      snapshot: `s${i}`,
      name: `b${i}`,
      snapshotCreatedAt: `2026-01-0${i}T00:00:00Z`,
      labels: { even: String(i % 2 === 0) },
      blockBytes: BLOCK,
      ...FAST,
    });
  }
  return { volume, store };
}

async function assertWhole(store: MemoryStore, volume: TestVolume): Promise<void> {
  for (const backup of await backupNames(store.open(), "v")) {
    const { snapshotName } = await loadBackup(store.open(), "v", backup);
    const sink = new MemorySink(volume.bytes);
    await restoreBackup(store.open(), sink, { volume: "v", backup, ...FAST });
    assert.deepEqual(sink.content, volume.content(snapshotName), backup);
  }
}

Deno.test("deleting a backup removes the blocks that only it had, and names the newest that is left", async () => {
  const { volume, store } = await five();
  const blocks = store.paths(blocksFolder("v")).length;
  const report = await deleteBackup(store.open(), { volume: "v", backup: "b5" }, FAST);
  assert.deepEqual([report.state, report.removedBlocks, report.keptBlocks], ["done", 2, blocks - 2]);
  assert.equal(store.paths(blocksFolder("v")).length, blocks - 2);
  const record = await loadVolume(store.open(), "v");
  assert.deepEqual([record.lastBackupName, record.blockCount], ["b4", blocks - 2]);
  await assertWhole(store, volume);
  assert.deepEqual(store.paths(locksFolder("v")), []);
  const middle = await deleteBackup(store.open(), { volume: "v", backup: "b2" }, FAST);
  assert.equal(middle.removedBlocks, 1, "the block at 40 as it was then");
  await assertWhole(store, volume);
  await assert.rejects(deleteBackup(store.open(), { volume: "v", backup: "b2" }, FAST), NoSuchBackupError);
});

Deno.test("while a backup runs only the record goes, and the next collection removes the blocks", async () => {
  const { volume, store } = await five();
  const lock = `${locksFolder("v")}lock-0.lck`;
  store.put(lock, '{"Name":"lock-0","Type":1,"Acquired":true}');
  await assert.rejects(
    deleteBackup(store.open(), { volume: "v", backup: "b5" }, { ...FAST, whenBusy: "fail" }),
    LockedError,
  );
  const report = await deleteBackup(store.open(), { volume: "v", backup: "b5" }, FAST);
  assert.deepEqual([report.state, report.removedBlocks], ["busy", 0]);
  assert.match(report.detail, /lock-0/);
  assert.deepEqual(await backupNames(store.open(), "v"), ["b1", "b2", "b3", "b4"]);
  store.objects.delete(lock);
  const later = await collectGarbage(store.open(), "v", FAST);
  assert.deepEqual([later.state, later.removedBlocks], ["done", 2]);
  await assertWhole(store, volume);
});

Deno.test("nothing is removed beside an incomplete backup, even when its lock is gone", async () => {
  const { volume, store } = await five();
  const path = backupPath("v", "other");
  store.put(path, '{"Name":"other","VolumeName":"v","CreatedTime":""}');
  store.objects.delete(backupPath("v", "b1"));
  const report = await collectGarbage(store.open(), "v", FAST);
  assert.deepEqual([report.state, report.removedBlocks], ["in progress", 0]);
  assert.match(report.detail, /other/);
  await assertWhole(store, volume).catch((error) => assert.match(String(error), /other/));
  const age = (record: string): void => {
    store.objects.set(path, { data: new TextEncoder().encode(record), modifiedMs: Date.now() - 2 * DAY_MS });
  };
  age('{"Name":"other","VolumeName":"v","CreatedTime":""}');
  assert.equal(
    (await collectGarbage(store.open(), "v", FAST)).state,
    "in progress",
    "other writers' records stay",
  );
  age('{"Name":"other","VolumeName":"v","CreatedTime":"","Writer":"drover"}');
  const later = await collectGarbage(store.open(), "v", FAST);
  assert.deepEqual([later.state, later.removedBlocks], ["done", 1]);
  assert.equal(store.objects.has(path), false);
  await assertWhole(store, volume);
});

Deno.test("nothing is removed while a record cannot be read, or the listing lags behind", async () => {
  const { store } = await five();
  store.put(backupPath("v", "b3"), "no record");
  const report = await deleteBackup(store.open(), { volume: "v", backup: "b1" }, FAST);
  assert.deepEqual([report.state, report.removedBlocks], ["unreadable record", 0]);
  assert.match(report.detail, /backup_b3/);
  const lagging = (await five()).store;
  const target = lagging.open({ shown: ({ path }) => path !== backupPath("v", "b5") });
  const late = await collectGarbage(target, "v", FAST);
  assert.deepEqual([late.state, late.removedBlocks], ["in progress", 0]);
});

Deno.test("a collection that slept while a backup was made does not remove what that needs", async () => {
  const { volume, store } = await five();
  volume.write(40, 55);
  volume.snapshot("s6");
  // What only b5 has is garbage when b5 is gone, and needed again by b6.
  store.objects.delete(backupPath("v", "b5"));
  const blind = store.open({ shown: ({ path }) => !path.endsWith(".lck") });
  let made = false;
  const target = store.open({
    before: async ({ operation, path }) => {
      if (operation !== "write" || path !== collectionPath("v") || made) return;
      made = true;
      // It does not see the collection's lock: that is expired, or the target's listings lag behind.
      const options = { volume: "v", snapshot: "s6", name: "b6", blockBytes: BLOCK, ...FAST };
      await createBackup(blind, volume.source("s6"), options);
    },
  });
  const report = await collectGarbage(target, "v", FAST);
  assert.deepEqual([made, report.state, report.removedBlocks], [true, "in progress", 0]);
  assert.match(report.detail, /b6/);
  await assertWhole(store, volume);
});

Deno.test("deleting a volume leaves nothing of it", async () => {
  const { volume, store } = await five();
  await createBackup(store.open(), volume.source("s1"), {
    volume: "w",
    snapshot: "s1",
    blockBytes: BLOCK,
    ...FAST,
  });
  const others = store.paths().filter((path) => path.startsWith(volumeFolder("w")));
  await deleteVolume(store.open(), "v", FAST);
  assert.deepEqual(store.paths(), others);
  await assert.rejects(deleteVolume(store.open(), "v", FAST), NoSuchBackupError);
});

Deno.test("retention keeps by count, by age and by label, and always the newest", async () => {
  const { volume, store } = await five();
  for (let i = 1; i <= 5; i++) {
    const path = backupPath("v", `b${i}`);
    const text = store.text(path) ?? "";
    store.put(path, text.replace(/"CreatedTime":"[^"]*"/, `"CreatedTime":"2026-02-0${i}T00:00:00Z"`));
  }
  const nowMs = Date.parse("2026-02-06T00:00:00Z");
  const plan = { volume: "v", nowMs, dryRun: true, ...FAST };
  const dry = await retain(store.open(), { ...plan, keepCount: 2 });
  assert.deepEqual([dry.removed, dry.kept], [["b1", "b2", "b3"], ["b4", "b5"]]);
  const young = await retain(store.open(), { ...plan, keepMs: 3.5 * DAY_MS });
  assert.deepEqual(young.kept, ["b3", "b4", "b5"]);
  assert.deepEqual((await retain(store.open(), { ...plan, keepMs: 1 })).kept, ["b5"]);
  const both = await retain(store.open(), { ...plan, keepCount: 1, keepMs: 2.5 * DAY_MS });
  assert.deepEqual(both.kept, ["b4", "b5"]);
  const labelled = await retain(store.open(), { ...plan, keepCount: 1, labels: { even: "true" } });
  assert.deepEqual([labelled.removed, labelled.kept], [["b2"], ["b4"]]);
  const real = await retain(store.open(), { ...plan, keepCount: 2, dryRun: false });
  assert.equal(real.garbage?.state, "done");
  assert.deepEqual(await backupNames(store.open(), "v"), ["b4", "b5"]);
  await assertWhole(store, volume);
  await assert.rejects(retain(store.open(), { volume: "v", ...FAST }), BackupInputError);
  await assert.rejects(retain(store.open(), { volume: "v", keepCount: 0, ...FAST }), BackupInputError);
});

Deno.test("a volume whose record cannot be read can be deleted, but nothing of it is collected", async () => {
  const { store } = await five();
  store.put(volumePath("v"), "");
  assert.equal((await collectGarbage(store.open(), "v", FAST)).state, "unreadable record");
  await deleteVolume(store.open(), "v", FAST);
  assert.deepEqual(store.paths(), []);
});
