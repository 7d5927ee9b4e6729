/**
 * Purge and hash in a replica process: contents against a model made from the files, with the process killed on
 * the way.
 *
 * @module
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { Crc64 } from "../lib/replica/sync/crc64.ts";
import { FilesLibc } from "../lib/io/files_libc.ts";
import { contentOf, headOf, makeReplica, randomFrom, SyncReplica } from "./sync_kit.ts";
import { tempDir } from "./support/temp.ts";
import { waitFor } from "./support/wait.ts";

const BLOCKS = 4096;

/** A tree: a - b - c - d - head, and a branch e - f above b. */
function tree(directory: string, seed: number): void {
  makeReplica(
    directory,
    BLOCKS,
    [
      { name: "a", parent: "", removed: true },
      { name: "b", parent: "a" },
      { name: "c", parent: "b", userCreated: false },
      { name: "d", parent: "c", removed: true },
      { name: "e", parent: "b", userCreated: false },
      { name: "f", parent: "e", removed: true },
    ],
    "d",
    seed,
  );
}

async function purged(replica: SyncReplica): Promise<void> {
  await replica.agent.unary("snapshotPurge", {});
  const status = await waitFor(async () => {
    const now = await replica.agent.unary("snapshotPurgeStatus", {});
    return now.isPurging ? null : now;
  });
  assert.deepEqual([status.state, status.error, status.progress], ["complete", "", 100]);
}

function images(directory: string): string[] {
  return [...Deno.readDirSync(directory)].map(({ name }) => name).filter((name) => /snap.*\.img$/.test(name))
    .sort();
}

Deno.test("a purge merges what was removed, and what stays shows what it showed", async () => {
  using dir = tempDir();
  const directory = dir.join("r");
  tree(directory, 1);
  const b = contentOf(directory, "volume-snap-b.img"), head = contentOf(directory, headOf(directory));
  await using replica = await new SyncReplica(directory, dir.path).open();
  await purged(replica);
  // d is right below the head: it stays, without what the head hides, and holds what c had.
  assert.deepEqual(images(directory), ["volume-snap-b.img", "volume-snap-d.img"]);
  assert.deepEqual(contentOf(directory, "volume-snap-b.img"), b);
  assert.deepEqual(contentOf(directory, headOf(directory)), head);
  await replica.replica.unary("replicaClose", {});
  await replica.replica.unary("replicaOpen", {});
  const { replica: found } = await replica.replica.unary("replicaGet", {});
  assert.deepEqual(
    Object.keys(found?.disks ?? {}).sort(),
    [
      headOf(directory),
      "volume-snap-b.img",
      "volume-snap-d.img",
    ].sort(),
  );
});

Deno.test("a purge that is killed at any moment is begun again and ends well", async () => {
  using dir = tempDir();
  const random = randomFrom(7);
  const round = async (index: number) => {
    const directory = dir.join(`r${index}`);
    tree(directory, 10 + index);
    const b = contentOf(directory, "volume-snap-b.img"), head = contentOf(directory, headOf(directory));
    for (let kills = 0; kills < 2; kills++) {
      await using replica = await new SyncReplica(directory, dir.path).open();
      await replica.agent.unary("snapshotPurge", {});
      await new Promise((resolve) => setTimeout(resolve, random() * 60));
      await replica.kill();
      assert.deepEqual(contentOf(directory, "volume-snap-b.img"), b);
      assert.deepEqual(contentOf(directory, headOf(directory)), head);
    }
    await using replica = await new SyncReplica(directory, dir.path).open();
    await purged(replica);
    assert.deepEqual(images(directory), ["volume-snap-b.img", "volume-snap-d.img"]);
    assert.deepEqual(contentOf(directory, "volume-snap-b.img"), b);
    assert.deepEqual(contentOf(directory, headOf(directory)), head);
  };
  // Two processes at a time: a start is mostly the work of one core.
  const results = await Promise.allSettled([round(0), round(1)]);
  for (const result of results) if (result.status === "rejected") throw result.reason;
});

