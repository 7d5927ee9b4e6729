/**
 * A store as Longhorn leaves it: records in its bytes, one block by its LZ4 library, one by Go's gzip although the
 * record says lz4, locks and temporary files left over. It is read, built upon and cleaned.
 *
 * @module
 */
import assert from "node:assert/strict";
import { InlineCodec } from "./codec.ts";
import { createBackup } from "./create.ts";
import { collectGarbage, deleteBackup } from "./delete.ts";
import { longhornList } from "./inspect.ts";
import { blockPath, blocksFolder, volumeFolder } from "./names.ts";
import { restoreBackup } from "./restore.ts";
import { loadVolume } from "./store.ts";
import { MemoryStore } from "./target/memory.ts";
import { MemorySink } from "./test_kit.ts";
import { verifyBackups } from "./verify.ts";

const FAST = { settleMs: 0, codec: new InlineCodec() } as const;
const BYTES = 16384, BLOCK = 4096;

/** 4096 bytes of "longhorn longhorn …" as github.com/pierrec/lz4/v4 writes them. */
const LZ4_SUM = "4841e4168f95b23fda7172403a7d7640fc971b951e5b77d55f9e92dc48831c18";
const LZ4_BLOCK = "BCJNGGRwuS4AAACfbG9uZ2hvcm4gCQD////////////////////gAOQPAO0PsCBsb25naG9ybiBsAAAAAPy5aBs=";
/** 4096 bytes of "drover drover …" as Go's compress/gzip writes them. */
const GZIP_SUM = "ddfa17ade4c29e37c01308cc0e135eff31a49ee82388307ffc7b89035b804c3f";
const GZIP_BLOCK = "H4sIAAAAAAAA/+zFMQ0AMAgEQCsVV2aSH9CPD3LT/fRUHgAAAAAAOMwGAAD//6BY+dUAEAAA";

const VOLUME_CFG = '{"Name":"old","Size":"16384","Labels":{"KubernetesStatus":"{\\"pvName\\":\\"\\"}"},' +
  '"CreatedTime":"2026-10-05T00:40:40Z","LastBackupName":"backup-2","LastBackupAt":"2026-10-05T00:50:38Z",' +
  '"BlockCount":"2","BackingImageName":"\\"\\"","BackingImageChecksum":"\\"\\"",' +
  '"CompressionMethod":"\\"lz4\\"","StorageClassName":"\\"longhorn\\"","DataEngine":"\\"v1\\""}';

function backupCfg(name: string, snapshot: string, incremental: boolean, blocks: string): string {
  return `{"Name":"${name}","VolumeName":"old","SnapshotName":"${snapshot}",` +
    '"SnapshotCreatedAt":"2026-10-05T00:40:38Z","CreatedTime":"2026-10-05T00:40:43Z",' +
    `"Size":"8192","Labels":{"k":"v"},"Parameters":{"backup-block-size":"4096"},` +
    `"IsIncremental":${incremental},"CompressionMethod":"lz4","NewlyUploadedDataSize":"100",` +
    `"ReUploadedDataSize":"0","ProcessingBlocks":${incremental ? "null" : "{}"},"Blocks":[${blocks}],` +
    '"SingleFile":{"FilePath":""}}';
}

function bytesOf(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
}

function filled(text: string): Uint8Array {
  return new TextEncoder().encode(text.repeat(BLOCK).slice(0, BLOCK));
}

function golden(): MemoryStore {
  const store = new MemoryStore(), folder = volumeFolder("old"), blocks = blocksFolder("old");
  const block = (offset: number, sum: string): string => `{"Offset":${offset},"BlockChecksum":"${sum}"}`;
  store.put(`${folder}volume.cfg`, VOLUME_CFG);
  store.put(
    `${folder}backups/backup_backup-1.cfg`,
    backupCfg("backup-1", "s1", false, `${block(0, LZ4_SUM)},${block(8192, LZ4_SUM)}`),
  );
  store.put(
    `${folder}backups/backup_backup-2.cfg`,
    backupCfg("backup-2", "s2", true, `${block(0, GZIP_SUM)},${block(8192, LZ4_SUM)}`),
  );
  store.put(blockPath(blocks, LZ4_SUM), bytesOf(LZ4_BLOCK));
  store.put(blockPath(blocks, GZIP_SUM), bytesOf(GZIP_BLOCK));
  store.put(`${blockPath(blocks, GZIP_SUM)}.tmp`, "left over");
  store.objects.set(`${folder}locks/lock-0123456789abcdef.lck`, {
    data: new TextEncoder().encode('{"Name":"lock-0123456789abcdef","Type":2,"Acquired":true}'),
    modifiedMs: Date.now() - 200_000,
  });
  return store;
}

