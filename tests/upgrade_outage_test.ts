import assert from "node:assert/strict";
import {
  connect,
  type ControllerMethods,
  controllerService,
  ptypes,
  type RpcClient,
} from "../lib/rpc/mod.ts";
import type { LoggedProcess } from "./support/process.ts";
import { waitFor } from "./support/wait.ts";
import { Stage } from "./upgrade_kit.ts";
import { Load } from "./upgrade_load.ts";

const { ReplicaMode } = ptypes;

/** Calls the engine's control service. */
async function call<Result>(
  stage: Stage,
  engine: LoggedProcess,
  work: (client: RpcClient<ControllerMethods>) => Promise<Result>,
): Promise<Result> {
  const [, control = ""] = engine.output.match(/"msg":"engine ready".*?"control":"([^"]+)"/) ??
    engine.output.match(/engine ready.*?control"?[=:] ?"?([^"\s]+)/) ?? [];
  const client = connect(controllerService, control, { identity: { volumeName: stage.name } });
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

Deno.test("a copy that is away during a live upgrade gets what it missed, and no more", async () => {
  await using stage = await Stage.start({ frontend: "nbd" });
  await using load = await Load.start(stage);
  const [first, away] = stage.replicas;
  away.process.signal("SIGKILL");
  await away.process.status;
  await waitFor(() => stage.engine.output.includes("replica failed"), { what: "the failure" });
  await load.goesOn();
  // Settings that were changed by calls stay as well.
  await call(stage, stage.engine, (c) => c.unary("volumeSnapshotMaxCountSet", { count: 33 }));
  stage.replicas = [first];
  await stage.upgrade();
  await load.goesOn();
  await stage.upgrade();
  const back = await stage.startReplica(stage.directory(1));
  const { address } = back, mode = ReplicaMode.WO;
  await call(stage, stage.engine, async (c) => {
    await c.unary("controllerReplicaCreate", { address, mode, snapshotRequired: true });
    await c.unary("replicaVerifyRebuild", { address });
    const { replicas } = await c.unary("replicaList", {});
    assert.deepEqual(replicas.map((one) => one.mode), [ReplicaMode.RW, ReplicaMode.RW]);
    assert.equal((await c.unary("volumeGet", {})).snapshotMaxCount, 33);
  });
  assert.match(stage.engine.output, /gets what it missed/);
  const [, bytes = ""] = stage.engine.output.match(/a new copy is complete.*?"?bytes"?[=:] ?(\d+)/) ?? [];
  // The load writes to a quarter of the volume.
  assert.ok(Number(bytes) > 0 && Number(bytes) <= stage.bytes / 4, `${bytes} bytes were copied`);
  stage.replicas = [first, back];
  await load.goesOn();
  // The other one goes: what is read now is what came back.
  await call(
    stage,
    stage.engine,
    (c) => c.unary("replicaUpdate", { address: { address: first.address }, mode: ReplicaMode.ERR }),
  );
  await load.verify();
});
