/**
 * Backups of volumes on a backing image: a block holds what the volume shows, also where only the image has data.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createBackup, InlineCodec, restoreBackup } from "../lib/backup/mod.ts";
import { MemoryStore } from "../lib/backup/target/memory.ts";
import { Credentials } from "../lib/backup/target/credentials.ts";
import { openTarget } from "../lib/backup/target/open.ts";
import { MemorySink } from "../lib/backup/test_kit.ts";
import { FilesLibc } from "../lib/io/files_libc.ts";
import { SnapshotSource } from "../lib/replica/sync/snapshot_source.ts";
import { peerTest } from "./support/conditional.ts";
import { run } from "./support/process.ts";
import { tempDir } from "./support/temp.ts";
import { BLOCK, contentOf, fill, makeReplica, SyncReplica } from "./sync_kit.ts";
import { waitFor } from "./support/wait.ts";

const BLOCKS = 2048, BYTES = BLOCKS * BLOCK, IMAGE_BYTES = BYTES / 2 + BLOCK;
const BACKUP_BLOCK = 64 * 1024;
const DISK = "volume-snap-a.img";

/** The image below what the volume wrote itself. */
function shown(directory: string, image: Uint8Array): Uint8Array {
  const content = new Uint8Array(BYTES);
  content.set(image);
  using source = new SnapshotSource(new FilesLibc(), directory, DISK);
  const own = contentOf(directory, DISK);
  for (const { offset, length } of source.changed(undefined)) {
    content.set(own.subarray(offset, offset + length), offset);
  }
  return content;
}

function imageBytes(): Uint8Array {
  const image = new Uint8Array(IMAGE_BYTES);
  fill(image, 77);
  // A hole, which a qcow2 image does not store.
  image.fill(0, 8 * BACKUP_BLOCK, 12 * BACKUP_BLOCK);
  return image;
}

for (const format of ["raw", "qcow2", "qcow2 compressed"]) {
  peerTest(
    `blocks of a backup hold what a ${format} backing image shows`,
    { needs: ["qemu-img"] },
    async () => {
      using dir = tempDir();
      const raw = dir.join("raw"), image = dir.join("image"), directory = dir.join("r");
      Deno.writeFileSync(raw, imageBytes());
      const words = format.split(" ");
      const flags = words[1] === undefined ? [] : ["-c"];
      await run("qemu-img", ["convert", ...flags, "-f", "raw", "-O", words[0] ?? "", raw, image]);
      makeReplica(directory, BLOCKS, [{ name: "a", parent: "" }], "a", 5);
      const expected = shown(directory, imageBytes());
      const store = new MemoryStore(), codec = new InlineCodec();
      using source = new SnapshotSource(new FilesLibc(), directory, DISK, image);
      const { record } = await createBackup(store.open(), source, {
        volume: "v",
        snapshot: "a",
        name: "b",
        blockBytes: BACKUP_BLOCK,
        settleMs: 0,
        codec,
      });
      assert.ok(record.blocks.length < BYTES / BACKUP_BLOCK, "what only the image has is not backed up");
      // Restored over the image, as into a volume that has it too.
      const before = new Uint8Array(BYTES);
      before.set(imageBytes());
      const sink = new MemorySink(before);
      await restoreBackup(store.open(), sink, { volume: "v", backup: "b", settleMs: 0, codec });
      assert.deepEqual(sink.content, expected);
    },
  );
}

Deno.test("the agent of a replica with a backing image backs up what the volume shows", async () => {
  using dir = tempDir();
  const image = dir.join("image"), directory = dir.join("r"), url = `vfs://${dir.join("store")}`;
  Deno.mkdirSync(dir.join("store"));
  Deno.writeFileSync(image, imageBytes());
  makeReplica(directory, BLOCKS, [{ name: "a", parent: "" }], "a", 5);
  const expected = shown(directory, imageBytes());
  await using replica = await new SyncReplica(directory, dir.path).open("--backing-file", image);
  const { backup } = await replica.agent.unary("backupCreate", {
    snapshotFileName: DISK,
    backupTarget: url,
    volumeName: "v",
    backupName: "b",
    backingImageName: "img",
    parameters: { "backup-block-size": String(BACKUP_BLOCK) },
  }, { timeoutMs: 60_000 });
  const status = await waitFor(async () => {
    const now = await replica.agent.unary("backupStatus", { backup });
    return now.state === "in_progress" ? null : now;
  }, { timeoutMs: 60_000 });
  assert.deepEqual([status.state, status.error], ["complete", ""]);
  await using target = await openTarget(url, Credentials.from({}));
  const before = new Uint8Array(BYTES);
  before.set(imageBytes());
  const sink = new MemorySink(before);
  await restoreBackup(target, sink, { volume: "v", backup: "b", settleMs: 0, codec: new InlineCodec() });
  assert.deepEqual(sink.content, expected);
});
