import assert from "node:assert/strict";
import { failure } from "../support/failure.ts";
import { Code, connect, controllerService, healthService, ptypes } from "../../lib/rpc/mod.ts";
import { FrameType } from "../../lib/wire/frame.ts";
import { freePortRange } from "../support/ports.ts";
import { waitFor } from "../support/wait.ts";
import { Cluster, Load, TestReplica, VOLUME_BYTES } from "./cluster.ts";

const KIB = 1024, MIB = KIB * KIB;

function bytes(length: number, seed: number): Uint8Array {
  const result = new Uint8Array(length);
  for (let i = 0; i < length; i++) result[i] = Math.imul(seed * 7919 + i + 1, 0x9e3779b1) >>> 24;
  return result;
}

/** The whole volume as each replica has it in its head file. */
function heads(cluster: Cluster): Uint8Array[] {
  return cluster.replicas.map(({ directory }) => Deno.readFileSync(`${directory}/volume-head-000.img`));
}

function assertEqualHeads(cluster: Cluster): void {
  const [first, ...others] = heads(cluster);
  for (const other of others) assert.ok(first.every((byte, i) => byte === other[i]), "the copies differ");
}

async function assertAnyData(cluster: Cluster): Promise<void> {
  const frames = await cluster.connect(), shadow = new Uint8Array(8 * MIB);
  // In order of their number where they overlap: each is waited for.
  const pieces: [number, number][] = [[0, 4 * KIB], [512, 512], [3 * KIB, 130 * KIB], [MIB - 512, 2 * MIB]];
  for (let i = 0; i < 40; i++) pieces.push([(i * 37 % 4000) * 512, (i * 13 % 64 + 1) * 512]);
  for (const [i, [offset, length]] of pieces.entries()) {
    const data = bytes(length, i);
    shadow.set(data, offset);
    await frames.write(offset, data);
  }
  const parts = await Promise.all(
    Array.from({ length: 32 }, (_, i) => frames.read(i * 256 * KIB, 256 * KIB)),
  );
  parts.forEach((part, i) => {
    const want = shadow.subarray(i * 256 * KIB, (i + 1) * 256 * KIB);
    assert.ok(part.every((byte, j) => byte === want[j]), `part ${i}`);
  });
}

async function assertTrimming(cluster: Cluster): Promise<void> {
  const frames = await cluster.connect(), at = 32 * MIB;
  await frames.write(at, bytes(4 * MIB, 1));
  const before = cluster.replicas.map((replica) => replica.headBytes());
  const reply = await frames.ask(FrameType.UNMAP, at + 1, 4 * MIB - 1);
  assert.equal(reply.type, FrameType.RESPONSE);
  cluster.replicas.forEach((replica, i) => {
    const freed = before[i] - replica.headBytes();
    assert.ok(freed >= 4 * MIB - 64 * KIB, `replica ${i} gave ${freed} bytes back`);
  });
  const rest = await frames.read(at, 4 * MIB);
  assert.ok(rest.subarray(4096).every((byte) => byte === 0));
  assert.deepEqual(rest.subarray(0, 512), bytes(512, 1), "what was not to be freed");
}

async function assertRefusals(cluster: Cluster): Promise<void> {
  const frames = await cluster.connect();
  const beyond = await frames.ask(FrameType.READ, VOLUME_BYTES - 512, 1024);
  assert.equal(
    beyond.text,
    `EOF: Read of 1024 bytes at offset 67108352 is beyond volume size ${VOLUME_BYTES}`,
  );
  const negative = await frames.ask(FrameType.WRITE, -512, 512, bytes(512, 1));
  assert.equal(negative.text, `EOF: Write of 512 bytes at offset -512 is beyond volume size ${VOLUME_BYTES}`);
  assert.equal((await frames.ask(FrameType.UNMAP, VOLUME_BYTES, 1)).type, FrameType.ERROR);
  const odd = await frames.ask(FrameType.READ, 100, 512);
  assert.equal(odd.text, "Read of 512 bytes at offset 100: offset and length must be multiples of 512");
  const short = await frames.ask(FrameType.WRITE, 512, 100, bytes(100, 1));
  assert.equal(short.text, "Write of 100 bytes at offset 512: offset and length must be multiples of 512");
  assert.equal((await frames.ask(FrameType.PING, 0, 0)).type, FrameType.RESPONSE);
  assert.equal((await frames.ask(FrameType.FLUSH, 0, 0)).type, FrameType.RESPONSE);
}

