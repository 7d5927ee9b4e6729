import assert from "node:assert/strict";
import { waitFor } from "./support/wait.ts";
import { Stage, type StageReplica } from "./upgrade_kit.ts";
import { Load } from "./upgrade_load.ts";
import { HandoverProxy } from "./upgrade_proxy.ts";

/** New replica processes on the directories of the present ones, which have them open. */
function successors(stage: Stage): Promise<StageReplica[]> {
  return Promise.all(stage.replicas.map((_, i) => stage.startReplica(stage.directory(i))));
}

async function stop(replicas: readonly StageReplica[]): Promise<void> {
  await Promise.all(replicas.map(({ process }) => process.stop()));
}

Deno.test("an engine takes over with other replica processes on the same directories, or changes nothing", async () => {
  await using stage = await Stage.start({ frontend: "nbd" });
  await using load = await Load.start(stage);
  for (let n = 0; n < 2; n++) {
    const old = stage.replicas, next = await successors(stage);
    // One that dies when it has the directories open: the running engine gets them back.
    const run = stage.path("proxied"), proxy = new HandoverProxy(run, stage.path("run"), stage.name);
    const failed = stage.startEngine(["--upgrade"], next, { DROVER_RUN: run });
    await proxy.until("ready");
    failed.signal("SIGKILL");
    await failed.status;
    proxy[Symbol.dispose]();
    await waitFor(() => stage.engine.output.includes("this engine goes on"), { what: "the running engine" });
    await load.goesOn();
    await stage.upgrade(next);
    await stop(old);
    stage.replicas = next;
    await load.goesOn();
  }
  assert.match(stage.engine.output, /took the volume over/);
  await load.verify();
});
