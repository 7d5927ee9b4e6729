/**
 * The drivers of the benchmark carry the right data: against our own frontends, which run in the same loop here,
 * and against other people's servers.
 *
 * @module
 */
import assert from "node:assert/strict";
import { arenaBytes, type BenchOptions, type BenchResult, runBench } from "../lib/bench/bench.ts";
import { parsePlace } from "../lib/bench/place.ts";
import { BenchError } from "../lib/bench/target.ts";
import { MAX_TRANSFER_BYTES } from "../lib/block/device.ts";
import { MemoryDevice } from "../lib/block/memory_device.ts";
import type { Frontend } from "../lib/frontend/frontend.ts";
import { IscsiFrontend, targetNameOf } from "../lib/frontend/iscsi/target.ts";
import { NbdFrontend } from "../lib/frontend/nbd/frontend.ts";
import { SocketFrontend } from "../lib/frontend/socket/socket.ts";
import { Errno } from "../lib/io/errno.ts";
import type { Io } from "../lib/io/io.ts";
import { type KernelWorld, openIo } from "../lib/io/open.ts";
import { BufferPool } from "../lib/io/pool.ts";
import { peerTest } from "./support/conditional.ts";
import { freePorts } from "./support/ports.ts";
import { run, spawnLogged } from "./support/process.ts";
import { type TempDir, tempDir } from "./support/temp.ts";
import { waitFor } from "./support/wait.ts";

const MIB = 1024 * 1024;
const DISK_BYTES = 32 * MIB;
const SERVER_ARENA_BYTES = 256 * MIB;
const POOL_BYTES = 64 * MIB;

function options(target: string, more: Partial<BenchOptions> = {}): BenchOptions {
  return {
    place: parsePlace(target),
    workload: "randwrite",
    blockBytes: 4096,
    depth: 32,
    connections: 1,
    rangeBytes: 8 * MIB,
    seconds: 0.05,
    rampSeconds: 0,
    verify: true,
    cached: false,
    seed: 3,
    ...more,
  };
}

/** What every driver has to get right: small and large blocks, one and several connections. */
const SHAPES: readonly Partial<BenchOptions>[] = [
  {},
  { blockBytes: 512, rangeBytes: 2 * MIB, depth: 7 },
  { blockBytes: MIB, depth: 9, rangeBytes: DISK_BYTES, workload: "write" },
  { blockBytes: 4 * MIB, depth: 4, rangeBytes: DISK_BYTES, workload: "write" },
  { blockBytes: 64 * 1024, depth: 128, connections: 3, rangeBytes: DISK_BYTES },
];

function assertVerified(result: BenchResult, asked: BenchOptions): void {
  const blocks = asked.rangeBytes / asked.blockBytes;
  assert.deepEqual(result.verification, { blocks, wrong: 0, firstWrongOffset: null });
  assert.equal(result.total.operations, 2 * blocks);
}

/** All shapes, each in a loop of its own. */
function verifyAll(target: string, shapes: readonly Partial<BenchOptions>[] = SHAPES): void {
  for (const shape of shapes) {
    const asked = options(target, shape);
    using io = openIo({ arenaBytes: arenaBytes(asked) });
    assertVerified(runBench(io, asked), asked);
  }
}

type Make = (io: Io, pool: BufferPool, device: MemoryDevice, directory: TempDir) => [Frontend, string];

