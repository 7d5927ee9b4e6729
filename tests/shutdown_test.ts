import assert from "node:assert/strict";
import type { LoggedProcess } from "./support/process.ts";
import { Stage } from "./upgrade_kit.ts";
import { Load } from "./upgrade_load.ts";

/** What a copy's directory says of itself. */
function meta(stage: Stage, i: number): { Dirty: boolean; Drover: { members: string[]; revision: number } } {
  return JSON.parse(Deno.readTextFileSync(`${stage.directory(i)}/volume.meta`));
}

async function ended(process: LoggedProcess): Promise<void> {
  const { code } = await process.status;
  assert.equal(code, 0, process.output.slice(-3000));
}

Deno.test("a node that goes down leaves copies that are complete and clean, whoever is told first", async () => {
  await using stage = await Stage.start({ frontend: "nbd" });
  const order = [
    () => [...stage.replicas.map(({ process }) => process), stage.engine],
    () => [stage.engine, ...stage.replicas.map(({ process }) => process)],
  ];
  for (const who of order) {
    await using load = await Load.start(stage);
    await load.goesOn();
    const all = who();
    for (const process of all) process.signal("SIGTERM");
    await Promise.all(all.map(ended));
    assert.doesNotMatch(stage.engine.output, /replica failed/);
    for (const i of [0, 1]) {
      const { Dirty, Drover } = meta(stage, i);
      assert.deepEqual([Dirty, Drover.members.length, Drover.revision], [false, 2, 1]);
    }
    stage.replicas = await Promise.all([0, 1].map((i) => stage.startReplica(stage.directory(i))));
    stage.engine = stage.startEngine([]);
    await stage.ready(stage.engine);
    assert.match(stage.engine.output, /volume started.*"?replicas"?[=:] ?2/);
    assert.match(stage.engine.output, /volume started.*"?unclean"?[=:] ?false/);
  }
});

Deno.test("a copy that is told to end without its engine waits; told twice, it ends, and the volume goes on", async () => {
  await using stage = await Stage.start({ frontend: "nbd" });
  await using load = await Load.start(stage);
  const [, { process }] = stage.replicas;
  process.signal("SIGTERM");
  await process.waitForOutput(/waits for the engine to leave/);
  await load.goesOn();
  process.signal("SIGTERM");
  assert.equal((await process.status).code, 130);
  await stage.engine.waitForOutput(/replica failed/);
  await load.goesOn();
  await load.verify();
});
