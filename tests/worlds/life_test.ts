import assert from "node:assert/strict";
import { EngineClient } from "../../lib/client/engine.ts";
import { addReplica, rebuildStatus } from "../../lib/client/rebuild.ts";
import { ptypes } from "../../lib/rpc/mod.ts";
import { FrameType } from "../../lib/wire/frame.ts";
import { waitFor } from "../support/wait.ts";
import { Cluster, Load, VOLUME_BYTES } from "./cluster.ts";

const KIB = 1024, MIB = KIB * KIB;

async function snapshot(cluster: Cluster, name: string): Promise<void> {
  await cluster.engine.call((c) => c.unary("volumeSnapshot", { name, labels: { by: "test" } }));
}

/** Milliseconds that hosts waited at each snapshot, as the engine's log tells. */
function stops(cluster: Cluster): number[] {
  return [...cluster.engine.process.output.matchAll(/stopped_ms"?[=:](\d+)/g)].map(([, ms]) => Number(ms));
}

Deno.test("snapshots under load keep what was there, on all copies alike; a revert brings it back", async () => {
  await using cluster = await Cluster.start();
  const frames = await cluster.connect(), load = new Load(), kept = 40 * MIB;
  await frames.write(kept, new Uint8Array(MIB).fill(1));
  load.start(frames);
  await load.progress(50);
  await snapshot(cluster, "first");
  await frames.write(kept, new Uint8Array(64 * KIB).fill(2));
  assert.equal((await frames.ask(FrameType.UNMAP, kept + 512 * KIB, 256 * KIB)).type, FrameType.RESPONSE);
  for (let i = 0; i < 4; i++) {
    await load.progress(20);
    await snapshot(cluster, `s${i}`);
  }
  await load.progress(20);
  await load.stop();
  await load.verify(frames);
  console.log(`hosts waited ${stops(cluster).join(", ")} ms`);
  assert.equal(stops(cluster).length, 5);
  for (const replica of cluster.replicas) {
    const { replica: told } = await replica.call((c) => c.unary("replicaGet", {}));
    assert.equal(told?.chain?.length, 6);
    assert.equal(told?.disks?.["volume-snap-first.img"]?.labels?.by, "test");
    assert.ok(told?.disks?.["volume-snap-first.img"]?.userCreated);
  }
  const zeros = await frames.read(kept + 512 * KIB, 256 * KIB);
  assert.ok(zeros.every((byte) => byte === 0), "trimmed above a snapshot that has data there");
  await assert.rejects(snapshot(cluster, "first"), /already existing/);
  await assert.rejects(
    cluster.engine.call((c) => c.unary("volumeRevert", { name: "first" })),
    /the frontend is up/,
  );
  await cluster.engine.call((c) => c.unary("volumeFrontendShutdown", {}));
  await cluster.engine.call((c) => c.unary("volumeRevert", { name: "first" }));
  await cluster.engine.call((c) => c.unary("volumeFrontendStart", { frontend: "socket" }));
  const again = await cluster.connect();
  const back = await again.read(kept, MIB);
  assert.ok(back.every((byte) => byte === 1), "as it was at the snapshot");
  assert.deepEqual([...(await cluster.engine.modes()).values()].map(({ mode }) => mode), ["RW", "RW", "RW"]);
});

Deno.test("a volume grows under load, and keeps its size over a restart", async () => {
  await using cluster = await Cluster.start();
  const frames = await cluster.connect(), load = new Load(), bytes = VOLUME_BYTES + 64 * MIB;
  load.start(frames);
  await load.progress(50);
  await assert.rejects(
    cluster.engine.call((c) => c.unary("volumeExpand", { size: 4096 })),
    /smaller than the present size/,
  );
  await cluster.engine.call((c) => c.unary("volumeExpand", { size: bytes }));
  await waitFor(async () => {
    const volume = await cluster.engine.call((c) => c.unary("volumeGet", {}));
    assert.equal(volume.lastExpansionError, "");
    return !volume.isExpanding && Number(volume.size) === bytes;
  }, { what: "the expansion" });
  await frames.write(bytes - MIB, new Uint8Array(MIB).fill(9));
  await load.progress(50);
  await load.stop();
  await load.verify(frames);
  await cluster.engine.process.stop();
  await cluster.replicasClosed();
  const again =
    await (await cluster.spawnEngine(cluster.replicas, ["--size", String(bytes)]).ready(), cluster.connect());
  assert.ok((await again.read(bytes - MIB, MIB)).every((byte) => byte === 9));
  await load.verify(again);
});

Deno.test("a copy that was out for a short while gets what it missed, not more", async () => {
  await using cluster = await Cluster.start();
  const frames = await cluster.connect(), load = new Load(), [victim] = cluster.replicas;
  await frames.write(0, new Uint8Array(4 * MIB).fill(7));
  await snapshot(cluster, "before");
  load.start(frames);
  await load.progress(30);
  assert(victim.process);
  victim.process.signal("SIGKILL");
  await waitFor(async () => (await cluster.engine.modes()).get(victim.address)?.mode === "ERR", {
    what: "ERR",
  });
  await load.progress(30);
  await frames.write(20 * MIB, new Uint8Array(MIB).fill(5));
  await cluster.engine.call((c) => c.unary("replicaDelete", { address: victim.address }));
  await victim.start();
  // Slower than a test can wait for, until it is told otherwise.
  const limit = (bytesPerSecond: number) =>
    cluster.engine.call((c) => c.unary("droverCopyLimitSet", { bytesPerSecond }));
  await limit(4096);
  await assert.rejects(limit(-1), /a limit of -1 bytes per second cannot be/);
  const mode = ptypes.ReplicaMode.WO;
  await cluster.engine.call((c) =>
    c.unary("controllerReplicaCreate", { address: victim.address, mode, snapshotRequired: true })
  );
  using client = new EngineClient(`127.0.0.1:${cluster.engine.port}`, { volumeName: "vol" });
  const status = await waitFor(async () => (await rebuildStatus(client))[victim.address], {
    what: "a status",
  });
  assert.deepEqual([status.error, status.isRebuilding, status.pace?.limit], ["", true, 4096]);
  assert.ok((status.pace?.bytesTotal ?? 0) >= MIB && (status.pace?.bytesTotal ?? 0) < 16 * MIB);
  assert.equal((await cluster.engine.modes()).get(victim.address)?.mode, "WO");
  await limit(0);
  await cluster.engine.call((c) => c.unary("replicaVerifyRebuild", { address: victim.address }));
  assert.equal((await cluster.engine.modes()).get(victim.address)?.mode, "RW");
  assert.match(cluster.engine.process.output, /gets what it missed/);
  await load.progress(30);
  await load.stop();
  // The others go: what is read now is what came back.
  for (const { address } of cluster.replicas.slice(1)) {
    await cluster.engine.call((c) =>
      c.unary("replicaUpdate", { address: { address }, mode: ptypes.ReplicaMode.ERR })
    );
  }
  await load.verify(frames);
  assert.ok((await frames.read(20 * MIB, MIB)).every((byte) => byte === 5));
});

/** Unaligned writes and trims where a copy that is being rebuilt has no blocks of its own yet. */
async function disturb(cluster: Cluster, over: () => boolean): Promise<Uint8Array> {
  const frames = await cluster.connect(), at = 48 * MIB, size = 2 * MIB;
  const shadow = new Uint8Array(size).fill(3);
  for (let i = 0; !over() || i < 200; i++) {
    const offset = (i * 7919 % (size / 512 - 64)) * 512, length = (i % 40 + 1) * 512;
    if (i % 5 === 0) {
      const from = Math.ceil(offset / 4096) * 4096;
      assert.equal((await frames.ask(FrameType.UNMAP, at + from, 4096)).type, FrameType.RESPONSE);
      shadow.fill(0, from, from + 4096);
    } else {
      const data = new Uint8Array(length).fill(i % 251 + 1);
      await frames.write(at + offset, data);
      shadow.set(data, offset);
    }
  }
  return shadow;
}

Deno.test("a copy of a volume with snapshots is rebuilt under load, and holds everything then", async () => {
  await using cluster = await Cluster.start();
  const frames = await cluster.connect(), load = new Load(), [victim, ...others] = cluster.replicas;
  await frames.write(48 * MIB, new Uint8Array(2 * MIB).fill(3));
  await snapshot(cluster, "one");
  await frames.write(24 * MIB, new Uint8Array(3 * MIB).fill(8));
  await snapshot(cluster, "two");
  load.start(frames);
  await load.progress(30);
  assert(victim.process);
  victim.process.signal("SIGKILL");
  await waitFor(async () => (await cluster.engine.modes()).get(victim.address)?.mode === "ERR", {
    what: "ERR",
  });
  await cluster.engine.call((c) => c.unary("replicaDelete", { address: victim.address }));
  Deno.removeSync(victim.directory, { recursive: true });
  await victim.start();
  let over = false;
  const disturbed = disturb(cluster, () => over);
  const engine = new EngineClient(cluster.engine.address, { volumeName: "vol" });
  try {
    await addReplica(engine, victim.address);
  } finally {
    engine[Symbol.dispose]();
    over = true;
  }
  const shadow = await disturbed;
  assert.equal((await cluster.engine.modes()).get(victim.address)?.mode, "RW");
  await load.progress(30);
  await load.stop();
  for (const { address } of others) {
    await cluster.engine.call((c) =>
      c.unary("replicaUpdate", { address: { address }, mode: ptypes.ReplicaMode.ERR })
    );
  }
  await load.verify(frames);
  const changed = await frames.read(48 * MIB, 2 * MIB);
  const wrong = changed.findIndex((byte, i) => byte !== shadow[i]);
  assert.equal(wrong, -1, `byte ${wrong} is ${changed[wrong]}, not ${shadow[wrong]}`);
  assert.ok((await frames.read(24 * MIB, 3 * MIB)).every((byte) => byte === 8));
  await cluster.engine.call((c) => c.unary("volumeFrontendShutdown", {}));
  await cluster.engine.call((c) => c.unary("volumeRevert", { name: "one" }));
  await cluster.engine.call((c) => c.unary("volumeFrontendStart", { frontend: "socket" }));
  const old = await cluster.connect();
  assert.ok(
    (await old.read(48 * MIB, 2 * MIB)).every((byte) => byte === 3),
    "the oldest snapshot came along",
  );
});
