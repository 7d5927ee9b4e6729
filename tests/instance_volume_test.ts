/**
 * A real volume under an instance manager: its engine and replicas are processes of the manager, and what happens to
 * the manager does not happen to the volume.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type ProxyEngineMethods, proxyEngineService } from "../lib/rpc/imrpc.ts";
import { connect, type RpcClient } from "../lib/rpc/mod.ts";
import { isAlive, TestNode } from "./instance_kit.ts";
import { waitFor } from "./support/wait.ts";
import { Load, VOLUME_BYTES } from "./worlds/cluster.ts";
import { Frames } from "./worlds/frames.ts";

/** A client that lost its server has a timer until it dials again. */
const REDIALS = { sanitizeOps: false, sanitizeResources: false };

/** Ports of a replica (control, data, sync agent and its receivers), as control planes ask for them. */
const REPLICA_PORTS = 10;

/** Has the node start a replica, of its own directory unless another is named. @returns its address */
async function startReplica(node: TestNode, name: string, directory = name): Promise<string> {
  const { status } = await node.processes.unary("processCreate", {
    spec: {
      name,
      binary: "replica",
      args: [node.path(directory), "--size", String(VOLUME_BYTES), "--volume-name", "vol"],
      portCount: REPLICA_PORTS,
      portArgs: ["--listen,127.0.0.1:"],
    },
  });
  await node.until(name, /^running$/);
  return `tcp://127.0.0.1:${status?.portStart}`;
}

interface Engine {
  readonly proxy: RpcClient<ProxyEngineMethods>;
  /** The request that means it. */
  readonly means: { address: string; volumeName: string; engineName: string };
  /** Its socket. */
  readonly socket: string;
}

const ENGINE = "vol-e-0";

/** What to start for an engine. */
function engineSpec(
  node: TestNode,
  binary: string,
  replicas: readonly string[],
  more: readonly string[] = [],
) {
  const identity = ["--volume-name", "vol", "--engine-instance-name", ENGINE];
  const frontend = ["--frontend-listen", `unix:${node.path("vol.sock")}`];
  const members = replicas.flatMap((address) => ["--replica", address]);
  return {
    name: ENGINE,
    binary,
    args: [
      ...identity,
      "controller",
      "vol",
      "--size",
      String(VOLUME_BYTES),
      ...frontend,
      ...members,
      ...more,
    ],
    portCount: 1,
    portArgs: ["--listen,127.0.0.1:"],
  };
}

async function startEngine(
  node: TestNode,
  replicas: readonly string[],
  frontend: readonly string[] = ["--frontend", "socket"],
): Promise<Engine> {
  const spec = engineSpec(node, "engine", replicas, frontend);
  const { status } = await node.processes.unary("processCreate", { spec });
  await node.until(ENGINE, /^running$/);
  const address = `127.0.0.1:${status?.portStart}`;
  return {
    proxy: connect(proxyEngineService, `127.0.0.1:${node.port + 1}`),
    means: { address, volumeName: "vol", engineName: ENGINE },
    socket: node.path("vol.sock"),
  };
}

Deno.test(
  "a volume writes on through restarts and kills of its manager, without one error",
  REDIALS,
  async () => {
    await using node = await TestNode.start();
    const replicas = [await startReplica(node, "vol-r-1"), await startReplica(node, "vol-r-2")];
    const engine = await startEngine(node, replicas);
    using frames = await Frames.connect(engine.socket);
    const load = new Load();
    load.start(frames);
    await load.progress(200);
    const before = node.pids();
    for (const signal of ["SIGKILL", "SIGTERM", "SIGKILL"] as const) {
      await node.restart(signal);
      await load.progress(200);
      for (const name of before.keys()) assert.equal(await node.state(name), "running");
    }
    assert.deepEqual(node.pids(), before);
    await load.stop();
    await load.verify(frames);
    const { volume } = await engine.proxy.unary("volumeGet", engine.means);
    assert.deepEqual([volume?.name, volume?.size, volume?.replicaCount], ["vol", VOLUME_BYTES, 2]);
    const { replicaList } = await engine.proxy.unary("replicaList", engine.means);
    assert.deepEqual(replicaList?.replicas?.map(({ mode }) => mode), [1, 1]);
    engine.proxy.close();
    // In order: the engine leaves, and marks its replicas as clean.
    await node.processes.unary("processDelete", { name: "vol-e-0" });
    await node.until("vol-r-1", /^running$/);
  },
);

