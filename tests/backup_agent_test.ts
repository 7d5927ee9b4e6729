/**
 * Backups through the sync agent of replica processes: made of snapshots, restored into other replicas, with the
 * process killed and the target failing on the way.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createBackup, listBackups, restoreToFile, verifyBackups } from "../lib/backup/mod.ts";
import { Credentials } from "../lib/backup/target/credentials.ts";
import { openTarget } from "../lib/backup/target/open.ts";
import { encodeBackupUrl } from "../lib/backup/target/url.ts";
import { FilesLibc } from "../lib/io/files_libc.ts";
import { SnapshotSource } from "../lib/replica/sync/snapshot_source.ts";
import type { ptypes } from "../lib/rpc/mod.ts";
import { peerTest } from "./support/conditional.ts";
import { type Exchange, type Fault, faultProxy } from "./support/fault_proxy.ts";
import { s3Server } from "./support/s3_server.ts";
import { type TempDir, tempDir } from "./support/temp.ts";
import { waitFor } from "./support/wait.ts";
import { BLOCK, contentOf, headOf, makeReplica, SyncReplica } from "./sync_kit.ts";

/** Four blocks of a backup. */
const BLOCKS = 2048;
/** Blocks of a volume that an encryption's header belongs to beside. */
const WITH_HEADER = BLOCKS + 16 * 1024 ** 2 / BLOCK;

/** a - b - c - head, and a branch d above a. */
function source(directory: string): void {
  const snapshots = [
    { name: "a", parent: "" },
    { name: "b", parent: "a" },
    { name: "c", parent: "b" },
    { name: "d", parent: "a" },
  ];
  makeReplica(directory, BLOCKS, snapshots, "c", 3);
}

async function backUp(
  replica: SyncReplica,
  snapshot: string,
  target: string,
  more: Partial<ptypes.IBackupCreateRequest> = {},
): Promise<{ name: string; incremental: boolean; status: ptypes.IBackupStatusResponse }> {
  const { backup, isIncremental } = await replica.agent.unary("backupCreate", {
    snapshotFileName: `volume-snap-${snapshot}.img`,
    backupTarget: target,
    volumeName: "vol",
    backupName: `of-${snapshot}`,
    labels: ["kind=test"],
    concurrentLimit: 4,
    ...more,
  }, { timeoutMs: 60_000 });
  const status = await waitFor(async () => {
    const now = await replica.agent.unary("backupStatus", { backup });
    return now.state === "in_progress" ? null : now;
  }, { timeoutMs: 60_000 });
  return { name: backup, incremental: isIncremental, status };
}

/** Backs up snapshots without an agent, and without the pause of a lock. */
async function backUpHere(
  directory: string,
  snapshots: readonly string[],
  url: string,
  credential: Record<string, string> = {},
): Promise<void> {
  await using target = await openTarget(url, Credentials.from(credential));
  for (const snapshot of snapshots) {
    using source = new SnapshotSource(new FilesLibc(), directory, `volume-snap-${snapshot}.img`);
    await createBackup(target, source, { volume: "vol", snapshot, name: `of-${snapshot}`, settleMs: 0 });
  }
}

async function restored(
  replica: SyncReplica,
  backup: string,
  target: string,
  credential: Record<string, string> = {},
): Promise<ptypes.IRestoreStatusResponse> {
  await replica.agent.unary("backupRestore", {
    backup: encodeBackupUrl({ target, volume: "vol", backup }),
    snapshotDiskName: "volume-snap-restored.img",
    concurrentLimit: 2,
    credential,
  });
  return await waitFor(async () => {
    const now = await replica.agent.unary("restoreStatus", {});
    return now.isRestoring ? null : now;
  }, { timeoutMs: 60_000 });
}

function store(dir: TempDir): string {
  Deno.mkdirSync(dir.join("store"));
  return `vfs://${dir.join("store")}`;
}

Deno.test("snapshots are backed up through the agent, the later ones incrementally, or refused", async () => {
  using dir = tempDir();
  const url = store(dir);
  source(dir.join("r"));
  await using replica = await new SyncReplica(dir.join("r"), dir.path).open();
  await refusals(replica, url, dir);
  const first = await backUp(replica, "a", url);
  assert.deepEqual([first.incremental, first.status.state, first.status.error], [false, "complete", ""]);
  assert.equal(first.status.backupUrl, `${url}?backup=of-a&volume=vol`);
  assert.equal((await backUp(replica, "c", url)).incremental, true);
  // The last backup's snapshot is not in the chain of the branch.
  assert.equal((await backUp(replica, "d", url)).incremental, false);
  await using target = await openTarget(url, Credentials.from({}));
  const { bad, backups } = await verifyBackups(target, { volume: "vol", settleMs: 0 });
  assert.deepEqual([bad, [...backups].sort()], [[], ["of-a", "of-c", "of-d"]]);
  for (const name of ["a", "c", "d"]) {
    const path = dir.join(name);
    await restoreToFile(target, { volume: "vol", backup: `of-${name}`, path, format: "raw", settleMs: 0 });
    assert.deepEqual(Deno.readFileSync(path), contentOf(dir.join("r"), `volume-snap-${name}.img`), name);
  }
  assert.equal((await listBackups(target, "vol")).length, 3);
});

