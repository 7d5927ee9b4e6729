/**
 * Ten live upgrades in a row under load, and every block looked at afterwards.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { LoadLine } from "../tools/demo/load.ts";
import { spawnDeno } from "./support/process.ts";
import { waitFor } from "./support/wait.ts";
import { Stage, type StageOptions } from "./upgrade_kit.ts";

const UPGRADES = 10;

/** See the module text. @param bytes that the load uses */
export async function upgradeUnderLoad(options: StageOptions, bytes = 16 << 20): Promise<void> {
  await using stage = await Stage.start(options);
  const place = stage.place(), state = stage.path("state"), stop = stage.path("stop");
  await using load = spawnDeno("tools/demo/load.ts", ["write", place, String(bytes), "600", state, stop]);
  await load.waitForOutput(/"sample"/, { timeoutMs: 60_000 });
  for (let n = 0; n < UPGRADES; n++) {
    await stage.upgrade();
    // The clients go on: some time of load with the new engine.
    const enough = samples(load.output) + 2;
    await waitFor(() => samples(load.output) >= enough || !load.running, { what: "load on the new engine" });
  }
  assert.ok(load.running, load.output);
  Deno.writeTextFileSync(stop, "");
  assert.equal((await load.status).code, 0, load.output);
  const written = lines(load.output).find((line) => line.kind === "written");
  assert.ok(written && written.errors === 0 && written.operations > 100, load.output);
  await using verify = spawnDeno("tools/demo/load.ts", ["verify", place, String(bytes), state]);
  assert.equal((await verify.status).code, 0, verify.output);
  const verified = lines(verify.output).find((line) => line.kind === "verified");
  assert.deepEqual([verified?.blocks, verified?.bad], [bytes / 4096, 0], verify.output);
}

function samples(output: string): number {
  return output.split('"sample"').length - 1;
}

function lines(output: string): LoadLine[] {
  return output.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
}