Deno.test(
  "through the proxy: snapshots are made, listed and removed, the volume grows, a replica is rebuilt and removed",
  REDIALS,
  async () => {
    await using node = await TestNode.start();
    const replicas = [await startReplica(node, "vol-r-1"), await startReplica(node, "vol-r-2")];
    const { proxy, means: proxyEngineRequest, socket } = await startEngine(node, replicas.slice(0, 1));
    using frames = await Frames.connect(socket);
    await frames.write(0, new Uint8Array(65536).fill(1));
    await proxy.unary("volumeSnapshot", {
      proxyEngineRequest,
      snapshotVolume: { name: "s1", labels: { a: "b" } },
    });
    await frames.write(4096, new Uint8Array(4096).fill(2));
    const { disks } = await proxy.unary("snapshotList", proxyEngineRequest);
    assert.deepEqual(Object.keys(disks).sort(), ["s1", "volume-head"]);
    assert.deepEqual([disks["s1"]?.userCreated, disks["s1"]?.labels], [true, { a: "b" }]);
    const replicaAddress = replicas[1] ?? "";
    await proxy.unary("replicaAdd", { proxyEngineRequest, replicaAddress });
    const modes = async () =>
      (await proxy.unary("replicaList", proxyEngineRequest)).replicaList?.replicas?.map(({ mode }) => mode);
    assert.deepEqual(await modes(), [1, 1]);
    await proxy.unary("replicaRemove", { proxyEngineRequest, replicaAddress: replicas[0] ?? "" });
    assert.deepEqual(await modes(), [1]);
    const bytes = await frames.read(0, 12288);
    assert.deepEqual([bytes[0], bytes[4096], bytes[8192]], [1, 2, 1], "the new replica has everything");
    await proxy.unary("snapshotRemove", { proxyEngineRequest, names: ["s1"] });
    const after = await proxy.unary("snapshotList", proxyEngineRequest);
    assert.equal(after.disks["s1"]?.removed, true);
    await proxy.unary("snapshotPurge", { proxyEngineRequest });
    await waitFor(async () => {
      const { status } = await proxy.unary("snapshotPurgeStatus", proxyEngineRequest);
      return Object.values(status).every(({ state, error }) => state === "complete" && error === "");
    }, { what: "the end of the purge" });
    const left = Object.keys((await proxy.unary("snapshotList", proxyEngineRequest)).disks);
    assert.ok(!left.includes("s1"), left.join(" "));
    await proxy.unary("volumeExpand", { proxyEngineRequest, expand: { size: 2 * VOLUME_BYTES } });
    await waitFor(async () => {
      const { volume } = await proxy.unary("volumeGet", proxyEngineRequest);
      return volume?.size === 2 * VOLUME_BYTES && !volume.isExpanding;
    }, { what: "the larger volume" });
    await frames.write(2 * VOLUME_BYTES - 4096, new Uint8Array(4096).fill(3));
    await proxy.unary("volumeFrontendShutdown", proxyEngineRequest);
    proxy.close();
  },
);

