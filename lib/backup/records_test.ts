/**
 * Records byte for byte as Longhorn writes them, and what is accepted when reading.
 *
 * @module
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { RecordError } from "./errors.ts";
import { decodeBackingImage, decodeSystemBackup, encodeBackingImage, encodeSystemBackup } from "./images.ts";
import {
  backupOfFile,
  backupPath,
  blockPath,
  blocksFolder,
  checksumOfPath,
  isName,
  locksFolder,
  volumeFolder,
} from "./names.ts";
import {
  type BackupRecord,
  blockBytesOf,
  decodeBackup,
  decodeVolume,
  encodeBackup,
  encodeVolume,
  parseBlockSize,
  timeText,
} from "./records.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (data: Uint8Array): string => new TextDecoder().decode(data);

const VOLUME =
  '{"Name":"vol1","Size":"2097152","Labels":null,"CreatedTime":"","LastBackupName":"","LastBackupAt":"",' +
  '"BlockCount":"0","BackingImageName":"\\"\\"","BackingImageChecksum":"\\"\\"",' +
  '"CompressionMethod":"\\"lz4\\"","StorageClassName":"\\"\\"","DataEngine":"\\"v1\\""}';

const SUM_A = "d9cf3e0942c46cf9c43d8f4e152c761bb88b3e8a5d9bb127d16d55f8a7402b50";
const SUM_B = "bb9d1ff59852efbef9cb0f8c7c97052b455a2520a3b91ae2b8f17765d234fc58";
const FULL = '{"Name":"backup-854f6ced7b4942d4","VolumeName":"pvc-1","SnapshotName":"snap-1",' +
  '"SnapshotCreatedAt":"2026-10-05T00:40:38Z","CreatedTime":"2026-10-05T00:40:43Z","Size":"4194304",' +
  '"Labels":{"a":"<1> & 2","k":"v"},"Parameters":{"backup-block-size":"2097152","backup-mode":"full"},' +
  '"IsIncremental":false,"CompressionMethod":"lz4","NewlyUploadedDataSize":"2097171",' +
  '"ReUploadedDataSize":"0","ProcessingBlocks":{},' +
  `"Blocks":[{"Offset":0,"BlockChecksum":"${SUM_A}"},{"Offset":4194304,"BlockChecksum":"${SUM_B}"}],` +
  '"SingleFile":{"FilePath":""}}';
const INCREMENTAL = FULL.replace('"IsIncremental":false', '"IsIncremental":true')
  .replace('"ProcessingBlocks":{}', '"ProcessingBlocks":null');

Deno.test("a volume's record is read and written byte for byte, its strings encoded twice", () => {
  const record = decodeVolume("volume.cfg", bytes(VOLUME));
  assert.equal(record.bytes, 2097152);
  assert.equal(record.compression, "lz4");
  assert.equal(record.dataEngine, "v1");
  assert.equal(record.backingImageName, "");
  assert.equal(text(encodeVolume(record)), VOLUME);
});

Deno.test("records of backups are read and written byte for byte, with Go's escapes", () => {
  for (const golden of [FULL, INCREMENTAL]) {
    const escaped = golden.replace("<1> & 2", "\\u003c1\\u003e \\u0026 2");
    const record = decodeBackup("x.cfg", bytes(golden));
    assert.equal(record.labels?.["a"], "<1> & 2");
    assert.equal(text(encodeBackup(record)), escaped);
    assert.deepEqual(decodeBackup("x.cfg", bytes(escaped)), record);
  }
});

Deno.test("what an incomplete backup looks like to others", () => {
  const record = decodeBackup(
    "x.cfg",
    bytes('{"Name":"b","VolumeName":"v","CompressionMethod":"lz4","CreatedTime":""}'),
  );
  assert.equal(
    text(encodeBackup(record)),
    '{"Name":"b","VolumeName":"v","SnapshotName":"","SnapshotCreatedAt":"","CreatedTime":"","Size":"0",' +
      '"Labels":null,"Parameters":null,"IsIncremental":false,"CompressionMethod":"lz4",' +
      '"NewlyUploadedDataSize":"0","ReUploadedDataSize":"0","ProcessingBlocks":null,' +
      '"SingleFile":{"FilePath":""}}',
  );
});

Deno.test("keys of other writers survive", () => {
  const future = VOLUME.replace(/}$/, ',"Encryption":{"Kind":"x"}}');
  assert.equal(text(encodeVolume(decodeVolume("volume.cfg", bytes(future)))), future);
});

Deno.test("plain numbers, plain strings, missing and null values are read too", () => {
  const record = decodeVolume(
    "volume.cfg",
    bytes(
      '{"Name":"v","Size":4096,"CompressionMethod":"gzip","BlockCount":"","Labels":{"a":"b"},"LastBackupAt":null}',
    ),
  );
  assert.deepEqual([record.bytes, record.blockCount, record.compression, record.dataEngine], [
    4096,
    0,
    "gzip",
    "",
  ]);
  assert.equal(record.lastBackupAt, "");
});

Deno.test("what cannot be right is refused, with the record's path", () => {
  const wrong = [
    "",
    "[]",
    "null",
    '{"Name":1}',
    '{"Size":"-1"}',
    '{"Size":"1e3"}',
    '{"Size":"99999999999999999"}',
    '{"Labels":["a"]}',
    '{"Labels":{"a":1}}',
    '{"IsIncremental":"yes"}',
    '{"Blocks":{}}',
    '{"Blocks":[null]}',
    `{"Blocks":[{"Offset":-1,"BlockChecksum":"${SUM_A}"}]}`,
    '{"Blocks":[{"Offset":0,"BlockChecksum":"../../../etc/passwd"}]}',
    `{"Blocks":[{"Offset":5,"BlockChecksum":"${SUM_A}"},{"Offset":5,"BlockChecksum":"${SUM_A}"}]}`,
  ];
  for (const one of wrong) {
    assert.throws(() => decodeBackup("some/path.cfg", bytes(one)), (error) => {
      assert.ok(error instanceof RecordError, one);
      assert.match(error.message, /^some\/path\.cfg: /);
      return true;
    });
  }
  assert.throws(() => decodeVolume("v.cfg", bytes('{"DataEngine":"\\"v1"}')), RecordError);
  assert.throws(() => decodeVolume("v.cfg", new Uint8Array([0x7b, 0xff, 0x7d])), RecordError);
});

Deno.test("labels of any kind come back as they were", () => {
  const labels = fc.dictionary(fc.string({ unit: "grapheme" }), fc.string({ unit: "grapheme" }));
  fc.assert(fc.property(labels, fc.string({ unit: "grapheme" }), (map, name) => {
    const base = decodeBackup("x.cfg", bytes(FULL));
    const record: BackupRecord = { ...base, labels: { ...map }, snapshotName: name };
    const read = decodeBackup("x.cfg", encodeBackup(record));
    assert.deepEqual(Object.entries(read.labels ?? {}).sort(), Object.entries(map).sort());
    assert.equal(read.snapshotName, name);
  }));
});

Deno.test("the block size is what the parameters say, else what the sizes say, else 2 MiB", () => {
  const record = decodeBackup("x.cfg", bytes(FULL));
  const sized = (size: string): BackupRecord => ({ ...record, parameters: { "backup-block-size": size } });
  assert.equal(blockBytesOf("x", record), 2097152);
  assert.equal(blockBytesOf("x", sized("16Mi")), 16777216);
  assert.equal(blockBytesOf("x", { ...record, parameters: null, bytes: 2 * 4096 }), 4096);
  assert.equal(blockBytesOf("x", { ...record, parameters: {}, bytes: 0, blocks: [] }), 2097152);
  for (const size of ["0", "-1", "x", "1Ti", "1.5Mi"]) {
    assert.throws(() => blockBytesOf("x", sized(size)), RecordError);
  }
  assert.equal(parseBlockSize("2M"), 2_000_000);
});

Deno.test("records of backing images and of system backups are read and written byte for byte", () => {
  const image = '{"Name":"bi","Size":"2097152","BlockCount":"1","Checksum":"ab","Labels":null,' +
    '"CompressionMethod":"lz4","CreatedTime":"2026-01-01T00:00:00Z","CompleteTime":"2026-01-01T00:00:01Z",' +
    '"Secret":"","SecretNamespace":"","ProcessingBlocks":{"Blocks":{}},' +
    `"Blocks":[{"Offset":0,"BlockChecksum":"${SUM_A}"}]}`;
  assert.equal(text(encodeBackingImage(decodeBackingImage("bi.cfg", bytes(image)))), image);
  const system = '{"Name":"sb","LonghornVersion":"v1.9.0","LonghornGitCommit":"abc",' +
    '"BackupTargetURL":"s3://b@r/","ManagerImage":"m","EngineImage":"e","CreatedAt":"2026-01-01T00:00:00Z",' +
    '"Checksum":"ff"}';
  assert.equal(text(encodeSystemBackup(decodeSystemBackup("sb.cfg", bytes(system)))), system);
});

Deno.test("paths are Longhorn's, and names cannot leave their folder", () => {
  // SHA-512 of "abc" begins with ddaf35a1.
  assert.equal(volumeFolder("abc"), "backupstore/volumes/dd/af/abc/");
  assert.equal(backupPath("abc", "b-1"), "backupstore/volumes/dd/af/abc/backups/backup_b-1.cfg");
  assert.equal(locksFolder("abc"), "backupstore/volumes/dd/af/abc/locks/");
  const block = blockPath(blocksFolder("abc"), SUM_A);
  assert.equal(block, `backupstore/volumes/dd/af/abc/blocks/d9/cf/${SUM_A}.blk`);
  assert.equal(checksumOfPath(block), SUM_A);
  assert.equal(checksumOfPath(`${block}.tmp`), undefined);
  assert.equal(backupOfFile("backup_x.cfg"), "x");
  for (const file of ["backup_.cfg", "backup_x.cfg.tmp", "x.cfg", "backup_a\\b.cfg"]) {
    assert.equal(backupOfFile(file), undefined, file);
  }
  for (const name of ["", ".", "..", "a/b", "-a", "a b", "x".repeat(231), "ä"]) {
    assert.equal(isName(name), false, name);
  }
});

Deno.test("times have whole seconds", () => {
  assert.equal(timeText(Date.UTC(2026, 0, 2, 3, 4, 5, 678)), "2026-01-02T03:04:05Z");
});