function content(parts: Readonly<Record<number, string>>): Uint8Array {
  const bytes = new Uint8Array(BYTES);
  for (const [offset, text] of Object.entries(parts)) bytes.set(filled(text), Number(offset));
  return bytes;
}

async function restored(store: MemoryStore, backup: string): Promise<Uint8Array> {
  const sink = new MemorySink(BYTES);
  await restoreBackup(store.open(), sink, { volume: "old", backup, ...FAST });
  return sink.content;
}

Deno.test("Longhorn's backups are restored, verified and listed", async () => {
  const store = golden();
  assert.deepEqual(await restored(store, "backup-1"), content({ 0: "longhorn ", 8192: "longhorn " }));
  assert.deepEqual(await restored(store, "backup-2"), content({ 0: "drover ", 8192: "longhorn " }));
  const verified = await verifyBackups(store.open(), { volume: "old", ...FAST });
  assert.deepEqual([verified.backups, verified.blocks, verified.bad], [["backup-1", "backup-2"], 2, []]);
  const list = await longhornList(store.open());
  assert.deepEqual(Object.keys(list), ["old"]);
});

Deno.test("a backup builds on Longhorn's last one, and leaves its records as Longhorn reads them", async () => {
  const store = golden();
  const source = {
    bytes: BYTES,
    read: (offset: number, into: Uint8Array) => into.set(filled(offset === 4096 ? "new " : "?")),
    changed: (since: string | undefined) => since === "s2" ? [{ offset: 4096, length: 4096 }] : assert.fail(),
    has: (snapshot: string) => snapshot === "s2",
    [Symbol.dispose]: () => {},
  };
  const { record } = await createBackup(store.open(), source, {
    volume: "old",
    snapshot: "s3",
    snapshotCreatedAt: "2026-11-01T00:00:00Z",
    name: "backup-3",
    blockBytes: BLOCK,
    labels: { KubernetesStatus: '{"pvName":""}' },
    ...FAST,
  });
  assert.equal(record.isIncremental, true);
  assert.deepEqual(
    await restored(store, "backup-3"),
    content({ 0: "drover ", 4096: "new ", 8192: "longhorn " }),
  );
  assert.equal(
    store.text(`${volumeFolder("old")}volume.cfg`),
    VOLUME_CFG.replace("backup-2", "backup-3").replace("2026-10-05T00:50:38Z", "2026-11-01T00:00:00Z")
      .replace('"BlockCount":"2"', '"BlockCount":"3"'),
  );
  const text = store.text(`${volumeFolder("old")}backups/backup_backup-3.cfg`) ?? "";
  assert.match(text, /^\{"Name":"backup-3","VolumeName":"old","SnapshotName":"s3","SnapshotCreatedAt":/);
  assert.match(text, /"ProcessingBlocks":null,"Blocks":\[\{"Offset":0,"BlockChecksum":"ddfa17/);
  assert.doesNotMatch(text, /Writer/);
});

Deno.test("Longhorn's backups are deleted with what only they need", async () => {
  const store = golden();
  const report = await deleteBackup(store.open(), { volume: "old", backup: "backup-2" }, FAST);
  assert.deepEqual([report.state, report.removedBlocks, report.keptBlocks], ["done", 1, 1]);
  assert.equal((await loadVolume(store.open(), "old")).lastBackupName, "backup-1");
  assert.deepEqual(await restored(store, "backup-1"), content({ 0: "longhorn ", 8192: "longhorn " }));
  // One that Longhorn was making when it died: nothing is removed until somebody deletes it.
  const other = `${volumeFolder("old")}backups/backup_backup-9.cfg`;
  store.put(other, '{"Name":"backup-9","VolumeName":"old","CompressionMethod":"lz4","CreatedTime":""}');
  assert.equal((await collectGarbage(store.open(), "old", FAST)).state, "in progress");
  await deleteBackup(store.open(), { volume: "old", backup: "backup-9" }, FAST);
  assert.equal(store.objects.has(other), false);
});
