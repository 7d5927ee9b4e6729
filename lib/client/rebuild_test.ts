import assert from "node:assert/strict";
import { freePortRange } from "../../tests/support/ports.ts";
import { ptypes, unimplemented } from "../rpc/mod.ts";
import { EngineClient } from "./engine.ts";
import {
  addReplica,
  addReplicaForRestore,
  limitRebuilds,
  rebuildStatus,
  removeReplica,
  startWithReplicas,
  verifyRebuild,
} from "./rebuild.ts";
import { type FakeVolume, fakeVolume, portsFor } from "./test_kit.ts";

const { RW, WO, ERR } = ptypes.ReplicaMode;
const FILES = [
  { fromFileName: "volume-snap-a.img", toFileName: "volume-snap-a.img", actualSize: 4096 },
  { fromFileName: "volume-snap-a.img.meta", toFileName: "volume-snap-a.img.meta", actualSize: 0 },
];

async function volume(replicas: number, listed: number): Promise<FakeVolume> {
  const fake = await fakeVolume(freePortRange(portsFor(replicas)), replicas, listed);
  fake.controller.replicaPrepareRebuild = () => ({ syncFileInfoList: FILES });
  for (const one of fake.all) {
    one.replica.rebuildingSet = ({ rebuilding }) => {
      one.state.rebuilding = rebuilding;
      return { replica: one.state };
    };
  }
  return fake;
}

Deno.test("a replica is added in the order that a crash in between survives", async () => {
  await using fake = await volume(3, 2);
  using engine = new EngineClient(fake.address);
  const target = fake.all[2];
  target.state.state = "closed";
  await addReplica(engine, target.address.slice("tcp://".length), {
    instanceName: "vol-r-3",
    fastSync: true,
    grpcTimeoutSeconds: 60,
    localSync: { sourcePath: "/a", targetPath: "/b" },
  });
  const order = fake.calls.filter(({ who }) => who === "controller" || who === target.port)
    .map(({ method }) => method).filter((m) =>
      !/^(volumeGet|replicaGet|replicaList|versionD|.*Limit|droverSyncPrepare)/.test(m)
    );
  assert.deepEqual(order, [
    "controllerReplicaCreate",
    "rebuildingSet",
    "replicaPrepareRebuild",
    "filesSync",
    "replicaReload",
    "replicaVerifyRebuild",
    "rebuildingSet",
  ]);
  const request = (method: string) => fake.calls.find((call) => call.method === method)?.request;
  assert.deepEqual(request("controllerReplicaCreate"), { address: target.address, snapshotRequired: true });
  assert.deepEqual(request("replicaPrepareRebuild"), { address: target.address, instanceName: "vol-r-3" });
  assert.deepEqual(request("filesSync"), {
    syncFileInfoList: [FILES[0], { ...FILES[1] }].map((file) => JSON.parse(JSON.stringify(file)))
      .map(({ actualSize, ...rest }) => actualSize === 0 ? rest : { ...rest, actualSize }),
    fromAddressMap: { [fake.all[0].address]: true, [fake.all[1].address]: true },
    fromAddress: fake.all[0].address,
    toHost: "127.0.0.1",
    fastSync: true,
    fileSyncHttpClientTimeout: 5,
    grpcTimeoutSeconds: 60,
    localSync: { sourcePath: "/a", targetPath: "/b" },
  });
  assert.deepEqual([target.mode, target.state.rebuilding], [RW, false]);
});

Deno.test("sources are complete replicas that do not purge, no more than the engine allows", async () => {
  await using fake = await volume(4, 3);
  using engine = new EngineClient(fake.address);
  fake.all[0].agent.snapshotPurgeStatus = () => ({ isPurging: true });
  fake.controller.replicaRebuildConcurrentSyncLimitGet = unimplemented;
  await addReplica(engine, fake.all[3].address);
  const sync = fake.calls.find(({ method }) => method === "filesSync");
  assert.deepEqual(sync?.request["fromAddressMap"], { [fake.all[1].address]: true });
});

