/**
 * The loop frontend with a real kernel: a process serves a memory disk, this one attaches the device and uses it
 * as a host does.
 */
import assert from "node:assert/strict";
import { SECTOR_BYTES } from "../lib/block/device.ts";
import {
  attachLoop,
  type AttachOptions,
  detachLoop,
  type LoopAttachment,
  LoopBusyError,
  type LoopMount,
  openLoop,
  resizeLoop,
} from "../lib/frontend/loop/attach.ts";
import { cleanLeftovers, LoopAliveError } from "../lib/frontend/loop/leftovers.ts";
import { listMountPoints, type LoopPlace } from "../lib/frontend/loop/place.ts";
import { CommandError, type Runner, SystemRunner } from "../lib/host/command.ts";
import { listLoopDevices } from "../lib/host/loop_device.ts";
import { readMounts } from "../lib/host/mounts.ts";
import { libc } from "../lib/io/libc.ts";
import type { ServerState } from "./loop_server.ts";
import { peerTest } from "./support/conditional.ts";
import { type LoggedProcess, run, runAnyway, spawnDeno } from "./support/process.ts";
import { type TempDir, tempDir } from "./support/temp.ts";
import { waitFor } from "./support/wait.ts";

const NEEDS = ["root", "loop", "fuse"];
const MiB = 1024 * 1024;
const runner = new SystemRunner();

/** A memory disk as a loop device. Disposing takes everything away, whatever state it is in. */
class Served implements AsyncDisposable {
  private constructor(
    readonly directory: TempDir,
    readonly place: LoopPlace,
    readonly server: LoggedProcess,
    readonly attachment: LoopAttachment,
  ) {}

  static async start(bytes: number, options: AttachOptions = {}, env: Record<string, string> = {}) {
    const directory = tempDir("loop-");
    const place = { run: directory.path, name: "vol" };
    const socket = directory.join("control");
    const server = spawnDeno("tests/loop_server.ts", [place.run, place.name, String(bytes), socket], { env });
    try {
      const [line] = await server.waitForOutput(/^\{.*\}$/m);
      const attachment = await attachLoop(runner, JSON.parse(line) as LoopMount, options);
      return new Served(directory, place, server, attachment);
    } catch (error) {
      await Served.#clean(directory, place, server);
      throw error;
    }
  }

