import assert from "node:assert/strict";
import type { HandoverMessage } from "../lib/engine/handover_messages.ts";
import type { LoggedProcess } from "./support/process.ts";
import { waitFor } from "./support/wait.ts";
import { Stage, type StageReplica } from "./upgrade_kit.ts";
import { Load } from "./upgrade_load.ts";
import { HandoverProxy } from "./upgrade_proxy.ts";

/** A new engine whose words pass through a proxy up to a message. */
async function upTo(
  stage: Stage,
  type: HandoverMessage["type"],
  then: (engine: LoggedProcess) => Promise<void>,
  replicas: readonly StageReplica[] = stage.replicas,
): Promise<LoggedProcess> {
  const run = stage.path("proxied");
  const proxy = new HandoverProxy(run, stage.path("run"), stage.name);
  const engine = stage.startEngine(["--upgrade"], replicas, { DROVER_RUN: run });
  try {
    await proxy.until(type);
    await then(engine);
  } catch (error) {
    throw new Error(`${engine.output}\n---\n${stage.engine.output.slice(-4000)}`, { cause: error });
  } finally {
    proxy[Symbol.dispose]();
  }
  return engine;
}

async function kill(process: LoggedProcess): Promise<void> {
  process.signal("SIGKILL");
  await process.status;
}

Deno.test("a new engine that dies at any step before it has taken the volume changes nothing", async () => {
  await using stage = await Stage.start({ frontend: "nbd" });
  await using load = await Load.start(stage);
  for (const step of ["hello", "want", "parcel", "ready", "go"] as const) {
    const failures = () => stage.engine.output.split(/did not take over|upgrade failed/).length;
    const before = failures();
    await upTo(stage, step, kill);
    await waitFor(() => failures() > before, { what: `the end of an upgrade that died at ${step}` });
    await load.goesOn();
  }
  // And the next one succeeds, on the same connections.
  await stage.upgrade();
  await load.goesOn();
  await load.verify();
});

Deno.test("when the running engine dies after the parcel, the new one goes on with what it has", async () => {
  for (const step of ["ready", "go"] as const) {
    await using stage = await Stage.start({ frontend: "nbd", replicas: step === "ready" ? 2 : 1 });
    await using load = await Load.start(stage);
    const engine = await upTo(stage, step, () => kill(stage.engine));
    await stage.ready(engine);
    assert.match(engine.output, /running engine died while it was handing over/);
    await load.goesOn();
    await load.verify();
  }
});

Deno.test("when it dies before the parcel, the new one starts from what a crash leaves", async () => {
  await using stage = await Stage.start({ frontend: "nbd" });
  {
    await using load = await Load.start(stage);
    await load.goesOn();
    await load.finish();
    const engine = await upTo(stage, "want", () => kill(stage.engine));
    await stage.ready(engine);
    assert.match(engine.output, /died before it handed anything over/);
    await load.check();
  }
});

Deno.test("an upgrade that cannot be is refused with the reason, and nothing stands still", async () => {
  await using stage = await Stage.start({ frontend: "nbd", replicas: 1 });
  await using load = await Load.start(stage);
  const other = await stage.startReplica(stage.path("other"));
  const mixed = stage.startEngine(["--upgrade"], [...stage.replicas, other]);
  assert.equal((await mixed.status).code, 1);
  assert.match(mixed.output, /some replicas are those of the running engine and some are not/);
  const wrong = stage.startEngine(["--upgrade", "--frontend", "socket"]);
  assert.equal((await wrong.status).code, 1);
  assert.match(wrong.output, /the frontend is "nbd", not "socket"/);
  await load.goesOn();
  await load.verify();
});