Deno.test("without a source the rebuild ends before the replica is marked", async () => {
  await using fake = await volume(2, 1);
  using engine = new EngineClient(fake.address);
  fake.all[0].agent.snapshotPurgeStatus = () => ({ isPurging: true });
  await assert.rejects(addReplica(engine, fake.all[1].address), /failed to find good replica to copy from/);
  assert.deepEqual(fake.changes(fake.all[1].port), []);
});

Deno.test("a smaller replica grows first, a larger one is refused, an old mark is taken off", async () => {
  await using fake = await volume(2, 1);
  using engine = new EngineClient(fake.address);
  const target = fake.all[1];
  target.state = { ...target.state, state: "closed", size: "2097152", rebuilding: true };
  await assert.rejects(
    addReplica(engine, target.address),
    /cannot add new replica larger than size 1048576/,
  );
  target.state.size = "524288";
  target.replica.replicaExpand = ({ size }) => {
    target.state.size = String(size);
    return { replica: target.state };
  };
  await addReplica(engine, target.address);
  assert.deepEqual(fake.changes(target.port).slice(0, 7), [
    "replicaOpen",
    "replicaExpand",
    "replicaClose",
    "replicaOpen",
    "rebuildingSet",
    "replicaClose",
    "rebuildingSet",
  ]);
});

