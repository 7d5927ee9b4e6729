import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { EngineClient } from "../../lib/client/engine.ts";
import { addReplica } from "../../lib/client/rebuild.ts";
import { connect, syncAgentService } from "../../lib/rpc/mod.ts";
import { contentOf, headOf } from "../sync_kit.ts";
import { waitFor } from "../support/wait.ts";
import { Cluster, Load, type TestReplica } from "./cluster.ts";

const MIB = 1024 * 1024;

async function snapshot(cluster: Cluster, name: string): Promise<void> {
  await cluster.engine.call((c) => c.unary("volumeSnapshot", { name }));
}

/** Purges one replica and waits for the end. */
async function purge(replica: TestReplica): Promise<void> {
  const agent = connect(syncAgentService, `tcp://127.0.0.1:${replica.port + 2}`);
  try {
    await agent.unary("snapshotPurge", {});
    const end = await waitFor(async () => {
      const status = await agent.unary("snapshotPurgeStatus", {});
      return status.isPurging ? null : status;
    });
    assert.equal(end.error, "");
  } finally {
    agent.close();
  }
}

function disks(replica: TestReplica): string[] {
  return [...Deno.readDirSync(replica.directory)].map(({ name }) => name).filter((name) =>
    /snap.*\.img$/.test(name)
  )
    .sort();
}

Deno.test("a copy with snapshots is built from all others while hosts write, again after it died, and purged", async () => {
  await using cluster = new Cluster({});
  await cluster.startReplicas();
  const [one, two, late] = cluster.replicas;
  await cluster.startEngine([one, two]);
  using engine = new EngineClient(`127.0.0.1:${cluster.engine.port}`, { volumeName: "vol" });
  const frames = await cluster.connect(), load = new Load();
  await frames.write(30 * MIB, new Uint8Array(8 * MIB).fill(3));
  load.start(frames, 4);
  for (const name of ["a", "b", "c"]) {
    await load.progress(20);
    await snapshot(cluster, name);
  }
  await addReplica(engine, late.address);
  assert.equal((await cluster.engine.modes()).get(late.address)?.mode, "RW");
  await load.progress(20);

  // It dies and loses its record of what it missed: everything is compared, little is sent.
  late.process?.signal("SIGKILL");
  await late.process?.status;
  await waitFor(async () => (await cluster.engine.modes()).get(late.address)?.mode === "ERR", {
    what: "ERR",
  });
  await cluster.engine.call((c) => c.unary("replicaDelete", { address: late.address }));
  await snapshot(cluster, "d");
  await late.start();
  await addReplica(engine, late.address);
  assert.equal((await cluster.engine.modes()).get(late.address)?.mode, "RW");
  for (const replica of cluster.replicas) await purge(replica);
  await load.progress(20);
  await load.stop();
  await load.verify(frames);
  await cluster.engine.process.stop();
  await cluster.replicasClosed();
  assert.deepEqual(disks(late), disks(one));
  assert.deepEqual(disks(late), disks(two));
  for (const { directory } of [two, late]) {
    for (const name of ["a", "b", "c", "d"]) {
      const disk = `volume-snap-${name}.img`;
      assert.ok(same(contentOf(one.directory, disk), contentOf(directory, disk)), `${disk} in ${directory}`);
    }
    const heads = [one.directory, directory].map((at) => contentOf(at, headOf(at)));
    assert.ok(same(heads[0], heads[1]), `the head in ${directory}`);
  }
});

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
