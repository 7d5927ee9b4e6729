/**
 * Volumes that end with a device of the host's, as programs that were written for Longhorn see them.
 */
import assert from "node:assert/strict";
import { listLoopDevices } from "../lib/host/loop_device.ts";
import { familyOf } from "../lib/host/nbd/netlink.ts";
import { drover, serveVolume } from "./cli_kit.ts";
import { peerTest, testUnless } from "./support/conditional.ts";
import { run } from "./support/process.ts";
import { tempDir } from "./support/temp.ts";

function volumeName(): string {
  return `t-${crypto.randomUUID().slice(0, 8)}`;
}

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

peerTest("the operator chooses the carrier of tgt-blockdev; the device path is Longhorn's", {
  needs: ["root", "loop", "fuse"],
}, async () => {
  using directory = tempDir();
  const name = volumeName(), path = `/dev/longhorn/${name}`;
  const env = { DROVER_RUN: directory.join("run"), DROVER_DEVICE_CARRIER: "loop" };
  const args = ["--size", "64m", "--replicas", "1", "--frontend", "tgt-blockdev"];
  await using volume = await serveVolume(name, directory.path, args, { env });
  assert.equal(volume.endpoint, path);
  const { stdout } = await run("blockdev", ["--getsize64", path]);
  assert.equal(Number(stdout), 64 * 1024 * 1024);
  await run("dd", ["if=/dev/urandom", `of=${path}`, "bs=1M", "count=4", "conv=fsync", "status=none"]);
  assert.equal(await volume.interrupt(), 0);
  assert.equal(exists(path), false);
  assert.deepEqual(listLoopDevices().filter((d) => d.backingFile.startsWith(directory.path)), []);
});

const initiator = exists("/sys/class/iscsi_transport/tcp") ? "this kernel has an iSCSI initiator" : null;

testUnless(
  initiator,
  "where the kernel has no initiator, iscsi-blockdev is refused with the reason",
  async () => {
    using directory = tempDir();
    const name = volumeName();
    const answer = await drover(
      ...["volume", "serve", name, "--dir", directory.path, "--size", "64m", "--replicas", "1"],
      ...["--frontend", "iscsi-blockdev"],
    );
    assert.equal(answer.code, 1);
    assert.match(answer.stderr, /iscsiadm|iSCSI/);
    assert.equal(exists(`/dev/longhorn/${name}`), false);
    assert.equal(exists(`/run/drover/devices/${name}.json`), false);
  },
);

const noNbd = Deno.uid() !== 0
  ? "needs root"
  : familyOf("nbd") === undefined
  ? "the kernel has no NBD client (module nbd)"
  : null;

testUnless(noNbd, "a volume is the kernel's NBD device, with a file system on it", async () => {
  using directory = tempDir();
  const name = volumeName(), path = `/dev/longhorn/${name}`, mountPoint = directory.join("mnt");
  const env = { DROVER_RUN: directory.join("run") };
  Deno.mkdirSync(mountPoint);
  const args = ["--size", "64m", "--replicas", "1", "--frontend", "nbd-blockdev"];
  await using volume = await serveVolume(name, directory.path, args, { env });
  assert.equal(volume.endpoint, path);
  await run("mkfs.ext4", ["-q", path]);
  await run("mount", [path, mountPoint]);
  try {
    Deno.writeTextFileSync(`${mountPoint}/file`, "text");
  } finally {
    await run("umount", [mountPoint]);
  }
  assert.equal(await volume.interrupt(), 0);
  assert.equal(exists(path), false);
});