Deno.test("what a closed replica cannot do is refused; reset and files by name", async () => {
  using dir = tempDir();
  const directory = dir.join("r");
  tree(directory, 3);
  await using replica = await new SyncReplica(directory, dir.path).start();
  await assert.rejects(replica.agent.unary("backupStatus", { backup: "x" }), /not found/);
  await assert.rejects(replica.agent.unary("fileRemove", { fileName: "../x" }), /must not leave/);
  await assert.rejects(
    replica.agent.unary("fileRemove", { fileName: "volume.meta" }),
    /only files of snapshots/,
  );
  Deno.writeTextFileSync(`${directory}/volume-snap-x.img.snap_tmp`, "x");
  await replica.agent.unary("fileRename", {
    oldFileName: "volume-snap-x.img.snap_tmp",
    newFileName: "volume-snap-y.img",
  });
  assert.equal(Deno.readTextFileSync(`${directory}/volume-snap-y.img`), "x");
  await replica.agent.unary("fileRemove", { fileName: "volume-snap-y.img" });
  assert.equal(existsSync(`${directory}/volume-snap-y.img`), false);
  await assert.rejects(replica.agent.unary("snapshotPurge", {}), /replica is not open/);
  await replica.agent.unary("reset", {});
  await replica.replica.unary("replicaOpen", {});
  await assert.rejects(
    replica.agent.unary("fileRemove", { fileName: "volume-snap-a.img" }),
    /part of the open replica/,
  );
});

async function hashed(replica: SyncReplica, snapshotName: string, rehash: boolean) {
  await replica.agent.unary("snapshotHash", { snapshotName, rehash });
  return await waitFor(async () => {
    const now = await replica.agent.unary("snapshotHashStatus", { snapshotName });
    return now.state === "in_progress" ? null : now;
  });
}

Deno.test("a hash is that of the whole file, waits for the node's lock, and tells silent corruption", async () => {
  using dir = tempDir();
  const directory = dir.join("r"), files = new FilesLibc(), disk = `${directory}/volume-snap-b.img`;
  tree(directory, 5);
  const crc = new Crc64();
  crc.update(Deno.readFileSync(disk));
  const checksum = crc.digest();
  await using replica = await new SyncReplica(directory, dir.path).start();
  const lockFile = `${dir.path}/.lock/hash`;
  Deno.mkdirSync(`${dir.path}/.lock`);
  const lock = files.open(lockFile, { write: true, create: 0o600 });
  assert.ok(files.tryLock(lock));
  assert.equal((await replica.agent.unary("snapshotHashLockState", {})).isLocked, true);
  await replica.agent.unary("snapshotHash", { snapshotName: "a" });
  await replica.agent.unary("snapshotHashCancel", { snapshotName: "a" });
  const cancelled = await waitFor(async () => {
    const now = await replica.agent.unary("snapshotHashStatus", { snapshotName: "a" });
    return now.state === "in_progress" ? null : now;
  });
  assert.deepEqual([cancelled.state, cancelled.error], ["error", "the job was cancelled"]);
  files.close(lock);
  assert.equal((await replica.agent.unary("snapshotHashLockState", {})).isLocked, false);

  const first = await hashed(replica, "b", false);
  assert.deepEqual([first.state, first.error, first.checksum], ["complete", "", checksum]);
  const path = `${disk}.checksum`, record = JSON.parse(Deno.readTextFileSync(path));
  assert.deepEqual([record.method, record.checksum, record.silently_corrupted], ["crc64", checksum, false]);
  // The record of another content for the same ctime is what damage below the file system looks like.
  Deno.writeTextFileSync(path, JSON.stringify({ ...record, checksum: "00000000000000aa" }) + "\n");
  assert.equal((await hashed(replica, "b", false)).checksum, "00000000000000aa");
  const damaged = await hashed(replica, "b", true);
  assert.deepEqual([damaged.silentlyCorrupted, damaged.checksum], [true, "00000000000000aa"]);
  assert.equal(JSON.parse(Deno.readTextFileSync(path)).silently_corrupted, true);
  assert.equal((await hashed(replica, "b", true)).silentlyCorrupted, true);
  Deno.chmodSync(disk, 0o640);
  const again = await hashed(replica, "b", false);
  assert.deepEqual([again.silentlyCorrupted, again.checksum], [false, checksum]);
  await assert.rejects(replica.agent.unary("snapshotHash", { snapshotName: "none" }), /there is no/);
  await assert.rejects(replica.agent.unary("snapshotHashStatus", { snapshotName: "c" }), /not found/);
});
