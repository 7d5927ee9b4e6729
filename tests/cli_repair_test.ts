/**
 * `drover volume serve` makes copies complete again, with real processes.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { inspectVolume, type VolumeReport } from "../cmd/volume/inspect.ts";
import { findVolume } from "../cmd/volume/show.ts";
import { type ServedVolume, serveVolume, verifyPattern, writePattern } from "./cli_kit.ts";
import { tempDir } from "./support/temp.ts";

const MiB = 1024 * 1024;
const SOCKET = ["--frontend", "socket", "--repair-pause", "0.2"];
const NEW = ["--size", "64MiB", ...SOCKET];
const ALL = ["complete", "complete", "complete"];
/** The pause before a repair, the start of a process, the filling; on a machine that may be busy. */
const REPAIR_MS = 60_000;

/** What `drover volume info` says, without a process for it. */
async function reportOf(dir: string): Promise<VolumeReport> {
  return await inspectVolume(findVolume("v1", { dir: [dir] }));
}

async function statesOf(dir: string): Promise<string[]> {
  return (await reportOf(dir)).replicas.map(({ state }) => state);
}

async function killSecond(volume: ServedVolume, dir: string): Promise<void> {
  const pid = (await reportOf(dir)).replicas[1]?.pid;
  assert.ok(pid);
  Deno.kill(pid, "SIGKILL");
  await volume.process.waitForOutput(/^replica v1-r-2 is out \(it died: SIGKILL\)/m);
}

function head(directory: string, n: number): Uint8Array {
  return Deno.readFileSync(`${directory}/v1-r-${n}/volume-head-000.img`);
}

Deno.test("a copy that dies under writes gets what it missed beside them, and holds everything", async () => {
  using directory = tempDir();
  const dir = directory.join("data"), state = directory.join("state"), enough = directory.join("enough");
  {
    await using volume = await serveVolume("v1", dir, NEW);
    const foreign = `${dir}/v1-r-2/notes.txt`;
    Deno.writeTextFileSync(foreign, "mine");
    const writing = writePattern(`unix:${volume.endpoint}`, 32 * MiB, state, enough);
    await killSecond(volume, dir);
    await volume.process.waitForOutput(/^copy v1-r-2 is complete again, after [\d.]+ s$/m, {
      timeoutMs: REPAIR_MS,
    });
    Deno.writeTextFileSync(enough, "");
    await writing;
    assert.equal(Deno.readTextFileSync(foreign), "mine");
    assert.deepEqual(await statesOf(dir), ALL);
    assert.equal((await reportOf(dir)).state, "healthy");
    await verifyPattern(`unix:${volume.endpoint}`, 32 * MiB, state);
    assert.equal(await volume.interrupt(), 0);
  }
  assert.deepEqual((await reportOf(dir)).replicas.map((replica) => replica.state), ALL);
  assert.ok(Buffer.from(head(dir, 1)).equals(head(dir, 2)), "the copies differ");
  for (const n of [1, 3]) Deno.renameSync(`${dir}/v1-r-${n}`, directory.join(`away-${n}`));
  await using alone = await serveVolume("v1", dir, [...SOCKET, "--degraded", "--no-repair"]);
  assert.deepEqual(await statesOf(dir), ["missing", "complete", "missing"]);
  await verifyPattern(`unix:${alone.endpoint}`, 32 * MiB, state);
  assert.equal(await alone.interrupt(), 0);
});

Deno.test("--no-repair leaves a copy out; a later start without it repairs the copy, also when interrupted first", async () => {
  using directory = tempDir();
  const dir = directory.join("data"), state = directory.join("state");
  {
    await using volume = await serveVolume("v1", dir, [...NEW, "--no-repair", "--replicas", "2"]);
    await writePattern(`unix:${volume.endpoint}`, 8 * MiB, state);
    await killSecond(volume, dir);
    await volume.process.waitForOutput(/It stays out, because it misses writes from now on/);
    assert.equal(await volume.interrupt(), 0);
  }
  {
    await using volume = await serveVolume("v1", dir, SOCKET);
    await volume.process.waitForOutput(/^replica v1-r-2 is out \(it missed writes.*\n.*filled anew/m);
    await volume.process.waitForOutput(/^rebuilding v1-r-2$/m, { timeoutMs: REPAIR_MS });
    assert.equal(await volume.interrupt(), 0, volume.process.output);
  }
  assert.equal((await reportOf(dir)).replicas[0]?.state, "complete");
  {
    await using volume = await serveVolume("v1", dir, SOCKET);
    await volume.process.waitForOutput(/^copy v1-r-2 is complete again/m, { timeoutMs: REPAIR_MS });
    assert.deepEqual(await statesOf(dir), ["complete", "complete"]);
    await verifyPattern(`unix:${volume.endpoint}`, 8 * MiB, state);
    assert.equal(await volume.interrupt(), 0);
  }
  assert.ok(Buffer.from(head(dir, 1)).equals(head(dir, 2)), "the copies differ");
});

Deno.test("a copy whose disk seems to be away is not made anew in its place", async () => {
  using directory = tempDir();
  const [a, b] = [directory.join("a"), directory.join("b")];
  {
    await using volume = await serveVolume("v1", a, [b, ...NEW, "--replicas", "2"]);
    assert.equal(await volume.interrupt(), 0);
  }
  Deno.removeSync(b, { recursive: true });
  Deno.mkdirSync(b);
  await using volume = await serveVolume("v1", a, [...SOCKET, "--degraded"]);
  await volume.process.waitForOutput(/^copy v1-r-2 cannot be rebuilt: .*its disk may be away/m, {
    timeoutMs: REPAIR_MS,
  });
  assert.deepEqual([...Deno.readDirSync(b)].filter(({ name }) => name !== "v1.run.json"), []);
  Deno.copyFileSync(`${a}/v1.volume.json`, `${b}/v1.volume.json`);
  await volume.process.waitForOutput(/^copy v1-r-2 is complete again/m, { timeoutMs: REPAIR_MS });
  assert.equal(await volume.interrupt(), 0);
});
