import assert from "node:assert/strict";
import { InlineCodec } from "./codec.ts";
import { createBackup } from "./create.ts";
import { BackupInputError, LockedError } from "./errors.ts";
import { backupPath, locksFolder, volumeFolder, volumePath } from "./names.ts";
import { restoreBackup, restoreDelta } from "./restore.ts";
import { loadVolume } from "./store.ts";
import { MemoryStore } from "./target/memory.ts";
import { MemorySink, TestVolume } from "./test_kit.ts";
import type { CreateOptions } from "./types.ts";

const BLOCK = 16384;
const codec = new InlineCodec();
const FAST = { settleMs: 0, codec } as const;

function options(snapshot: string, more: Partial<CreateOptions> = {}): CreateOptions {
  return {
    volume: "vol1",
    snapshot,
    name: `b-${snapshot}`,
    blockBytes: BLOCK,
    snapshotCreatedAt: "2026-01-02T03:04:05Z",
    ...FAST,
    ...more,
  };
}

function sample(): TestVolume {
  const volume = new TestVolume(64);
  for (const unit of [0, 1, 5, 20, 21, 63]) volume.write(unit, unit + 1);
  volume.snapshot("s1");
  volume.write(5, 100);
  volume.write(30, 101);
  volume.snapshot("s2");
  return volume;
}

async function restored(store: MemoryStore, backup: string, bytes: number): Promise<Uint8Array> {
  const sink = new MemorySink(bytes);
  await restoreBackup(store.open(), sink, { volume: "vol1", backup, ...FAST });
  return sink.content;
}

Deno.test("full and incremental backups restore to what the snapshots were", async () => {
  const volume = sample(), store = new MemoryStore();
  const first = await createBackup(store.open(), volume.source("s1"), options("s1"));
  assert.equal(first.fullReason, "first backup");
  assert.deepEqual(first.record.blocks.map(({ offset }) => offset / BLOCK), [0, 1, 5, 15]);
  const second = await createBackup(store.open(), volume.source("s2"), options("s2"));
  assert.equal(second.fullReason, undefined);
  assert.equal(second.record.isIncremental, true);
  assert.equal(second.changedBlocks, 2);
  assert.equal(second.uploadedBlocks, 2);
  assert.deepEqual(await restored(store, "b-s1", volume.bytes), volume.content("s1"));
  assert.deepEqual(await restored(store, "b-s2", volume.bytes), volume.content("s2"));
  const sink = new MemorySink(volume.content("s1"));
  const delta = await restoreDelta(store.open(), sink, { volume: "vol1", from: "b-s1", to: "b-s2", ...FAST });
  assert.deepEqual(sink.content, volume.content("s2"));
  assert.equal(delta.downloadedBlocks, 2);
  await restoreDelta(store.open(), sink, { volume: "vol1", from: "b-s2", to: "b-s1", ...FAST });
  assert.deepEqual(sink.content, volume.content("s1"), "back again, with the vanished block zeroed");
  assert.deepEqual(store.paths(locksFolder("vol1")), [], "no lock stays");
  const record = await loadVolume(store.open(), "vol1");
  assert.equal(record.lastBackupName, "b-s2");
  assert.equal(record.blockCount, 6);
});

Deno.test("equal blocks are uploaded once, within a backup and between backups", async () => {
  const volume = new TestVolume(64), store = new MemoryStore();
  for (let unit = 0; unit < 64; unit++) volume.write(unit, 7);
  volume.snapshot("s1");
  for (let unit = 0; unit < 8; unit++) volume.write(unit, 7);
  volume.write(8, 9);
  volume.snapshot("s2");
  const first = await createBackup(store.open(), volume.source("s1"), options("s1"));
  assert.deepEqual([first.record.blocks.length, first.uploadedBlocks], [16, 1]);
  const second = await createBackup(store.open(), volume.source("s2"), options("s2"));
  assert.deepEqual([second.changedBlocks, second.uploadedBlocks], [3, 1]);
  const full = await createBackup(
    store.open(),
    volume.source("s2"),
    options("s2", { name: "again", mode: "full" }),
  );
  assert.equal(full.fullReason, "requested");
  assert.deepEqual([full.record.newlyUploadedBytes, full.record.reUploadedBytes > 0], [0, true]);
});

Deno.test("a backup is full when there is nothing to build on, and says why", async () => {
  const volume = sample(), store = new MemoryStore();
  await createBackup(store.open(), volume.source("s1"), options("s1"));
  const other = await createBackup(
    store.open(),
    volume.source("s2"),
    options("s2", { name: "other", blockBytes: 2 * BLOCK }),
  );
  assert.equal(other.fullReason, "other block size");
  assert.equal(other.record.parameters?.["backup-block-size"], String(2 * BLOCK));
  assert.deepEqual(await restored(store, "other", volume.bytes), volume.content("s2"));
  await assert.rejects(
    restoreDelta(store.open(), new MemorySink(volume.bytes), {
      volume: "vol1",
      from: "b-s1",
      to: "other",
      ...FAST,
    }),
    BackupInputError,
  );
  const same = await createBackup(
    store.open(),
    volume.source("s2"),
    options("s2", { name: "same", blockBytes: 2 * BLOCK }),
  );
  assert.equal(same.fullReason, "same snapshot");
  volume.write(1, 1);
  volume.snapshot("s3");
  volume.removeSnapshot("s2");
  const gone = await createBackup(
    store.open(),
    volume.source("s3"),
    options("s3", { blockBytes: 2 * BLOCK }),
  );
  assert.equal(gone.fullReason, "last snapshot gone");
  store.put(backupPath("vol1", "b-s3"), "{");
  volume.snapshot("s4");
  const unreadable = await createBackup(
    store.open(),
    volume.source("s4"),
    options("s4", { blockBytes: 2 * BLOCK }),
  );
  assert.equal(unreadable.fullReason, "last backup unreadable");
  assert.deepEqual(await restored(store, "b-s4", volume.bytes), volume.content("s4"));
});

