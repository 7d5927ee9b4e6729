import assert from "node:assert/strict";
import { freePortRange } from "../../tests/support/ports.ts";
import { Code, ptypes, RpcError } from "../rpc/mod.ts";
import { cloneSnapshot, cloneStatus } from "./clone.ts";
import { EngineClient, hostOf, syncAgentAddress } from "./engine.ts";
import { ClientError, ReplicasError } from "./errors.ts";
import { cancelHash, hashSnapshot, hashStatus } from "./hash.ts";
import { purgeSnapshots, purgeStatus, resetSyncAgents } from "./purge.ts";
import {
  createSnapshot,
  listSnapshots,
  removeSnapshot,
  revertToSnapshot,
  snapshotInfo,
} from "./snapshots.ts";
import { type FakeVolume, fakeVolume, portsFor } from "./test_kit.ts";

/** A client that was refused has a timer until it may dial again, also after it was closed. */
const REDIALS = { sanitizeOps: false, sanitizeResources: false };

const { WO, ERR } = ptypes.ReplicaMode;

async function volume(replicas: number): Promise<FakeVolume> {
  return await fakeVolume(freePortRange(portsFor(replicas)), replicas);
}

function disk(name: string, parent: string, children: string[] = [], more: ptypes.IDiskInfo = {}) {
  return {
    [name]: {
      name,
      parent,
      size: "4096",
      children: Object.fromEntries(children.map((c) => [c, true])),
      ...more,
    },
  };
}

const CHAIN = ["volume-head-002.img", "volume-snap-b.img", "volume-snap-a.img"];
const DISKS = {
  ...disk("volume-head-002.img", "volume-snap-b.img"),
  ...disk("volume-snap-b.img", "volume-snap-a.img", ["volume-head-002.img"], {
    userCreated: true,
    created: "2026-07-12T08:00:00Z",
    labels: { k: "v" },
  }),
  ...disk("volume-snap-a.img", "/base.raw", ["volume-snap-b.img", "volume-snap-x.img"]),
  ...disk("volume-snap-x.img", "volume-snap-a.img", [], { removed: true }),
  ...disk("/base.raw", "", ["volume-snap-a.img"]),
};

Deno.test("the sync agent of a replica is two ports above it", () => {
  assert.equal(syncAgentAddress("tcp://10.0.0.1:10000"), "tcp://10.0.0.1:10002");
  assert.equal(syncAgentAddress("[fd00::1]:9502"), "tcp://[fd00::1]:9504");
  assert.equal(hostOf("tcp://[fd00::1]:9502"), "fd00::1");
  assert.throws(() => syncAgentAddress("unix:/x"), ClientError);
  assert.throws(() => hostOf("nonsense"), RpcError);
});

Deno.test("the list of snapshots has those that every complete replica has, the newest first", async () => {
  await using fake = await volume(3);
  using engine = new EngineClient(fake.address);
  fake.all[0].state.chain = CHAIN;
  fake.all[1].state.chain = CHAIN.filter((name) => name !== "volume-snap-b.img");
  fake.all[2].mode = ERR;
  fake.all[2].state.chain = ["volume-head-000.img"];
  assert.deepEqual(await listSnapshots(engine), ["a"]);
  fake.all[1].state.chain = [];
  assert.deepEqual(await listSnapshots(engine), ["b", "a"], "a replica without a chain hides nothing");
});

Deno.test("information about snapshots comes from the replica with the most disks, in users' names", async () => {
  await using fake = await volume(2);
  using engine = new EngineClient(fake.address);
  fake.all[1].state = { ...fake.all[1].state, chain: CHAIN, disks: DISKS, backingFile: "/base.raw" };
  const info = await snapshotInfo(engine);
  assert.deepEqual(Object.keys(info).sort(), ["a", "b", "volume-head", "x"]);
  assert.deepEqual(info["b"], {
    name: "b",
    parent: "a",
    children: { "volume-head": true },
    removed: false,
    usercreated: true,
    created: "2026-07-12T08:00:00Z",
    size: "4096",
    labels: { k: "v" },
  });
  assert.equal(info["a"]?.parent, "", "the backing file is no snapshot");
  assert.deepEqual(info["a"]?.children, { b: true, x: true });
  assert.equal(info["x"]?.removed, true);
  for (const one of fake.all) one.mode = ERR;
  await assert.rejects(snapshotInfo(engine), /cannot find suitable replica/);
});