async function assertControl(cluster: Cluster): Promise<void> {
  const { engine, replicas } = cluster;
  const volume = await engine.call((c) => c.unary("volumeGet", {}));
  assert.deepEqual([volume.name, volume.size, volume.replicaCount], ["vol", VOLUME_BYTES, 3]);
  assert.deepEqual([volume.endpoint, volume.frontend, volume.frontendState], [engine.socket, "socket", "up"]);
  assert.deepEqual([...(await engine.modes()).values()].map(({ mode }) => mode), ["RW", "RW", "RW"]);
  const { version } = await engine.call((c) => c.unary("versionDetailGet", {}));
  assert.deepEqual([version?.cliAPIVersion, version?.cliAPIMinVersion], [12, 8]);
  assert.ok((version?.droverFeatures ?? 0) > 0);
  const bare = replicas[0].address.slice("tcp://".length);
  const one = await engine.call((c) => c.unary("replicaGet", { address: bare }));
  assert.deepEqual([one.address?.address, one.mode], [replicas[0].address, ptypes.ReplicaMode.RW]);
  const unknown = await failure(engine.call((c) => c.unary("replicaGet", { address: "tcp://127.0.0.1:1" })));
  assert.equal(unknown.code, Code.NOT_FOUND);
  assert.equal((await failure(engine.call((c) => c.unary("volumeIO", {})))).code, Code.UNIMPLEMENTED);
  const again = await engine.call((c) => c.unary("volumeStart", { replicaAddresses: ["tcp://127.0.0.1:1"] }));
  assert.equal(again.replicaCount, 3, "it is started");
  const second = await failure(engine.call((c) => c.unary("volumeFrontendStart", { frontend: "nbd" })));
  assert.match(second.message, /frontend socket is up already/);
  await engine.call((c) => c.unary("journalList", { limit: 1 }));
}

async function assertIdentities({ engine }: Cluster): Promise<void> {
  for (const identity of [{ volumeName: "other" }, { volumeName: "vol", instanceName: "vol-e-1" }]) {
    const client = connect(controllerService, engine.address, { identity });
    const error = await failure(client.unary("volumeGet", {}));
    client.close();
    assert.equal(error.code, Code.FAILED_PRECONDITION);
    assert.match(error.message, /incorrect (volume|instance) name/);
  }
  const client = connect(healthService, engine.address);
  assert.equal((await client.unary("check", {})).status, 1);
  client.close();
}

async function assertMetrics(cluster: Cluster): Promise<void> {
  const frames = await cluster.connect(), { engine } = cluster;
  const get = async () => (await engine.call((c) => c.unary("metricsGet", {}))).metrics;
  await get();
  for (let i = 0; i < 50; i++) await frames.write(i * 4096, bytes(4096, i));
  const metrics = await waitFor(async () => {
    const now = await get();
    return (now?.writeIOPS ?? 0) > 0 ? now : null;
  }, { what: "metrics of a second with writes", everyMs: 200 });
  assert.ok((metrics.writeThroughput ?? 0) >= 4096 * (metrics.writeIOPS ?? 0) * 0.9);
  assert.ok((metrics.writeLatency ?? 0) > 0);
}

async function assertOrderlyEnd(cluster: Cluster): Promise<void> {
  const status = await cluster.engine.process.stop();
  assert.equal(status.code, 0, cluster.engine.process.output);
  for (const replica of cluster.replicas) {
    assert.equal(replica.meta().Dirty, false, `${cluster.engine.process.output}${replica.process?.output}`);
    assert.equal((await replica.process?.stop())?.code, 0, `${replica.process?.output}`);
  }
  assertEqualHeads(cluster);
}

Deno.test("a volume of three replicas: data, trimming, refusals, control, and an orderly end", async () => {
  await using cluster = await Cluster.start();
  await assertAnyData(cluster);
  await assertTrimming(cluster);
  await assertRefusals(cluster);
  await assertControl(cluster);
  await assertIdentities(cluster);
  await assertMetrics(cluster);
  assert.equal(cluster.replicas[0].meta().Dirty, true);
  await assertOrderlyEnd(cluster);
});

Deno.test("with page cache and revision counter the copies count alike", async () => {
  await using cluster = await Cluster.start({
    replicas: 2,
    revisionCounter: true,
    replicaFlags: ["--io-mode", "cached"],
  });
  const frames = await cluster.connect(), data = bytes(130 * KIB, 5);
  for (let i = 0; i < 10; i++) await frames.write(i * 512, data);
  assert.deepEqual(await frames.read(9 * 512, data.length), data);
  const counters = await Promise.all(
    cluster.replicas.map(async (r) =>
      (await r.call((c) => c.unary("replicaGet", {}))).replica?.revisionCounter
    ),
  );
  assert.equal(counters[0], counters[1]);
  assert.ok((counters[0] ?? 0) >= 10, `${counters[0]}`);
  await assertOrderlyEnd(cluster);
});