Deno.test(
  "an engine is replaced by another program under load, without one error; then the manager is killed",
  REDIALS,
  async () => {
    await using node = await TestNode.start();
    const replicas = [await startReplica(node, "vol-r-1"), await startReplica(node, "vol-r-2")];
    const { proxy, means, socket } = await startEngine(node, replicas);
    using frames = await Frames.connect(socket);
    const load = new Load();
    load.start(frames);
    await load.progress(200);
    const old = node.pids().get(ENGINE) ?? 0;
    // As control planes do it: new replica processes on the same directories, then the engine, then the old ones go.
    const others = [
      await startReplica(node, "vol-r-1-new", "vol-r-1"),
      await startReplica(node, "vol-r-2-new", "vol-r-2"),
    ];
    await load.progress(200);
    const spec = engineSpec(node, node.engine2, others, ["--frontend", "socket", "--upgrade"]);
    const replaced = await node.processes.unary("processReplace", { spec, terminateSignal: "SIGHUP" });
    assert.deepEqual([replaced.spec?.binary, replaced.status?.state], [node.engine2, "running"]);
    await load.progress(200);
    await waitFor(() => !isAlive(old), { what: "the old engine's end" });
    await node.processes.unary("processDelete", { name: "vol-r-1" });
    await node.processes.unary("processDelete", { name: "vol-r-2" });
    await waitFor(() => node.pids().size === 3, { what: "the old replicas' end" });
    await load.progress(200);
    await node.restart("SIGKILL");
    await load.progress(200);
    assert.equal(await node.state(ENGINE), "running");
    assert.equal(node.pids().size, 3);
    await load.stop();
    await load.verify(frames);
    const address = `127.0.0.1:${replaced.status?.portStart}`;
    const { replicaList } = await proxy.unary("replicaList", { ...means, address });
    assert.deepEqual(replicaList?.replicas?.map(({ mode }) => mode), [1, 1]);
    proxy.close();
  },
);

Deno.test(
  "through the proxy: a snapshot is backed up into a directory and restored into another volume",
  REDIALS,
  async () => {
    await using node = await TestNode.start();
    const { proxy, means: proxyEngineRequest, socket } = await startEngine(node, [
      await startReplica(node, "vol-r-1"),
    ]);
    const written = new Uint8Array(1 << 20).map((_, i) => i % 251);
    {
      using frames = await Frames.connect(socket);
      await frames.write(1 << 20, written);
    }
    await proxy.unary("volumeSnapshot", { proxyEngineRequest, snapshotVolume: { name: "s1" } });
    Deno.mkdirSync(node.path("store"));
    const { backupId, replica } = await proxy.unary("snapshotBackup", {
      proxyEngineRequest,
      backupName: "backup-1",
      snapshotName: "s1",
      backupTarget: `vfs://${node.path("store")}`,
      compressionMethod: "lz4",
      concurrentLimit: 2,
    });
    assert.equal(backupId, "backup-1");
    let url = "";
    await waitFor(async () => {
      const asked = { proxyEngineRequest, backupName: backupId, replicaAddress: replica };
      const status = await proxy.unary("snapshotBackupStatus", asked);
      assert.equal(status.error, "");
      url = status.backupUrl;
      return status.state === "complete";
    }, { what: "the backup" });
    proxy.close();
    await node.processes.unary("processDelete", { name: ENGINE });
    await node.processes.unary("processDelete", { name: "vol-r-1" });
    await waitFor(() => node.pids().size === 0, { what: "the end of the first volume" });

    const again = await startEngine(node, [await startReplica(node, "vol-r-2")], []);
    await again.proxy.unary("backupRestore", { proxyEngineRequest: again.means, url, concurrentLimit: 2 });
    await waitFor(async () => {
      const { status } = await again.proxy.unary("backupRestoreStatus", again.means);
      const [one] = Object.values(status);
      assert.equal(one?.error, "");
      return one?.state === "complete";
    }, { what: "the restore" });
    await again.proxy.unary("volumeFrontendStart", {
      proxyEngineRequest: again.means,
      frontendStart: { frontend: "socket" },
    });
    using frames = await Frames.connect(again.socket);
    assert.deepEqual(await frames.read(1 << 20, written.length), written);
    again.proxy.close();
  },
);

Deno.test("an engine that cannot start says why in its status and in its log", REDIALS, async () => {
  await using node = await TestNode.start();
  await node.processes.unary("processCreate", {
    spec: {
      name: "vol-e-0",
      binary: "engine",
      args: ["controller", "vol", "--size", "64MiB", "--replica", "tcp://127.0.0.1:1"],
      portCount: 1,
      portArgs: ["--listen,127.0.0.1:"],
    },
  });
  await node.until("vol-e-0", /^error: exit status \d+$/);
  const lines: string[] = [];
  for await (const { line } of node.processes.stream("processLog", { name: "vol-e-0" })) lines.push(line);
  assert.match(lines.join("\n"), /no available backend/);
});
