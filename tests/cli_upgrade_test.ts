/**
 * `drover volume upgrade`, with real processes.
 */
import assert from "node:assert/strict";
import { drover, serveVolume, verifyPattern, writePattern } from "./cli_kit.ts";
import { tempDir } from "./support/temp.ts";

const MiB = 1024 * 1024;

Deno.test("a running volume gets a new engine while it is written to, and is stopped in order later", async () => {
  using directory = tempDir();
  const dir = directory.join("data"), state = directory.join("state"), stop = directory.join("stop");
  const name = `up-${crypto.randomUUID().slice(0, 8)}`, env = { DROVER_RUN: directory.join("run") };
  const args = ["--size", "64MiB", "--replicas", "2", "--frontend", "socket"];
  await using volume = await serveVolume(name, dir, args, { env });
  const place = `unix:${volume.endpoint}`, before = (await volume.report()).running?.enginePid;
  const load = writePattern(place, 8 * MiB, state, stop);
  const upgraded = await drover("volume", "upgrade", name, "--dir", dir);
  assert.deepEqual([upgraded.code, upgraded.stderr], [0, ""]);
  assert.match(upgraded.stdout, new RegExp(`is served by process \\d+ now, and by ${before} no more`));
  const { running, state: health } = await volume.report();
  assert.notEqual(running?.enginePid, before);
  assert.equal(health, "healthy");
  Deno.writeTextFileSync(stop, "");
  await load;
  await verifyPattern(place, 8 * MiB, state);
  assert.doesNotMatch(volume.process.output, /died|warning/);
  assert.equal(await volume.interrupt(), 0);
  const gone = await drover("volume", "upgrade", name, "--dir", dir);
  assert.equal(gone.code, 1);
  assert.match(gone.stderr, /does not run/);
});