Deno.test("a replica that is killed under load leaves, and is refused at the next start", async () => {
  await using cluster = await Cluster.start();
  const load = new Load(), { engine, replicas: [, victim] } = cluster;
  load.start(await cluster.connect());
  await load.progress(500);
  victim.process?.signal("SIGKILL");
  await load.progress(1000);
  await waitFor(async () => (await engine.modes()).get(victim.address)?.mode === "ERR", { what: "mode ERR" });
  const { note } = (await engine.modes()).get(victim.address) ?? { note: "" };
  assert.match(note, /data connection (closed by the replica|failed: .*)/);
  await load.stop();
  assert.deepEqual(load.ends, []);
  const frames = await cluster.connect();
  await load.verify(frames);
  const last = await failure(engine.call(async (c) => {
    await c.unary("replicaDelete", { address: victim.address });
    await c.unary("replicaDelete", { address: victim.address });
    await c.unary("replicaUpdate", {
      address: { address: cluster.replicas[0].address },
      mode: ptypes.ReplicaMode.ERR,
    });
    await c.unary("replicaDelete", { address: cluster.replicas[2].address });
  }));
  assert.match(last.message, /cannot remove last replica if volume is up/);
  const modes = await engine.modes();
  assert.equal(modes.has(victim.address), false);
  assert.deepEqual(modes.get(cluster.replicas[0].address), { mode: "ERR", note: "set to ERR by order" });
  const wo = { address: { address: cluster.replicas[2].address }, mode: ptypes.ReplicaMode.WO };
  assert.match(
    (await failure(engine.call((c) => c.unary("replicaUpdate", wo)))).message,
    /cannot set to mode WO/,
  );
  await load.verify(frames);
  assert.equal((await engine.process.stop()).code, 0);
  await cluster.startReplicas();
  const next = await cluster.startEngine();
  const after = await next.modes();
  assert.equal(after.get(cluster.replicas[2].address)?.mode, "RW");
  for (const stale of [victim, cluster.replicas[0]]) {
    assert.equal(after.get(stale.address)?.mode, "ERR");
    assert.match(after.get(stale.address)?.note ?? "", /it missed writes/);
  }
  await load.verify(await cluster.connect());
});

Deno.test("an engine that is killed under load loses nothing that it acknowledged", async () => {
  await using cluster = await Cluster.start();
  const load = new Load();
  for (let life = 0; life < 2; life++) {
    load.start(await cluster.connect(), 16);
    await load.progress(500);
    cluster.engine.process.signal("SIGKILL");
    await load.stop();
    await cluster.engine.process.status;
    load.ends.length = 0;
    await cluster.replicasClosed();
    const engine = await cluster.startEngine();
    assert.deepEqual([...(await engine.modes()).values()].map(({ mode }) => mode), ["RW", "RW", "RW"]);
    await load.verify(await cluster.connect());
  }
  await cluster.engine.process.waitForOutput(/copies are equal again/, { timeoutMs: 60_000 });
  await assertOrderlyEnd(cluster);
});

Deno.test("a volume without a usable replica does not start, and says whether they are to blame", async () => {
  await using cluster = new Cluster({ replicas: 2 });
  const nobody = cluster.spawnEngine();
  assert.equal((await nobody.process.status).code, 1);
  assert.match(nobody.process.output, /no available backend due to service unavailable/);
  const [replica] = cluster.replicas;
  await replica.start();
  const small = cluster.spawnEngine([replica], ["--size", String(VOLUME_BYTES / 2)]);
  assert.equal((await small.process.status).code, 61);
  assert.match(
    small.process.output,
    /no available backend due to replica error .*size 67108864 instead of 33554432/,
  );
  const twice = cluster.spawnEngine([replica, replica]);
  assert.equal((await twice.process.status).code, 1);
  assert.match(twice.process.output, /was given twice/);
  // Both are left as they were found.
  assert.equal(replica.meta().Dirty, false);
  const open = { isUpgrade: false, expectedBackendSize: 0 };
  await replica.call((c) => c.unary("replicaOpen", open));
  assert.match(
    (await failure(replica.call((c) => c.unary("replicaOpen", open)))).message,
    /replica is already open/,
  );
  const inUse = cluster.spawnEngine([replica]);
  assert.equal((await inUse.process.status).code, 61);
  assert.match(inUse.process.output, /replica must be closed, cannot add in state: open/);
  const { replica: still } = await replica.call((c) => c.unary("replicaGet", {}));
  assert.equal(still?.state, "open", "it was not the engine's to close");
});

