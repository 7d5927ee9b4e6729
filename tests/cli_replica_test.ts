/**
 * `drover replica`, and copies that come back, with real processes.
 */
import assert from "node:assert/strict";
import type { ReplicaReport } from "../cmd/volume/inspect.ts";
import { drover, serveVolume, verifyPattern, writePattern } from "./cli_kit.ts";
import { tempDir } from "./support/temp.ts";
import { waitFor } from "./support/wait.ts";

const MiB = 1024 * 1024;

Deno.test("copies are added and taken out while the volume runs; one that was away gets what it missed", async () => {
  using directory = tempDir();
  const dir = directory.join("data"), more = directory.join("more"), state = directory.join("state");
  const run = async (...args: string[]) => await drover("replica", ...args, "--dir", dir, more);
  const ok = async (...args: string[]) => {
    const { code, stdout, stderr } = await run(...args);
    assert.equal(code, 0, `${args.join(" ")}: ${stdout}${stderr}`);
    return stdout;
  };
  const copies = async (): Promise<ReplicaReport[]> => JSON.parse(await ok("ls", "v1", "-o", "json"));
  const socket = ["--frontend", "socket", "--listen", `unix:${directory.join("s")}`];
  await using volume = await serveVolume("v1", dir, ["--size", "64m", "--replicas", "2", ...socket]);
  const place = `unix:${volume.endpoint}`;
  await writePattern(place, 4 * MiB, state);

  // Slower than a test can wait for, until it is told otherwise.
  const slow = ["--limit", "64KiB", "--verify", "--no-wait"];
  assert.equal(await ok("add", "v1", "--to", more, ...slow), "copy v1-r-3 is being filled\n");
  assert.equal(await ok("limit", "v1"), "filling copies of v1: 64 KiB/s\n");
  const status = await waitFor(async () => {
    const [one] = JSON.parse(await ok("rebuild-status", "v1", "-o", "json"));
    return one?.pace?.bytesTotal > 0 ? one : null;
  }, { timeoutMs: 60_000 });
  assert.deepEqual([status.replica, status.pace.limit], ["v1-r-3", 64 * 1024]);
  assert.match((await run("limit", "v1", "fast")).stderr, /"fast" is no rate/);
  assert.match(await ok("limit", "v1", "none"), /no limit from now on\ncopy v1-r-3 goes on with no limit\n/);
  await volume.process.waitForOutput(/^copy v1-r-3 is complete again/m, { timeoutMs: 60_000 });
  assert.match(await ok("ls", "v1"), /^v1-r-3 +complete .*more\/v1-r-3$/m);
  const none = await run("rm", "v1", "v1-r-9", "--yes");
  assert.deepEqual([none.code, /no copy v1-r-9; there is: v1-r-1, v1-r-2, v1-r-3/.test(none.stderr)], [
    1,
    true,
  ]);
  const unasked = await run("rm", "v1", "v1-r-1");
  assert.deepEqual([unasked.code, /--yes does it without/.test(unasked.stderr)], [2, true]);
  assert.equal(await ok("rm", "v1", "v1-r-1", "--yes"), "copy v1-r-1 is no part of v1 any more\n");
  assert.deepEqual((await copies()).map(({ name, state }) => [name, state]), [
    ["v1-r-2", "complete"],
    ["v1-r-3", "complete"],
  ]);
  assert.equal([...Deno.readDirSync(dir)].some(({ name }) => name === "v1-r-1"), false);

  const victim = (await copies()).find(({ name }) => name === "v1-r-3");
  Deno.kill(victim?.pid ?? 0, "SIGKILL");
  await volume.process.waitForOutput(/^replica v1-r-3 is out/m);
  await writePattern(place, 4 * MiB, state);
  assert.equal(await ok("limit", "v1", "4KiB"), "filling copies of v1: 4 KiB/s from now on\n");
  await volume.process.waitForOutput(/^copy v1-r-3 gets what it missed$/m);
  const [missed] = JSON.parse(await ok("rebuild-status", "v1", "-o", "json"));
  assert.deepEqual([missed.replica, missed.pace.limit], ["v1-r-3", 4096]);
  assert.match(await ok("rebuild-status", "v1"), /^v1-r-3 +\d+ % +.* of .*, limit 4 KiB\/s/m);
  assert.match(await ok("limit", "v1", "none"), /\ncopy v1-r-3 goes on with no limit\n/);
  await volume.process.waitForOutput(/^copy v1-r-3 is complete again/m);
  assert.match(await ok("rm", "v1", "v1-r-2", "--yes", "--keep-data"), /no part of v1/);
  await verifyPattern(place, 4 * MiB, state);
  const last = await run("rm", "v1", "v1-r-3", "--yes");
  assert.deepEqual([last.code, /v1-r-3 is the only complete copy of v1/.test(last.stderr)], [1, true]);
  assert.equal(await volume.interrupt(), 0);
  await waitFor(async () => (await copies()).every(({ pid }) => pid === undefined), { what: "the end" });
});
