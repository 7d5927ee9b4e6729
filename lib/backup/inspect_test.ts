import assert from "node:assert/strict";
import { InlineCodec } from "./codec.ts";
import { createBackup } from "./create.ts";
import { LockedError, RecordError } from "./errors.ts";
import { encodeSystemBackup, inspectBackingImage, inspectSystemBackup } from "./images.ts";
import { listBackingImages, listSystemBackups } from "./images.ts";
import {
  backupUrl,
  inspectBackup,
  inspectVolume,
  listBackups,
  listVolumes,
  longhornBackup,
  longhornList,
  longhornVolume,
  parseBackupUrl,
} from "./inspect.ts";
import {
  backingBlocksFolder,
  backingImagePath,
  backupPath,
  blockPath,
  checksumOfPath,
  locksFolder,
  systemBackupFolder,
  volumeFolder,
} from "./names.ts";
import { deleteBackingImage } from "./backing_images.ts";
import { MemoryStore } from "./target/memory.ts";
import { TestVolume } from "./test_kit.ts";

const FAST = { settleMs: 0, codec: new InlineCodec(), blockBytes: 16384 } as const;

async function sample(): Promise<MemoryStore> {
  const store = new MemoryStore(), volume = new TestVolume(16);
  volume.write(1, 1);
  volume.snapshot("s1");
  volume.write(9, 2);
  volume.snapshot("s2");
  for (const name of ["pvc-a", "pvc-b"]) {
    for (const snapshot of ["s1", "s2"]) {
      await createBackup(store.open(), volume.source(snapshot), {
        volume: name,
        snapshot,
        name: `b-${snapshot}`,
        snapshotCreatedAt: "2026-01-01T00:00:00Z",
        labels: { a: "b" },
        backingImage: { name: "img", checksum: "ff" },
        ...FAST,
      });
    }
  }
  return store;
}

Deno.test("volumes are found through their folders, without listing blocks", async () => {
  const store = await sample();
  const target = store.open();
  store.put("backupstore/volumes/stray-file", "x");
  store.put("backupstore/volumes/zz/zz/no-volume/volume.cfg", "x");
  assert.deepEqual(await listVolumes(target), ["pvc-a", "pvc-b"]);
  assert.equal(target.calls.get("list"), undefined);
  assert.deepEqual(await listVolumes(new MemoryStore().open()), []);
});

Deno.test("backups are listed with what their records say, also those that cannot be read", async () => {
  const store = await sample();
  store.put(backupPath("pvc-a", "bad"), "?");
  const listed = await listBackups(store.open(), "pvc-a");
  assert.deepEqual(listed.map(({ name, blocks, blockBytes }) => [name, blocks, blockBytes]), [
    ["b-s1", 1, 16384],
    ["b-s2", 2, 16384],
    ["bad", 0, 0],
  ]);
  assert.equal(listed[1]?.record?.isIncremental, true);
  assert.match(listed[2]?.problem ?? "", /backup_bad\.cfg: is not JSON/);
  assert.deepEqual(await listBackups(store.open(), "none"), []);
  await assert.rejects(inspectBackup(store.open(), { volume: "pvc-a", backup: "bad" }), RecordError);
});

Deno.test("the JSON of a volume and a backup has Longhorn's keys in Longhorn's order", async () => {
  const store = await sample();
  const volume = await inspectVolume(store.open(), "pvc-a");
  assert.equal(
    JSON.stringify(longhornVolume({ ...volume, createdTime: "T" })),
    '{"Name":"pvc-a","Size":"65536","Labels":{"a":"b"},"Created":"T","LastBackupName":"b-s2",' +
      '"LastBackupAt":"2026-01-01T00:00:00Z","DataStored":"4194304","Messages":{},"BackingImageName":"img",' +
      '"BackingImageChecksum":"ff","StorageClassname":"","DataEngine":"v1"}',
  );
  const backup = await inspectBackup(store.open(), { volume: "pvc-a", backup: "b-s1" }) ?? assert.fail();
  const json = longhornBackup({ ...backup, createdTime: "C" }, { ...volume, createdTime: "T" }, "vfs:///x");
  assert.equal(
    JSON.stringify({ ...json, NewlyUploadedDataSize: "1" }),
    '{"Name":"b-s1","URL":"vfs:///x?backup=b-s1&volume=pvc-a","SnapshotName":"s1",' +
      '"SnapshotCreated":"2026-01-01T00:00:00Z","Created":"C","Size":"16384","Labels":{"a":"b"},' +
      '"IsIncremental":false,"CompressionMethod":"lz4","VolumeName":"pvc-a","VolumeSize":"65536",' +
      '"VolumeCreated":"T","VolumeBackingImageName":"img","Messages":null,"NewlyUploadedDataSize":"1",' +
      '"ReUploadedDataSize":"0"}',
  );
});

