/**
 * Volumes of one machine as other programs see them: NBD, iSCSI with CHAP, a loop device that is mounted.
 */
import assert from "node:assert/strict";
import { listLoopDevices } from "../lib/host/loop_device.ts";
import { readMounts } from "../lib/host/mounts.ts";
import { peerTest } from "./support/conditional.ts";
import { run, runAnyway } from "./support/process.ts";
import { freePorts } from "./support/ports.ts";
import { serveVolume } from "./cli_kit.ts";
import { tempDir } from "./support/temp.ts";

const LOOP = ["root", "loop", "fuse", "mkfs.ext4", "fsck.ext4"];

/** What is left of loop devices and mounts below a directory. */
function remains(directory: string): string[] {
  return [
    ...listLoopDevices().filter((device) => device.backingFile.startsWith(directory)).map((device) =>
      device.path
    ),
    ...readMounts().map((mount) => mount.mountPoint).filter((path) => path.startsWith(directory)),
  ];
}

peerTest("NBD: qemu-io writes, and reads it back after a restart", { needs: ["qemu-io"] }, async () => {
  using directory = tempDir();
  const frontend = ["--frontend", "nbd", "--listen", `unix:${directory.join("s")}`];
  {
    await using volume = await serveVolume("v1", directory.path, ["--size", "64m", ...frontend]);
    assert.match(volume.endpoint, /^nbd\+unix:/);
    await run("qemu-io", ["-f", "raw", volume.endpoint, "-c", "write -P 0x5a 1M 3M", "-c", "flush"]);
    assert.equal(await volume.interrupt(), 0);
  }
  await using volume = await serveVolume("v1", directory.path, frontend);
  const { stdout } = await run("qemu-io", ["-f", "raw", volume.endpoint, "-c", "read -P 0x5a 1M 3M"]);
  assert.doesNotMatch(stdout, /verification failed/);
  assert.equal(await volume.interrupt(), 0);
  assert.equal(
    Deno.readDirSync(directory.path)[Symbol.iterator]().toArray().some(({ name }) => name === "s"),
    false,
  );
});

peerTest("iSCSI: only who knows the secret gets in, and no command line shows it", {
  needs: ["iscsi-inq"],
}, async () => {
  using directory = tempDir();
  const [port] = freePorts(1), secret = "correct-horse-1";
  Deno.writeTextFileSync(directory.join("chap"), `user = alice\nsecret = ${secret}\n`, { mode: 0o600 });
  const args = ["--size", "64m", "--frontend", "iscsi", "--listen", `127.0.0.1:${port}`];
  await using volume = await serveVolume("v1", directory.path, [
    ...args,
    "--chap-file",
    directory.join("chap"),
  ]);
  assert.equal(volume.endpoint, `iscsi://127.0.0.1:${port}/iqn.2019-10.io.longhorn:v1/1`);
  const ask = (credentials: string) =>
    runAnyway("iscsi-inq", [volume.endpoint.replace("//", `//${credentials}`)]);
  const good = await ask(`alice%${secret}@`);
  assert.equal(good.code, 0, good.stderr);
  assert.notEqual((await ask("alice%wrong-horse-12@")).code, 0);
  assert.notEqual((await ask("")).code, 0);
  const { running, replicas } = await volume.report();
  for (const pid of [running?.pid, running?.enginePid, ...replicas.map((replica) => replica.pid)]) {
    assert.equal(Deno.readTextFileSync(`/proc/${pid}/cmdline`).includes(secret), false);
  }
  assert.equal(Deno.readTextFileSync(directory.join("v1.log")).includes(secret), false);
  assert.equal(await volume.interrupt(), 0);
});

peerTest("loop: a mounted disk is not taken away; unmounted, it goes and leaves nothing", {
  needs: LOOP,
}, async () => {
  using directory = tempDir();
  const env = { DROVER_RUN: directory.join("run") }, mountPoint = directory.join("mnt");
  const name = `t-${crypto.randomUUID().slice(0, 8)}`;
  Deno.mkdirSync(mountPoint);
  {
    await using volume = await serveVolume(name, directory.path, ["--size", "64m", "--frontend", "loop"], {
      env,
    });
    assert.equal(volume.endpoint, `/dev/longhorn/${name}`);
    await run("mkfs.ext4", ["-q", volume.endpoint]);
    await run("mount", [volume.endpoint, mountPoint]);
    try {
      Deno.writeTextFileSync(`${mountPoint}/file`, "text");
      volume.process.signal("SIGINT");
      await volume.process.waitForOutput(
        /^not stopped: .* is in use: mounted at .*; unmount or close that first$/m,
      );
      assert.equal((await volume.report()).state, "healthy");
      assert.equal(Deno.readTextFileSync(`${mountPoint}/file`), "text");
    } finally {
      await run("umount", [mountPoint]);
    }
    assert.equal(await volume.interrupt(), 0);
  }
  assert.deepEqual(remains(directory.path), []);
  await using volume = await serveVolume(name, directory.path, ["--frontend", "loop"], { env });
  await run("fsck.ext4", ["-fn", volume.endpoint]);
  await run("mount", ["-o", "ro", volume.endpoint, mountPoint]);
  try {
    assert.equal(Deno.readTextFileSync(`${mountPoint}/file`), "text");
  } finally {
    await run("umount", [mountPoint]);
  }
  assert.equal(await volume.interrupt(), 0);
  assert.deepEqual(remains(directory.path), []);
});

peerTest("loop: two signals in a row take a mounted disk away, after it was synced", {
  needs: LOOP,
}, async () => {
  using directory = tempDir();
  const env = { DROVER_RUN: directory.join("run") }, mountPoint = directory.join("mnt");
  const name = `t-${crypto.randomUUID().slice(0, 8)}`;
  Deno.mkdirSync(mountPoint);
  {
    await using volume = await serveVolume(name, directory.path, ["--size", "64m", "--frontend", "loop"], {
      env,
    });
    await run("mkfs.ext4", ["-q", volume.endpoint]);
    await run("mount", [volume.endpoint, mountPoint]);
    Deno.writeTextFileSync(`${mountPoint}/file`, "text");
    try {
      volume.process.signal("SIGINT");
      await volume.process.waitForOutput(/^not stopped/m);
      volume.process.signal("SIGINT");
      await volume.process.waitForOutput(/^stopping whoever uses the disk/m);
      assert.equal((await volume.process.status).code, 0, volume.process.output);
    } finally {
      await run("umount", [mountPoint]);
    }
  }
  await using volume = await serveVolume(name, directory.path, ["--frontend", "loop"], { env });
  await run("mount", [volume.endpoint, mountPoint]);
  try {
    assert.equal(Deno.readTextFileSync(`${mountPoint}/file`), "text", "it was synced before");
  } finally {
    await run("umount", [mountPoint]);
  }
  assert.equal(await volume.interrupt(), 0);
  assert.deepEqual(remains(directory.path), []);
});

peerTest("loop: an engine that is killed leaves no device and no mount", { needs: LOOP }, async () => {
  using directory = tempDir();
  const env = { DROVER_RUN: directory.join("run") };
  const name = `t-${crypto.randomUUID().slice(0, 8)}`;
  await using volume = await serveVolume(name, directory.path, ["--size", "64m", "--frontend", "loop"], {
    env,
  });
  const { running } = await volume.report();
  assert.ok(running);
  Deno.kill(running.enginePid, "SIGKILL");
  assert.equal((await volume.process.status).code, 1);
  assert.deepEqual(remains(directory.path), []);
  await assert.rejects(Deno.lstat(`/dev/longhorn/${name}`), Deno.errors.NotFound);
});
