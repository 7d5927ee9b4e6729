/**
 * A live upgrade under a device that a carrier brings to the host.
 */
import assert from "node:assert/strict";
import { listLoopDevices } from "../lib/host/loop_device.ts";
import { peerTest } from "./support/conditional.ts";
import { run } from "./support/process.ts";
import { Stage } from "./upgrade_kit.ts";

peerTest("a device with a file system stays through an upgrade, and goes with the last engine", {
  needs: ["root", "loop", "fuse", "mkfs.ext4"],
}, async () => {
  await using stage = await Stage.start({ frontend: "loop-blockdev", replicas: 1 });
  const device = stage.device(), name = `/dev/longhorn/${stage.name}`, mountPoint = stage.path("mnt");
  assert.equal(Deno.readLinkSync(name), device);
  Deno.mkdirSync(mountPoint);
  await run("mkfs.ext4", ["-q", device]);
  await run("mount", [device, mountPoint]);
  try {
    await run("dd", [
      "if=/dev/zero",
      `of=${mountPoint}/before`,
      "bs=1M",
      "count=4",
      "conv=fsync",
      "status=none",
    ]);
    await stage.upgrade();
    await run("dd", [
      "if=/dev/zero",
      `of=${mountPoint}/after`,
      "bs=1M",
      "count=4",
      "conv=fsync",
      "status=none",
    ]);
  } finally {
    await run("umount", [mountPoint]);
  }
  await run("fsck.ext4", ["-f", "-n", device]);
  await stage.engine.stop();
  assert.equal(listLoopDevices().some(({ backingFile }) => backingFile.startsWith(stage.path("run"))), false);
  assert.throws(() => Deno.lstatSync(name), Deno.errors.NotFound);
});