Deno.test("the volume's compression method wins over the request", async () => {
  const volume = sample(), store = new MemoryStore();
  await createBackup(store.open(), volume.source("s1"), options("s1", { compression: "zstd" }));
  const { record } = await createBackup(
    store.open(),
    volume.source("s2"),
    options("s2", { compression: "gzip" }),
  );
  assert.equal(record.compression, "zstd");
  assert.deepEqual(await restored(store, "b-s2", volume.bytes), volume.content("s2"));
});

Deno.test("an aborted backup leaves no record, and its blocks are found by the next attempt", async () => {
  const volume = sample(), store = new MemoryStore();
  const abort = new AbortController();
  const target = store.open();
  let blocks = 0;
  const stopped = createBackup(
    target,
    volume.source("s1"),
    options("s1", {
      concurrency: 1,
      signal: abort.signal,
      onProgress: () => ++blocks === 2 && abort.abort(new Error("enough")),
    }),
  );
  await assert.rejects(stopped, /enough/);
  assert.equal(store.objects.has(backupPath("vol1", "b-s1")), false);
  assert.deepEqual(store.paths(locksFolder("vol1")), []);
  const { uploadedBlocks, record } = await createBackup(store.open(), volume.source("s1"), options("s1"));
  assert.equal(uploadedBlocks, record.blocks.length - 2);
});

Deno.test("a complete backup of the same name and snapshot is returned, of another snapshot refused", async () => {
  const volume = sample(), store = new MemoryStore();
  const first = await createBackup(store.open(), volume.source("s1"), options("s1"));
  store.put(volumePath("vol1"), (store.text(volumePath("vol1")) ?? "").replace("b-s1", ""));
  const again = await createBackup(store.open(), volume.source("s1"), options("s1"));
  assert.deepEqual(again.record, first.record);
  assert.equal(
    (await loadVolume(store.open(), "vol1")).lastBackupName,
    "b-s1",
    "the missing last step is made up",
  );
  await assert.rejects(
    createBackup(store.open(), volume.source("s2"), options("s2", { name: "b-s1" })),
    /choose another name/,
  );
});

Deno.test("a deletion that holds its lock is in the way; a lock that expired is not", async () => {
  const volume = sample(), store = new MemoryStore();
  const lock = '{"Name":"lock-1","Type":2,"Acquired":true}';
  const path = `${locksFolder("vol1")}lock-1.lck`;
  store.put(path, lock);
  await assert.rejects(createBackup(store.open(), volume.source("s1"), options("s1")), LockedError);
  assert.deepEqual(store.paths(volumeFolder("vol1")), [path], "nothing else was left behind");
  store.objects.set(path, { data: new TextEncoder().encode(lock), modifiedMs: Date.now() - 151_000 });
  await createBackup(store.open(), volume.source("s1"), options("s1"));
});

Deno.test("sizes and names that cannot be are refused before anything is written", async () => {
  const volume = sample(), store = new MemoryStore();
  const wrong: Partial<CreateOptions>[] = [
    { blockBytes: 5000 },
    { blockBytes: 128 * 1024 * 1024 },
    { blockBytes: 0 },
    { volume: "../x" },
    { name: "a/b" },
    { concurrency: 0 },
    { concurrency: 65 },
  ];
  for (const more of wrong) {
    const attempt = createBackup(store.open(), volume.source("s1"), options("s1", more));
    await assert.rejects(attempt, BackupInputError, JSON.stringify(more));
  }
  const huge = { ...volume.source("s1"), bytes: (4 * 1024 * 1024 + 1) * BLOCK };
  await assert.rejects(createBackup(store.open(), huge, options("s1")), /larger blocks/);
  assert.deepEqual(store.paths(), []);
});

Deno.test("a volume may end within a block: the rest of that is zeros and is not restored", async () => {
  const volume = new TestVolume(9), store = new MemoryStore();
  for (const unit of [0, 8]) volume.write(unit, unit + 1);
  volume.snapshot("s1");
  volume.write(8, 50);
  volume.snapshot("s2");
  for (const snapshot of ["s1", "s2"]) {
    await createBackup(store.open(), volume.source(snapshot), options(snapshot));
    assert.deepEqual(await restored(store, `b-${snapshot}`, volume.bytes), volume.content(snapshot));
  }
  const sink = new MemorySink(volume.content("s1"));
  await restoreDelta(store.open(), sink, { volume: "vol1", from: "b-s1", to: "b-s2", ...FAST });
  assert.deepEqual(sink.content, volume.content("s2"));
});