Deno.test("the list names volumes and their backups, and says which volume has no record", async () => {
  const store = await sample();
  store.objects.delete(`${volumeFolder("pvc-b")}volume.cfg`);
  const list = await longhornList(store.open());
  assert.deepEqual(Object.keys(list), ["pvc-a", "pvc-b"]);
  const [a, b] = Object.values(list) as Record<string, Record<string, unknown>>[];
  assert.deepEqual(Object.keys(a?.["Backups"] ?? {}), ["b-s1", "b-s2"]);
  assert.match(String(b?.["Messages"]?.["error"]), /cannot find backupstore\/volumes\/.*pvc-b\/volume\.cfg/);
  const one = await longhornList(store.open(), { volume: "pvc-a", volumeOnly: true });
  assert.deepEqual(Object.keys(one), ["pvc-a"]);
  assert.equal((one["pvc-a"] as Record<string, unknown>)["Backups"], undefined);
});

Deno.test("URLs of backups come apart as they were put together", () => {
  const name = { volume: "pvc-1", backup: "backup-1" };
  assert.equal(backupUrl("s3://b@r/x/", name), "s3://b@r/x/?backup=backup-1&volume=pvc-1");
  const parts = { target: "s3://b@r/x/", volume: "pvc-1", backup: "backup-1", backingImage: undefined };
  assert.deepEqual(parseBackupUrl("s3://b@r/x/?backup=backup-1&volume=pvc-1"), parts);
  assert.equal(
    parseBackupUrl("nfs://h:/e?nfsOptions=a=b,c&volume=v").target,
    "nfs://h:/e?nfsOptions=a=b,c",
  );
  assert.equal(parseBackupUrl("vfs:///x?backingImage=i").backingImage, "i");
  assert.equal(parseBackupUrl("vfs:///x").volume, undefined);
});

Deno.test("backing images and system backups are listed and read", async () => {
  const store = new MemoryStore();
  assert.deepEqual(await listBackingImages(store.open()), []);
  assert.deepEqual(await listSystemBackups(store.open()), []);
  store.put(backingImagePath("img"), '{"Name":"img","Size":"4096","CompleteTime":"T"}');
  assert.deepEqual(await listBackingImages(store.open()), ["img"]);
  assert.equal((await inspectBackingImage(store.open(), "img")).bytes, 4096);
  await assert.rejects(inspectBackingImage(store.open(), "x"), /no backing image x/);
  const one = { version: "v1.9.0", name: "daily" };
  const record = {
    ...one,
    gitCommit: "c",
    targetUrl: "vfs:///x",
    managerImage: "m",
    engineImage: "e",
    createdAt: "T",
    checksum: "ff",
  };
  store.put(`${systemBackupFolder("v1.9.0", "daily")}system-backup.cfg`, encodeSystemBackup(record));
  assert.deepEqual(await listSystemBackups(store.open()), [one]);
  assert.deepEqual(await inspectSystemBackup(store.open(), one), record);
});

Deno.test("a backing image goes with the blocks that no other one needs", async () => {
  const store = new MemoryStore(), sums = ["a", "b", "c"].map((digit) => digit.repeat(64));
  const put = (name: string, blocks: readonly string[], complete = "T"): void => {
    const list = blocks.map((sum, i) => ({ Offset: i * 4096, BlockChecksum: sum }));
    store.put(backingImagePath(name), JSON.stringify({ Name: name, CompleteTime: complete, Blocks: list }));
    for (const sum of blocks) store.put(blockPath(backingBlocksFolder(), sum), "data");
  };
  const stored = (): string[] =>
    store.paths(backingBlocksFolder()).map((path) => checksumOfPath(path) ?? path);
  put("one", sums.slice(0, 2));
  put("two", sums.slice(1));
  put("three", [], "");
  const busy = await deleteBackingImage(store.open(), "one", FAST);
  assert.deepEqual([busy.state, stored()], ["in progress", sums]);
  store.objects.delete(backingImagePath("three"));
  put("one", sums.slice(0, 2));
  const done = await deleteBackingImage(store.open(), "one", FAST);
  assert.deepEqual([done.state, done.removedBlocks, done.keptBlocks], ["done", 1, 2]);
  assert.deepEqual([await listBackingImages(store.open()), stored()], [["two"], sums.slice(1)]);
  store.put(`${locksFolder("BACKINGIMAGE")}lock-1.lck`, '{"Name":"lock-1","Type":1,"Acquired":true}');
  assert.deepEqual(await listVolumes(store.open()), [], "its locks make no volume");
  await assert.rejects(deleteBackingImage(store.open(), "two", { ...FAST, whenBusy: "fail" }), LockedError);
  assert.equal((await deleteBackingImage(store.open(), "two", FAST)).state, "busy");
  assert.deepEqual([await listBackingImages(store.open()), stored()], [[], sums.slice(1)]);
  await assert.rejects(deleteBackingImage(store.open(), "two", FAST), /no backing image two/);
});