/** Backups and restores that make no sense. */
async function refusals(replica: SyncReplica, url: string, dir: TempDir): Promise<void> {
  const refused = (more: Partial<ptypes.IBackupCreateRequest>, expected: RegExp): Promise<void> =>
    assert.rejects(backUp(replica, "a", url, more), expected);
  await refused({ snapshotFileName: "volume-snap-x.img" }, /cannot find snapshot x of volume vol/);
  await refused({ snapshotFileName: "../volume-snap-a.img" }, /must not leave the replica directory/);
  await refused({ backupTarget: "ftp://x" }, /names no backup target/);
  await refused({ backupTarget: `vfs://${dir.path}/none` }, /is not there; create it first/);
  await refused({ volumeName: "../x" }, /cannot be the name of a backup volume/);
  await refused({ compressionMethod: "best" }, /expected lz4, gzip, none, zstd/);
  await refused({ parameters: { "backup-block-size": "3Xi" } }, /expected a size such as 2Mi/);
  await refused({ labels: ["nothing"] }, /expected KEY=VALUE/);
  await assert.rejects(replica.agent.unary("backupStatus", { backup: "other" }), /backup other is not found/);
  await assert.rejects(
    replica.agent.unary("backupRestore", { backup: url, snapshotDiskName: "a" }),
    /names no backup/,
  );
}

Deno.test("a stand-by replica follows backups, each time with what changed only", async () => {
  using dir = tempDir();
  const url = store(dir), standby = dir.join("s");
  source(dir.join("r"));
  await backUpHere(dir.join("r"), ["a", "b", "c"], url);
  makeReplica(standby, BLOCKS, [], "", 77);
  await using follower = await new SyncReplica(standby, dir.path).open();
  for (const name of ["a", "c", "b"]) {
    const status = await restored(follower, `of-${name}`, url);
    assert.deepEqual([status.state, status.error, status.lastRestored], ["complete", "", `of-${name}`]);
    const expected = contentOf(dir.join("r"), `volume-snap-${name}.img`);
    assert.deepEqual(contentOf(standby, headOf(standby)), expected, name);
  }
  assert.ok(
    ![...Deno.readDirSync(standby)].some(({ name }) => /delta|tmp|journal/.test(name)),
    "nothing is left over",
  );
  // Damaged in the store: the restore fails and names backup and block, and the content stays.
  for (const path of walk(dir.join("store"))) {
    if (path.endsWith(".blk")) Deno.writeFileSync(path, new Uint8Array(100));
  }
  const failed = await restored(follower, "of-c", url);
  assert.equal(failed.state, "error");
  assert.match(failed.error ?? "", /of-c/);
  assert.match(failed.error ?? "", /[0-9a-f]{64}/);
  const expected = contentOf(dir.join("r"), "volume-snap-b.img");
  assert.deepEqual(contentOf(standby, headOf(standby)), expected);
  // Another process knows what is there, and asks the store for nothing.
  await follower.kill();
  await follower.open();
  Deno.removeSync(dir.join("store/backupstore"), { recursive: true });
  assert.equal((await restored(follower, "of-b", url)).error, "");
});

peerTest("a replica killed while it restores goes on, and holds the old content until the new one is whole", {
  needs: ["versitygw"],
}, async () => {
  using dir = tempDir();
  await using server = await s3Server();
  await using proxy = await faultProxy(server.endpoint);
  const credential = server.credentials(proxy.endpoint), url = server.url();
  source(dir.join("r"));
  await backUpHere(dir.join("r"), ["a", "c"], url, credential);
  const standby = dir.join("s");
  // Larger than the backup's volume: what that does not hold reads as zeros.
  makeReplica(standby, WITH_HEADER, [], "", 78);
  await using follower = await new SyncReplica(standby, dir.path).open();
  for (const name of ["a", "c"]) {
    const before = contentOf(standby, headOf(standby));
    // The third block never comes: the process is killed while it waits.
    let blocks = 0;
    proxy.decide = ({ method, path }: Exchange): Fault | undefined =>
      method === "GET" && path.includes(".blk") && ++blocks > 2 ? { kind: "stall" } : undefined;
    await follower.agent.unary("backupRestore", {
      backup: encodeBackupUrl({ target: url, volume: "vol", backup: `of-${name}` }),
      snapshotDiskName: "volume-snap-restored.img",
      concurrentLimit: 1,
      credential,
    });
    await waitFor(() => blocks > 2);
    await follower.kill();
    assert.deepEqual(contentOf(standby, headOf(standby)), before, "half a restore is not seen");
    proxy.decide = () => undefined;
    await follower.open();
    const status = await restored(follower, `of-${name}`, url, credential);
    assert.deepEqual([status.state, status.error], ["complete", ""]);
    const expected = new Uint8Array(WITH_HEADER * BLOCK);
    expected.set(contentOf(dir.join("r"), `volume-snap-${name}.img`));
    assert.deepEqual(contentOf(standby, headOf(standby)), expected);
  }
});

function* walk(directory: string): Generator<string> {
  for (const { name, isDirectory } of Deno.readDirSync(directory)) {
    if (isDirectory) yield* walk(`${directory}/${name}`);
    else yield `${directory}/${name}`;
  }
}