  static async #clean(directory: TempDir, place: LoopPlace, server: LoggedProcess): Promise<void> {
    server.signal("SIGKILL");
    await server.status;
    await cleanLeftovers(runner, place, { force: true });
    directory[Symbol.dispose]();
  }

  get device(): string {
    return this.attachment.device.path;
  }

  /** What the server tells after a command of it. */
  async state(command: "s" | "g" | "f" = "s"): Promise<ServerState> {
    using connection = await Deno.connect({ transport: "unix", path: this.directory.join("control") });
    await connection.write(new TextEncoder().encode(command));
    const buffer = new Uint8Array(4096);
    const length = await connection.read(buffer) ?? 0;
    return JSON.parse(new TextDecoder().decode(buffer.subarray(0, length)));
  }

  /** Mounts a file system of the device. */
  async mount(...options: string[]): Promise<AsyncDisposable & { readonly path: string }> {
    const path = this.directory.join(`mnt-${crypto.randomUUID().slice(0, 8)}`);
    await Deno.mkdir(path);
    await run("mount", [...options, this.device, path]);
    return {
      path,
      [Symbol.asyncDispose]: async () => {
        if (readMounts().some((mount) => mount.mountPoint === path)) await run("umount", [path]);
        await Deno.remove(path);
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Served.#clean(this.directory, this.place, this.server);
  }
}

/** CAP_SYS_RESOURCE is bit 24 (linux/capability.h). Marking a thread needs it. */
function hasCapSysResource(): boolean {
  const mask = /^CapEff:\s*([0-9a-f]+)$/m.exec(Deno.readTextFileSync("/proc/self/status"))?.[1] ?? "0";
  return ((BigInt(`0x${mask}`) >> 24n) & 1n) === 1n;
}

/** What is left of a volume on this host. */
function remains(place: LoopPlace): string[] {
  const inside = (path: string): boolean => path.startsWith(`${place.run}/`);
  return [
    ...listLoopDevices().filter((device) => inside(device.backingFile)).map((device) => device.path),
    ...readMounts().filter((mount) => inside(mount.mountPoint)).map((mount) => mount.mountPoint),
    ...listMountPoints(place),
  ];
}

async function fio(device: string, ...args: string[]): Promise<void> {
  const common = [
    "--name=t",
    `--filename=${device}`,
    "--ioengine=libaio",
    "--verify=crc32c",
    "--verify_fatal=1",
    "--verify_state_save=0",
  ];
  await run("fio", [...common, "--rw=randwrite", "--bsrange=512-256k", "--size=32m", ...args]);
}

async function copyTree(to: string): Promise<void> {
  await run("cp", ["-r", "lib", to], { cwd: new URL("..", import.meta.url).pathname });
}

peerTest(
  "ext4 works: files survive a new mount, fsync flushes, trimmed space goes back, fsck finds nothing",
  { needs: [...NEEDS, "mkfs.ext4", "fstrim", "blkdiscard"] },
  async () => {
    await using served = await Served.start(256 * MiB);
    await run("mkfs.ext4", ["-q", served.device]);
    {
      await using mount = await served.mount("-o", "discard");
      await copyTree(mount.path);
      const before = (await served.state()).flushes;
      await run("dd", ["if=/dev/urandom", `of=${mount.path}/big`, "bs=1M", "count=40", "conv=fsync"]);
      const full = await served.state();
      assert.ok(full.flushes > before, "fsync reached the volume");
      await Deno.remove(`${mount.path}/big`);
      await run("sync", ["-f", mount.path]);
      await run("fstrim", [mount.path]);
      const trimmed = await served.state();
      assert.ok(trimmed.chunks < full.chunks - 400, `${full.chunks} chunks before, ${trimmed.chunks} after`);
      assert.equal(trimmed.unaligned, 0, "all data was page aligned");
      assert.equal(
        trimmed.flusher,
        hasCapSysResource(),
        "the thread is marked as one that block I/O depends on",
      );
    }
    await run("fsck.ext4", ["-fn", served.device]);
    {
      await using mount = await served.mount("-o", "ro");
      const root = new URL("../lib", import.meta.url).pathname;
      await run("diff", ["-r", `${root}/block`, `${mount.path}/lib/block`]);
    }
    await run("blkdiscard", ["--force", served.device]);
    assert.equal((await served.state()).chunks, 0);
  },
);

peerTest(
  "xfs works: files survive a new mount and xfs_repair finds nothing",
  { needs: [...NEEDS, "mkfs.xfs", "xfs_repair"] },
  async () => {
    await using served = await Served.start(512 * MiB, { sectorBytes: 4096 });
    await run("mkfs.xfs", ["-q", served.device]);
    {
      await using mount = await served.mount();
      await copyTree(mount.path);
    }
    await run("xfs_repair", ["-n", served.device]);
    await using mount = await served.mount("-o", "ro");
    await run("diff", ["-r", new URL("../lib/block", import.meta.url).pathname, `${mount.path}/lib/block`]);
  },
);

for (const world of ["uring", "poll"]) {
  peerTest(
    `what is written is read back, direct and buffered, by the ${world} world`,
    { needs: [...NEEDS, "fio", ...(world === "uring" ? ["io_uring"] : [])] },
    async () => {
      await using served = await Served.start(64 * MiB, {}, { DROVER_IO: world });
      await fio(served.device, "--direct=1", "--iodepth=32");
      await fio(served.device, "--direct=0", "--iodepth=4", "--end_fsync=1");
      const state = await served.state();
      assert.equal(state.world, world);
      assert.deepEqual([state.malformed, state.lost], [0, 0]);
    },
  );
}

peerTest("what is written is read back through the page cache of the file too", {
  needs: [...NEEDS, "fio"],
}, async () => {
  await using served = await Served.start(64 * MiB, { directIo: false });
  assert.equal(served.attachment.device.directIo, false);
  await fio(served.device, "--direct=1", "--iodepth=32");
});

peerTest("zeroed ranges read as zeros and take no space", { needs: [...NEEDS, "blkdiscard"] }, async () => {
  await using served = await Served.start(16 * MiB);
  await run("dd", ["if=/dev/urandom", `of=${served.device}`, "bs=1M", "count=16", "oflag=direct"]);
  assert.equal((await served.state()).chunks, 256);
  await run("blkdiscard", ["--zeroout", "--offset", "1M", "--length", "8M", served.device]);
  assert.equal((await served.state()).chunks, 128);
  await run("cmp", ["--ignore-initial=1048576:0", "--bytes=8388608", served.device, "/dev/zero"]);
});

peerTest("a device grows with its volume, while it is mounted", {
  needs: [...NEEDS, "mkfs.xfs", "xfs_growfs"],
}, async () => {
  await using served = await Served.start(320 * MiB);
  await run("mkfs.xfs", ["-q", served.device]);
  {
    await using mount = await served.mount();
    const size = async () => Number((await run("stat", ["-f", "-c", "%b", mount.path])).stdout);
    const before = await size();
    assert.equal((await served.state("g")).resized, 1);
    assert.equal(await resizeLoop(runner, served.attachment), 480 * MiB);
    await run("xfs_growfs", [mount.path]);
    assert.ok(await size() > before * 1.4);
  }
  await run("xfs_repair", ["-n", served.device]);
});

peerTest("logical blocks have the size that was asked for", { needs: NEEDS }, async () => {
  for (const sectorBytes of [SECTOR_BYTES, 4096] as const) {
    await using served = await Served.start(16 * MiB, { sectorBytes });
    const { stdout } = await run("blockdev", ["--getss", "--getsize64", served.device]);
    assert.deepEqual(stdout.trim().split("\n").map(Number), [sectorBytes, 16 * MiB]);
    assert.equal(served.attachment.device.directIo, true);
  }
});

peerTest("a read-only device refuses writes", { needs: NEEDS }, async () => {
  await using served = await Served.start(16 * MiB, { readOnly: true });
  const result = await runAnyway("dd", ["if=/dev/zero", `of=${served.device}`, "bs=4k", "count=1"]);
  assert.notEqual(result.code, 0);
  assert.equal((await served.state()).chunks, 0);
});

peerTest("an error of the volume is an error of that sector only", { needs: NEEDS }, async () => {
  await using served = await Served.start(16 * MiB);
  await served.state("f");
  const read = (skip: number) =>
    runAnyway("dd", [
      `if=${served.device}`,
      "of=/dev/null",
      "bs=4k",
      "count=1",
      `skip=${skip}`,
      "iflag=direct",
    ]);
  const failed = await read(0);
  assert.notEqual(failed.code, 0);
  assert.match(failed.stderr, /Input\/output error/);
  assert.equal((await read(1)).code, 0);
});

peerTest("an orderly detach leaves nothing; a mounted device is not detached", {
  needs: [...NEEDS, "mkfs.ext4"],
}, async () => {
  using links = tempDir();
  const link = { path: links.join("longhorn/vol"), kind: "symlink" } as const;
  await using served = await Served.start(64 * MiB, { link });
  assert.equal(Deno.readLinkSync(link.path), served.device);
  await run("mkfs.ext4", ["-q", link.path]);
  {
    await using mount = await served.mount();
    await assert.rejects(detachLoop(runner, served.attachment), (error) => {
      assert.ok(error instanceof LoopBusyError);
      assert.ok(
        error.message.includes(`${served.device} is in use: mounted at ${mount.path}`),
        error.message,
      );
      return true;
    });
    await Deno.writeTextFile(`${mount.path}/still`, "works");
  }
  await detachLoop(runner, served.attachment);
  assert.deepEqual(remains(served.place), []);
  assert.equal(Deno.readDirSync(links.join("longhorn"))[Symbol.iterator]().next().done, true);
  await served.server.waitForOutput(/^ended 0$/m);
  assert.equal((await served.server.status).code, 0, "the server ended by itself");
  await detachLoop(runner, served.attachment);
});

peerTest("a volume that is being served is no leftover", { needs: NEEDS }, async () => {
  await using served = await Served.start(16 * MiB);
  await assert.rejects(cleanLeftovers(runner, served.place), LoopAliveError);
  assert.equal((await run("blockdev", ["--getsize64", served.device])).stdout.trim(), String(16 * MiB));
});

peerTest("after a crash everything is found and taken away", { needs: NEEDS }, async () => {
  using links = tempDir();
  const link = { path: links.join("vol"), kind: "symlink" } as const;
  await using served = await Served.start(16 * MiB, { link });
  served.server.signal("SIGKILL");
  await served.server.status;
  const found = await cleanLeftovers(runner, served.place, { link });
  assert.deepEqual(found.detached, [served.device]);
  assert.deepEqual(found.unmounted, [served.attachment.mount.mountPoint]);
  assert.deepEqual(found.busy, []);
  assert.deepEqual(remains(served.place), []);
  assert.throws(() => Deno.lstatSync(link.path), Deno.errors.NotFound);
  assert.deepEqual(await cleanLeftovers(runner, served.place), { detached: [], unmounted: [], busy: [] });
});

peerTest("a dead device that is still mounted is reported, and goes with its mount", {
  needs: [...NEEDS, "mkfs.ext4"],
}, async () => {
  await using served = await Served.start(64 * MiB);
  await run("mkfs.ext4", ["-q", served.device]);
  await using mount = await served.mount();
  served.server.signal("SIGKILL");
  await served.server.status;
  const found = await cleanLeftovers(runner, served.place);
  assert.deepEqual(found.busy, [{ device: served.device, users: [`mounted at ${mount.path}`] }]);
  // The same volume can be served again beside it.
  const socket = served.directory.join("control2");
  await using again = spawnDeno("tests/loop_server.ts", [served.place.run, "vol", String(16 * MiB), socket]);
  const [line] = await again.waitForOutput(/^\{.*\}$/m);
  const second = await attachLoop(runner, JSON.parse(line) as LoopMount);
  assert.notEqual(second.mount.mountPoint, served.attachment.mount.mountPoint);
  await detachLoop(runner, second);
  await run("umount", [mount.path]);
  await waitFor(() => remains(served.place).every((one) => !one.startsWith("/dev/")));
  await cleanLeftovers(runner, served.place);
  assert.deepEqual(remains(served.place), []);
});

peerTest("a hanging server is not waited for without end, and force takes its volume away", {
  needs: NEEDS,
}, async () => {
  await using served = await Served.start(16 * MiB);
  served.server.signal("SIGSTOP");
  try {
    const args = [`if=${served.device}`, "of=/dev/null", "bs=4k", "count=1", "iflag=direct"];
    const hanging = runAnyway("dd", args);
    await assert.rejects(cleanLeftovers(runner, served.place), (error) => {
      assert.ok(error instanceof LoopAliveError);
      assert.equal(error.state, "hangs");
      return true;
    });
    await cleanLeftovers(runner, served.place, { force: true });
    assert.notEqual((await hanging).code, 0);
    await waitFor(() => remains(served.place).length === 0);
  } finally {
    served.server.signal("SIGCONT");
  }
});

peerTest("a device whose attaching was given up is not left behind", { needs: NEEDS }, async () => {
  using directory = tempDir();
  const place = { run: directory.path, name: "vol" };
  const socket = directory.join("control");
  await using server = spawnDeno("tests/loop_server.ts", [place.run, "vol", String(16 * MiB), socket]);
  const [line] = await server.waitForOutput(/^\{.*\}$/m);
  const late: Runner = {
    run: async (argv, options) => {
      const result = await runner.run(argv, options);
      if (argv.includes("--find")) throw new CommandError(argv, "did not end in time");
      return result;
    },
  };
  try {
    await assert.rejects(attachLoop(late, JSON.parse(line) as LoopMount), CommandError);
    assert.deepEqual(remains(place), []);
  } finally {
    await cleanLeftovers(runner, place, { force: true });
  }
});

peerTest(
  "a file that nobody serves makes attaching fail in time and leaves nothing",
  { needs: NEEDS },
  async () => {
    using directory = tempDir();
    const place = { run: directory.path, name: "vol" };
    const mount = openLoop(place);
    try {
      await assert.rejects(
        attachLoop(runner, mount, { timeoutMs: 300 }),
        /losetup .*: did not end within 300 ms/,
      );
      assert.deepEqual(remains(place), []);
    } finally {
      libc.close(mount.fd);
    }
  },
);
