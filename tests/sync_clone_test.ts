/**
 * Cloning a snapshot of one volume into another, between replica processes.
 *
 * @module
 */
import assert from "node:assert/strict";
import { BLOCK, contentOf, headOf, makeReplica, startTogether, SyncReplica } from "./sync_kit.ts";
import { tempDir } from "./support/temp.ts";

const BLOCKS = 8192;

Deno.test("a clone shows what the snapshot shows, and a second volume can be made of it after a failure", async () => {
  using dir = tempDir();
  const from = dir.join("s"), to = dir.join("t");
  makeReplica(
    from,
    BLOCKS,
    [
      { name: "a", parent: "" },
      { name: "b", parent: "a" },
      { name: "c", parent: "b" },
    ],
    "c",
    4,
  );
  await using started = await startTogether(
    new SyncReplica(from, dir.path).open(),
    new SyncReplica(to, dir.path).open("--size", String(BLOCKS * BLOCK)),
  );
  const [source, target] = started.all;
  const clone = (snapshotFileName: string) =>
    target.agent.unary("snapshotClone", {
      fromAddress: source.address,
      toHost: "127.0.0.1",
      snapshotFileName,
      fileSyncHttpClientTimeout: 5,
    });
  await assert.rejects(clone("volume-snap-none.img"), /cannot find snapshot disk file/);
  const failed = await target.agent.unary("snapshotCloneStatus", {});
  assert.deepEqual([failed.state, failed.isCloning], ["error", false]);

  // What an earlier clone left when it was killed: some of the data, and something that does not belong there.
  Deno.copyFileSync(`${from}/volume-snap-a.img`, `${to}/volume-snap-b.img`);
  await clone("volume-snap-b.img");
  const status = await target.agent.unary("snapshotCloneStatus", {});
  assert.deepEqual([status.state, status.progress, status.error, status.isCloning], [
    "complete",
    100,
    "",
    false,
  ]);
  assert.deepEqual([status.fromReplicaAddress, status.snapshotName], [source.address, "volume-snap-b.img"]);
  const content = contentOf(from, "volume-snap-b.img");
  assert.deepEqual(contentOf(to, headOf(to)), content);
  assert.deepEqual(JSON.parse(Deno.readTextFileSync(`${to}/volume-snap-b.img.meta`)).Parent, "");
  const { replica } = await target.replica.unary("replicaGet", {});
  assert.equal(replica?.parent, "volume-snap-b.img");
  await assert.rejects(clone("volume-snap-b.img"), /uses it already/);
  // The source has a backing image neither: what is asked of it is refused with the way out.
  await assert.rejects(
    source.agent.unary("volumeExport", { snapshotFileName: "b", exportBackingImageIfExist: true }),
    /same backing image/,
  );
});