const FRONTENDS: Readonly<Record<string, Make>> = {
  socket: (io, pool, device, directory) => {
    const path = directory.join("s");
    return [new SocketFrontend(io, pool, device, { address: { kind: "unix", path } }), `unix:${path}`];
  },
  nbd: (io, pool, device, directory) => {
    const path = directory.join("n");
    return [
      new NbdFrontend(io, pool, device, { address: { kind: "unix", path } }),
      `nbd+unix:///vol-1?socket=${path}`,
    ];
  },
  "nbd with simple replies": (io, pool, device, directory) => {
    const path = directory.join("n");
    return [
      new NbdFrontend(io, pool, device, { address: { kind: "unix", path } }),
      `nbd+unix:///vol-1?socket=${path}&replies=simple`,
    ];
  },
  iscsi: (io, pool, device) => {
    const targetName = targetNameOf(device.name);
    const address = { kind: "tcp", host: "127.0.0.1", port: 0 } as const;
    const frontend = new IscsiFrontend(io, pool, device, { address, targetName, lun: 1 });
    return [frontend, `iscsi://127.0.0.1:${frontend.port}/${targetName}/1`];
  },
};

/** A frontend over a memory disk, and the load, in one loop. */
function withFrontend(
  make: Make,
  more: Partial<BenchOptions>,
  use: (io: Io, asked: BenchOptions, device: MemoryDevice) => void,
  world?: KernelWorld,
): void {
  using directory = tempDir("bench-");
  const room = arenaBytes(options("file:/x", { ...more, cached: true }));
  using io = openIo({ arenaBytes: SERVER_ARENA_BYTES + room, ...(world ? { world } : {}) });
  const pool = new BufferPool(io, POOL_BYTES, MAX_TRANSFER_BYTES);
  const device = new MemoryDevice(io, "vol-1", DISK_BYTES);
  const free = pool.free;
  const [frontend, target] = make(io, pool, device, directory);
  use(io, options(target, more), device);
  frontend.stop(() => io.stop());
  io.run();
  assert.equal(pool.free, free, "the frontend got all buffers back");
}

for (const [name, make] of Object.entries(FRONTENDS)) {
  Deno.test(`a load on our own frontend brings every byte back: ${name}`, () => {
    for (const shape of SHAPES) {
      withFrontend(make, shape, (io, asked) => assertVerified(runBench(io, asked), asked));
    }
    withFrontend(make, {}, (io, asked) => assertVerified(runBench(io, asked), asked), "poll");
  });

  Deno.test(`a timed load has figures of both directions: ${name}`, () => {
    const more = { verify: false, workload: "randrw", writePercent: 50 } as const;
    withFrontend(make, more, (io, asked) => {
      const { read, write, total, verification, seconds } = runBench(io, asked);
      assert.ok(read.operations > 0 && write.operations > 0 && seconds >= 0.05);
      assert.equal(total.operations, read.operations + write.operations);
      assert.equal(total.bytes, total.operations * 4096);
      assert.ok(total.latencyUs.p50 > 0 && total.latencyUs.p50 <= total.latencyUs.max);
      assert.equal(verification, null);
    });
  });

  Deno.test(`a disk that fails is a clear error: ${name}`, () => {
    withFrontend(make, {}, (io, asked, device) => {
      device.failAt = { offset: MIB, result: -Errno.EIO };
      assert.throws(
        () => runBench(io, asked),
        (error) =>
          error instanceof BenchError && /^write of 4096 bytes at offset 1048576 /.test(error.message),
      );
    });
  });
}