Deno.test("creating and reverting go to the engine, with labels and the wish to freeze", async () => {
  await using fake = await volume(1);
  using engine = new EngineClient(fake.address);
  fake.controller = { volumeSnapshot: ({ name }) => ({ name: name || "chosen" }) };
  assert.equal(await createSnapshot(engine), "chosen");
  assert.equal(
    await createSnapshot(engine, { name: "s", labels: { a: "1" }, freezeFilesystem: true }),
    "s",
  );
  assert.deepEqual(fake.calls[1]?.request, { name: "s", labels: { a: "1" }, freezeFilesystem: true });
  await revertToSnapshot(engine, "s");
  assert.deepEqual(fake.calls[2], { who: "controller", method: "volumeRevert", request: { name: "s" } });
});

Deno.test("removing marks the snapshot on every replica that counts and ends its hash jobs", async () => {
  await using fake = await volume(3);
  using engine = new EngineClient(fake.address);
  fake.all[2].mode = ERR;
  await removeSnapshot(engine, "s");
  for (const { port } of fake.all.slice(0, 2)) {
    assert.deepEqual(fake.changes(port), ["diskMarkAsRemoved", "snapshotHashCancel"]);
  }
  assert.deepEqual(fake.changes(fake.all[2].port), []);
});

Deno.test("nothing is removed or purged while a replica is rebuilding", async () => {
  await using fake = await volume(2);
  using engine = new EngineClient(fake.address);
  fake.all[1].state.rebuilding = true;
  const { address } = fake.all[1];
  await assert.rejects(removeSnapshot(engine, "s"), {
    name: "ClientError",
    message: `cannot remove a snapshot because ${address} is rebuilding`,
  });
  await assert.rejects(purgeSnapshots(engine), {
    message: `cannot purge snapshots because ${address} is rebuilding`,
  });
  await assert.rejects(hashSnapshot(engine, "s"), /cannot request hashing snapshot because .* is rebuilding/);
  fake.all[1].state.rebuilding = false;
  fake.all[1].mode = WO;
  await assert.rejects(purgeSnapshots(engine), /is rebuilding/);
  assert.deepEqual(fake.changes(), []);
});

Deno.test("a purge starts everywhere unless one is under way", async () => {
  await using fake = await volume(2);
  using engine = new EngineClient(fake.address);
  await purgeSnapshots(engine);
  assert.deepEqual(fake.changes(), ["snapshotPurge", "snapshotPurge"]);
  fake.all[0].agent.snapshotPurgeStatus = () => ({ isPurging: true, progress: 40, state: "in_progress" });
  await assert.rejects(purgeSnapshots(engine), {
    message: `cannot purge snapshots because ${fake.all[0].address} is already purging snapshots`,
  });
  await purgeSnapshots(engine, { skipIfInProgress: true });
  assert.equal(fake.changes().length, 2);
  const status = await purgeStatus(engine);
  assert.deepEqual(status[fake.all[0].address], {
    error: "",
    isPurging: true,
    progress: 40,
    state: "in_progress",
  });
});

Deno.test("a purge that began meanwhile is an error only when it matters; other failures name the replica", async () => {
  await using fake = await volume(2);
  using engine = new EngineClient(fake.address);
  fake.all[0].agent.snapshotPurge = () => {
    throw new Error("replica is already purging snapshots");
  };
  await purgeSnapshots(engine, { skipIfInProgress: true });
  await assert.rejects(purgeSnapshots(engine), ReplicasError);
  fake.all[1].agent.snapshotPurge = () => {
    throw new Error("no space");
  };
  await assert.rejects(purgeSnapshots(engine, { skipIfInProgress: true }), (error: unknown) => {
    assert(error instanceof ReplicasError);
    assert.equal(
      JSON.stringify(error),
      `{"ReplicaErrors":[{"Address":"${fake.all[1].address}","Message":"no space"}]}`,
    );
    return true;
  });
});

