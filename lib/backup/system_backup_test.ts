import assert from "node:assert/strict";
import { BackupInputError, NoSuchBackupError, RecordError } from "./errors.ts";
import { listSystemBackups } from "./images.ts";
import { systemBackupFolder } from "./names.ts";
import {
  deleteSystemBackup,
  downloadSystemBackup,
  parseSystemBackupUrl,
  uploadSystemBackup,
} from "./system_backup.ts";
import { crashAt, MemoryStore } from "./target/memory.ts";

const ONE = { version: "v1.9.0", name: "daily" };
const DETAILS = { gitCommit: "abc", managerImage: "m", engineImage: "e", createdMs: 0 };
const zip = new TextEncoder().encode("PK the zip");

Deno.test("a system backup is stored with Longhorn's record, read, and removed", async () => {
  const store = new MemoryStore(), folder = systemBackupFolder(ONE.version, ONE.name);
  await uploadSystemBackup(store.open(), ONE, zip, DETAILS);
  assert.deepEqual(store.paths(), [`${folder}system-backup.cfg`, `${folder}system-backup.zip`]);
  assert.equal(
    store.text(`${folder}system-backup.cfg`),
    '{"Name":"daily","LonghornVersion":"v1.9.0","LonghornGitCommit":"abc","BackupTargetURL":"memory://test/",' +
      '"ManagerImage":"m","EngineImage":"e","CreatedAt":"1970-01-01T00:00:00.000Z",' +
      '"Checksum":"3377cb2e78bcc0710c848afa69960f45cec219e4219356d56ddd4142a052206e"}',
  );
  assert.deepEqual(await downloadSystemBackup(store.open(), ONE), zip);
  await assert.rejects(uploadSystemBackup(store.open(), ONE, zip, DETAILS), BackupInputError);
  store.put(`${folder}system-backup.zip`, "PK another");
  await assert.rejects(downloadSystemBackup(store.open(), ONE), RecordError);
  await deleteSystemBackup(store.open(), ONE);
  assert.deepEqual(store.paths(), []);
  await assert.rejects(deleteSystemBackup(store.open(), ONE), NoSuchBackupError);
  await assert.rejects(downloadSystemBackup(store.open(), ONE), NoSuchBackupError);
});

Deno.test("an upload that dies at any call leaves no record of something that is not whole", async () => {
  for (let at = 1; at <= 3; at++) {
    for (const effect of [false, true]) {
      const store = new MemoryStore();
      await assert.rejects(uploadSystemBackup(store.open(crashAt(at, effect)), ONE, zip, DETAILS));
      const recorded = store.paths().some((path) => path.endsWith(".cfg"));
      if (recorded) assert.deepEqual(await downloadSystemBackup(store.open(), ONE), zip);
      else await uploadSystemBackup(store.open(), ONE, zip, DETAILS);
      assert.deepEqual(await listSystemBackups(store.open()), [ONE]);
    }
  }
});

Deno.test("URLs of system backups come apart", () => {
  const path = "backupstore/system-backups/v1.9.0/daily";
  assert.deepEqual(parseSystemBackupUrl(`s3://b@r/x/${path}`), { ...ONE, target: "s3://b@r/x/" });
  assert.deepEqual(parseSystemBackupUrl(`s3://b@r/${path}/`), { ...ONE, target: "s3://b@r/" });
  assert.equal(parseSystemBackupUrl(`vfs:///a/b/${path}`).target, "vfs:///a/b/");
  assert.equal(parseSystemBackupUrl(`nfs://h:/e/${path}?nfsOptions=a`).target, "nfs://h:/e/?nfsOptions=a");
  for (const url of ["s3://b@r/", `s3://b@r/backupstore/system-backups/v1`, `vfs:///x/${path}/more`, ""]) {
    assert.throws(() => parseSystemBackupUrl(url), BackupInputError, url);
  }
});