Deno.test("a target that is not there, and a range that does not fit, are refused in words", () => {
  const throws = (asked: BenchOptions, pattern: RegExp) => {
    using io = openIo({ arenaBytes: arenaBytes(asked) });
    assert.throws(
      () => runBench(io, asked),
      (error) => error instanceof BenchError && pattern.test(error.message),
    );
  };
  const [port] = freePorts(1);
  for (
    const target of [
      `tcp:127.0.0.1:${port}`,
      `nbd://127.0.0.1:${port}/v`,
      `iscsi://127.0.0.1:${port}/iqn.a:b`,
    ]
  ) {
    throws(options(target), /cannot connect to tcp:\/\/127\.0\.0\.1:\d+: connection refused/);
  }
  throws(options("file:/nowhere/at/all"), /no such file/);
  throws(options("file:/dev/null", { cached: true }), /neither a file nor a block device/);
  throws(options("tcp:h:1", { blockBytes: 1000 }), /multiple of 512/);
  throws(options("tcp:h:1", { connections: 64 }), /64 connections with a queue depth of 32/);
  const { socket } = FRONTENDS;
  withFrontend(socket, { rangeBytes: 0 }, (io, asked) => assert.throws(() => runBench(io, asked), /--size/));
  withFrontend(FRONTENDS.nbd, { rangeBytes: 2 * DISK_BYTES }, (io, asked) => {
    assert.throws(() => runBench(io, asked), /more than the disk's 33554432/);
  });
});

Deno.test("a load on a file brings every byte back, past the page cache and through it", () => {
  using directory = tempDir("bench-");
  const path = directory.join("file");
  Deno.writeFileSync(path, new Uint8Array());
  Deno.truncateSync(path, DISK_BYTES);
  verifyAll(`file:${path}`, SHAPES.filter(({ blockBytes }) => blockBytes !== 512));
  verifyAll(`file:${path}`, [{ cached: true, blockBytes: 512, rangeBytes: 2 * MIB }]);
});

peerTest("a load over NBD brings every byte back from qemu-nbd", { needs: ["qemu-nbd"] }, async () => {
  using directory = tempDir("bench-");
  const image = directory.join("image"), socket = directory.join("s");
  Deno.writeFileSync(image, new Uint8Array());
  Deno.truncateSync(image, DISK_BYTES);
  const args = ["-k", socket, "-f", "raw", "-x", "vol", "-t", "-e", "8", image];
  await using server = spawnLogged("qemu-nbd", args);
  await waitFor(() => Deno.statSync(socket).isSocket, { what: "the socket of qemu-nbd" });
  verifyAll(`nbd+unix:///vol?socket=${socket}`);
  verifyAll(`nbd+unix:///vol?socket=${socket}&replies=simple`);
  assert.throws(() => verifyAll(`nbd+unix:///other?socket=${socket}`), /no export "other"/);
  assert.ok(server.running);
});

peerTest("a load over NBD brings every byte back from nbdkit", { needs: ["nbdkit"] }, async () => {
  using directory = tempDir("bench-");
  const socket = directory.join("s");
  await using server = spawnLogged("nbdkit", ["-f", "-U", socket, "memory", String(DISK_BYTES)]);
  await waitFor(() => Deno.statSync(socket).isSocket, { what: "the socket of nbdkit" });
  verifyAll(`nbd+unix://?socket=${socket}`);
  assert.ok(server.running);
});

peerTest(
  "a load over iSCSI brings every byte back from tgtd",
  { needs: ["tgtd", "tgtadm", "root"] },
  async () => {
    using directory = tempDir("bench-");
    const image = directory.join("image"), name = "iqn.2019-10.io.longhorn:bench";
    Deno.writeFileSync(image, new Uint8Array());
    Deno.truncateSync(image, DISK_BYTES);
    const [port] = freePorts(1), control = String(100 + port % 30_000);
    await using server = spawnLogged("tgtd", ["-f", "-C", control, "--iscsi", `portal=127.0.0.1:${port}`]);
    const admin = (...args: string[]) => run("tgtadm", ["-C", control, "--lld", "iscsi", "--op", ...args]);
    await waitFor(() => admin("show", "--mode", "sys"), { what: "tgtd" });
    await admin("new", "--mode", "target", "--tid", "1", "-T", name);
    await admin("new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", image);
    await admin("bind", "--mode", "target", "--tid", "1", "-I", "ALL");
    verifyAll(`iscsi://127.0.0.1:${port}/${name}/1`);
    assert.throws(() => verifyAll(`iscsi://127.0.0.1:${port}/${name}x/1`), /no such target/);
    assert.throws(() => verifyAll(`iscsi://127.0.0.1:${port}/${name}/9`), /logical unit 9 is not usable/);
    assert.ok(server.running);
  },
);