Deno.test({
  name: "a replica that does not answer has a status that says so, and the others have theirs",
  ...REDIALS,
  fn: async () => {
    await using fake = await volume(2);
    using engine = new EngineClient(fake.address);
    fake.all[0].agent.snapshotPurgeStatus = () => {
      throw new RpcError(Code.INTERNAL, "broken");
    };
    const status = await purgeStatus(engine), [first, second] = fake.all.map(({ address }) => address);
    assert.equal(status[first]?.error, `failed to get snapshot purge status of ${first}: broken`);
    assert.equal(status[second]?.error, "");
  },
});

Deno.test("hashing wants complete replicas that do not hash yet", async () => {
  await using fake = await volume(2);
  using engine = new EngineClient(fake.address);
  await hashSnapshot(engine, "s", true);
  const seen = fake.calls.filter(({ method }) => method === "snapshotHash");
  assert.deepEqual(seen.map(({ request }) => request), [
    { snapshotName: "s", rehash: true },
    { snapshotName: "s", rehash: true },
  ]);
  fake.all[1].agent.snapshotHashLockState = () => ({ isLocked: true });
  await assert.rejects(hashSnapshot(engine, "s"), /cannot request hashing snapshot because .* is hashing/);
  fake.all[1].mode = ERR;
  await assert.rejects(hashSnapshot(engine, "s"), /is in ERR mode/);
  fake.all[0].agent.snapshotHashStatus = () => ({
    state: "complete",
    checksum: "ab",
    silentlyCorrupted: true,
  });
  const status = await hashStatus(engine, "s");
  assert.deepEqual(status[fake.all[0].address], {
    state: "complete",
    checksum: "ab",
    error: "",
    silentlyCorrupted: true,
  });
  await cancelHash(engine, "s");
  assert.equal(fake.calls.filter(({ method }) => method === "snapshotHashCancel").length, 2);
});

Deno.test("a clone asks every replica of the target to fetch from a complete one of the source", async () => {
  await using target = await volume(2);
  await using source = await volume(2);
  source.all[0].mode = ERR;
  using to = new EngineClient(target.address);
  using from = new EngineClient(source.address, { volumeName: "old" });
  await cloneSnapshot(to, from, { snapshot: "s", exportBackingImage: true, httpTimeoutSeconds: 7 });
  const seen = target.calls.filter(({ method }) => method === "snapshotClone");
  assert.equal(seen.length, 2);
  assert.deepEqual(seen[0]?.request, {
    fromAddress: source.all[1].address,
    toHost: "127.0.0.1",
    snapshotFileName: "s",
    exportBackingImageIfExist: true,
    fileSyncHttpClientTimeout: 7,
    fromVolumeName: "old",
  });
  target.all[0].agent.snapshotCloneStatus = () => ({
    isCloning: true,
    progress: 3,
    state: "in_progress",
    fromReplicaAddress: "x",
    snapshotName: "s",
  });
  const status = await cloneStatus(to);
  assert.deepEqual(status[target.all[0].address], {
    isCloning: true,
    error: "",
    progress: 3,
    state: "in_progress",
    fromReplicaAddress: "x",
    snapshotName: "s",
  });
  target.all[0].mode = WO;
  await assert.rejects(cloneSnapshot(to, from, { snapshot: "s" }), /must be in RW mode/);
  source.all[1].mode = WO;
  await assert.rejects(cloneSnapshot(to, from, { snapshot: "s" }), /cannot find a RW replica/);
});

Deno.test("the state of all sync agents is reset, and whom the caller means is said", async () => {
  await using fake = await fakeVolume(freePortRange(portsFor(1)), 1, 1, { volumeName: "other" });
  using engine = new EngineClient(fake.address);
  await resetSyncAgents(engine);
  assert.deepEqual(fake.changes(), ["reset"]);
  using wrong = new EngineClient(fake.address, { volumeName: "vol" });
  await assert.rejects(resetSyncAgents(wrong), /incorrect volume name/);
});