Deno.test("a list with the head in it is refused, and a failed transfer leaves the replica unfinished", async () => {
  await using fake = await volume(2, 1);
  using engine = new EngineClient(fake.address);
  const target = fake.all[1];
  fake.controller.replicaPrepareRebuild = () => ({
    syncFileInfoList: [{ fromFileName: "volume-head-001.img", toFileName: "volume-head-001.img" }],
  });
  await assert.rejects(addReplica(engine, target.address), /shouldn't contain volume head/);
  assert(!fake.changes(target.port).includes("filesSync"));
  fake.controller.replicaPrepareRebuild = () => ({ syncFileInfoList: FILES });
  fake.listed.pop();
  target.agent.filesSync = () => {
    throw new Error("disk died");
  };
  await assert.rejects(addReplica(engine, target.address), /disk died/);
  assert(!fake.changes().includes("replicaVerifyRebuild"));
  assert.deepEqual([target.mode, target.state.rebuilding], [WO, true]);
  await verifyRebuild(engine, target.address);
  assert.deepEqual([target.mode, target.state.rebuilding], [RW, false]);
});

Deno.test("a volume without replicas starts with the first one that is added", async () => {
  await using fake = await volume(2, 0);
  using engine = new EngineClient(fake.address);
  await addReplica(engine, fake.all[0].address, { size: 4096, currentSize: 0 });
  assert.deepEqual(fake.calls.at(-1), {
    who: "controller",
    method: "volumeStart",
    request: { replicaAddresses: [fake.all[0].address], size: 4096 },
  });
  await startWithReplicas(engine, 8192, 4096, fake.all.map(({ address }) => address));
  assert.deepEqual(fake.calls.at(-1)?.request, {
    replicaAddresses: fake.all.map(({ address }) => address),
    size: 8192,
    currentSize: 4096,
  });
  fake.listed.push(fake.all[0]);
  await assert.rejects(startWithReplicas(engine, 1, 1, ["a:1"]), /volume is already up/);
});

Deno.test("a replica for a restore gets no files and must have the volume's size", async () => {
  await using fake = await volume(2, 1);
  using engine = new EngineClient(fake.address);
  await addReplicaForRestore(engine, fake.all[1].address);
  assert.deepEqual(fake.changes(), ["controllerReplicaCreate"]);
  fake.all[1].state.size = "4096";
  await assert.rejects(addReplicaForRestore(engine, fake.all[1].address), /is not the same as volume size/);
});

Deno.test("the state of rebuilds is that of incomplete replicas; there is none during a restore", async () => {
  await using fake = await volume(3, 3);
  using engine = new EngineClient(fake.address);
  const [, second, third] = fake.all;
  second.mode = WO;
  third.mode = ERR;
  second.agent.replicaRebuildStatus = () => ({
    isRebuilding: true,
    progress: 12,
    state: "in_progress",
    fromReplicaAddress: "tcp://a:1",
    fromReplicaAddressList: ["tcp://a:1"],
  });
  assert.deepEqual(await rebuildStatus(engine), {
    [second.address]: {
      error: "",
      isRebuilding: true,
      progress: 12,
      state: "in_progress",
      fromReplicaAddress: "tcp://a:1",
      fromReplicaAddressList: ["tcp://a:1"],
    },
  });
  // An engine that copies by itself tells how far it is.
  fake.controller.replicaList = () => ({
    replicas: [{
      address: { address: second.address },
      mode: WO,
      droverCopy: { done: 300, total: 1000, perSecond: 100, limitPerSecond: 120 },
    }],
  });
  assert.deepEqual(await rebuildStatus(engine), {
    [second.address]: {
      error: "",
      isRebuilding: true,
      progress: 30,
      state: "in_progress",
      fromReplicaAddress: "",
      fromReplicaAddressList: [],
      pace: { bytesTotal: 1000, bytesDone: 300, bytesPerSecond: 100, secondsLeft: 7, limit: 120 },
    },
  });
  delete fake.controller.replicaList;
  second.agent.replicaRebuildStatus = () => {
    throw new Error("broken");
  };
  assert.match((await rebuildStatus(engine))[second.address]?.error ?? "", /^failed to get .*: broken$/);
  second.agent.restoreStatus = () => ({ destFileName: "volume-snap-r.img" });
  assert.deepEqual(await rebuildStatus(engine), {});
});

Deno.test("a limit is told to the copies that are being filled, and to an engine that copies by itself", async () => {
  await using fake = await volume(3, 3);
  using engine = new EngineClient(fake.address);
  const [, second] = fake.all, told: unknown[] = [];
  second.mode = WO;
  second.agent.droverSyncLimitSet = ({ bytesPerSecond }) => {
    told.push(bytesPerSecond);
    return {};
  };
  // Longhorn's engines do not know the call.
  assert.deepEqual(await limitRebuilds(engine, 5000), [second.address]);
  fake.controller.droverCopyLimitSet = ({ bytesPerSecond }) => {
    told.push(`engine ${bytesPerSecond}`);
    return {};
  };
  assert.deepEqual(await limitRebuilds(engine, 0), [second.address]);
  assert.deepEqual(told, [5000, "engine 0", 0]);
});

Deno.test("hash jobs on a replica end before it is removed", async () => {
  await using fake = await volume(2, 2);
  using engine = new EngineClient(fake.address);
  const { state, port, address } = fake.all[0];
  state.disks = { ...state.disks, "volume-snap-a.img": { name: "volume-snap-a.img" } };
  await removeReplica(engine, address);
  assert.deepEqual(fake.changes(port), ["snapshotHashCancel"]);
  assert.deepEqual(fake.listed.map((one) => one.address), [fake.all[1].address]);
});

Deno.test("an engine that copies by itself is only waited for", async () => {
  await using fake = await volume(2, 1);
  using engine = new EngineClient(fake.address);
  fake.controller.replicaPrepareRebuild = () => ({});
  await addReplica(engine, fake.all[1].address);
  assert.deepEqual(fake.changes(fake.all[1].port), ["rebuildingSet", "rebuildingSet"]);
  assert.deepEqual([fake.all[1].mode, fake.all[1].state.rebuilding], [RW, false]);
});

Deno.test("when a source dies, the others are tried; when the target does, nobody is", async () => {
  await using fake = await volume(4, 3);
  using engine = new EngineClient(fake.address);
  fake.controller.replicaRebuildConcurrentSyncLimitGet = () => ({ limit: 1 });
  const [first, second, third, target] = fake.all, asked: string[] = [];
  target.agent.filesSync = ({ fromAddress }) => {
    asked.push(fromAddress);
    if (fromAddress === third.address) return {};
    throw new Error(`cannot fetch from ${fromAddress}`);
  };
  second.mode = ERR;
  await addReplica(engine, target.address);
  assert.deepEqual(asked, [first.address, third.address]);
  assert.equal(target.mode, RW);

  fake.listed.pop();
  third.mode = ERR;
  await assert.rejects(addReplica(engine, target.address), /cannot fetch from/, "the first error is told");
});