Deno.test("a directory belongs to one process", async () => {
  await using cluster = new Cluster({ replicas: 1 });
  const [replica] = cluster.replicas;
  await replica.start();
  await replica.call((c) => c.unary("replicaOpen", { isUpgrade: false, expectedBackendSize: 0 }));
  // A process may wait beside the one that has the directory, as in a live upgrade; it cannot open it.
  const other = new TestReplica(replica.directory, replica.flags);
  await using _process = await other.start();
  const refusal = await failure(
    other.call((c) => c.unary("replicaOpen", { isUpgrade: false, expectedBackendSize: 0 })),
  );
  assert.match(refusal.message, /r0.*(in use|lock|open)/);
  assert.equal((await replica.call((c) => c.unary("replicaGet", {}))).replica?.state, "open");
});

Deno.test("a directory on a file system that cannot tell data from holes is refused", async () => {
  await using cluster = new Cluster({ replicas: 1 });
  const directory = Deno.makeTempDirSync({ dir: "/dev/shm" });
  try {
    await using process = cluster.replicas[0].spawn([], `${directory}/r`);
    assert.equal((await process.status).code, 1);
    assert.match(process.output, /^replica: .*\/r.*(FIEMAP|O_DIRECT).*ext4 or XFS/m);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

Deno.test("an engine that slept while another one took over is refused by every replica", async () => {
  await using cluster = await Cluster.start();
  const [old] = cluster.engines, sleeper = await cluster.connect();
  await sleeper.write(0, bytes(4096, 1));
  old.process.signal("SIGSTOP");
  for (const replica of cluster.replicas) await replica.call((c) => c.unary("replicaClose", {}));
  await cluster.startEngine();
  const frames = await cluster.connect();
  await frames.write(0, bytes(4096, 2));
  old.process.signal("SIGCONT");
  const late = await Promise.all([
    sleeper.ask(FrameType.WRITE, 0, 4096, bytes(4096, 3)),
    sleeper.ask(FrameType.READ, 0, 4096),
    sleeper.ask(FrameType.WRITE, 8192, 4096, bytes(4096, 3)),
  ]);
  assert.deepEqual(late.map(({ type }) => type), [FrameType.ERROR, FrameType.ERROR, FrameType.ERROR]);
  await old.process.waitForOutput(/this engine was superseded/);
  assert.deepEqual(await frames.read(0, 4096), bytes(4096, 2));
  assert.deepEqual(await frames.read(8192, 4096), new Uint8Array(4096));
  assert.deepEqual([...(await cluster.engine.modes()).values()].map(({ mode }) => mode), ["RW", "RW", "RW"]);
  await old.process.stop();
  await frames.write(0, bytes(4096, 4));
  await assertOrderlyEnd(cluster);
});

Deno.test("a volume is started, shut down and started again by control calls", async () => {
  await using cluster = new Cluster({ replicas: 2 });
  await cluster.startReplicas();
  const engine = await cluster.startEngine([]);
  const addresses = cluster.replicas.map(({ address }) => address);
  const before = await engine.call((c) => c.unary("volumeGet", {}));
  assert.deepEqual([before.replicaCount, before.frontendState], [0, "down"]);
  for (let round = 0; round < 2; round++) {
    const volume = await engine.call((c) => c.unary("volumeStart", { replicaAddresses: addresses }));
    assert.deepEqual([volume.replicaCount, volume.frontendState], [2, "up"]);
    const frames = await cluster.connect();
    await frames.write(round * 4096, bytes(4096, round));
    assert.deepEqual(await frames.read(0, 4096), bytes(4096, 0));
    const after = await engine.call((c) => c.unary("volumeShutdown", {}));
    assert.deepEqual([after.replicaCount, after.frontendState], [0, "down"]);
    for (const replica of cluster.replicas) assert.equal(replica.meta().Dirty, false);
  }
  const gone = await failure(
    engine.call((c) => c.unary("volumeStart", { replicaAddresses: [`tcp://127.0.0.1:${freePortRange(1)}`] })),
  );
  assert.match(gone.message, /no available backend due to service unavailable/);
  await assertOrderlyEnd(cluster);
});
