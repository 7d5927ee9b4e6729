/**
 * `drover volume`: volumes of one machine, with real processes.
 */
import assert from "node:assert/strict";
import { drover, serveVolume, verifyPattern, volumeReport, writePattern } from "./cli_kit.ts";
import { spawnDeno, spawnLogged } from "./support/process.ts";
import { inRepository } from "./support/repository.ts";
import { tempDir } from "./support/temp.ts";
import { waitFor } from "./support/wait.ts";

const MiB = 1024 * 1024;
const NEW = ["--size", "64MiB", "--frontend", "socket"];
const SOCKET = ["--frontend", "socket"];

function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(Deno.readTextFileSync(`/proc/${pid}/status`));
  } catch {
    return false;
  }
}

/** Processes of a running volume. */
async function processesOf(name: string, directory: string): Promise<number[]> {
  const { running, replicas } = await volumeReport(name, directory);
  return [running?.enginePid ?? 0, ...replicas.map(({ pid }) => pid ?? 0)];
}

Deno.test("a volume is made, used, loses a copy, stops, comes back with its data, and is removed", async () => {
  using directory = tempDir();
  const dir = directory.join("data"), state = directory.join("state");
  {
    await using volume = await serveVolume("v1", dir, [...NEW, "--no-repair"]);
    assert.match(volume.process.output, /^volume v1: 64 MiB, 3 replicas$/m);
    assert.match(volume.process.output, /^note: 3 of 3 copies share one file system/m);
    assert.equal((await volume.report()).state, "healthy");
    await writePattern(`unix:${volume.endpoint}`, 8 * MiB, state);

    const second = await drover("volume", "serve", "v1", "--dir", dir, ...SOCKET);
    assert.equal(second.code, 1);
    assert.match(second.stderr, /volume v1 is being served already by process \d+, at .*v1\.sock/);
    const removal = await drover("volume", "rm", "v1", "--dir", dir, "--yes");
    assert.equal(removal.code, 1);
    assert.match(removal.stderr, /in use by process \d+; stop it first/);
    assert.match((await drover("volume", "ls", "--dir", dir)).stdout, /^v1 +healthy +64 MiB .* 3\/3 /m);

    const victim = (await volume.report()).replicas[1];
    assert.ok(victim?.pid);
    Deno.kill(victim.pid, "SIGKILL");
    await volume.process.waitForOutput(/^replica v1-r-2 is out \(it died: SIGKILL\)\. .* 2 of 3 copies/m);
    await verifyPattern(`unix:${volume.endpoint}`, 8 * MiB, state);
    const report = await volume.report();
    assert.equal(report.state, "degraded");
    assert.deepEqual(report.replicas.map((replica) => replica.state), ["complete", "behind", "complete"]);
    assert.equal(await volume.interrupt(), 0);
    assert.match(
      volume.process.output,
      /^volume v1 has stopped; start it again with: drover volume serve v1/m,
    );
  }
  assert.equal((await volumeReport("v1", dir)).state, "stopped");
  {
    await using volume = await serveVolume("v1", dir, [...SOCKET, "--no-repair"]);
    await volume.process.waitForOutput(/^replica v1-r-2 is out \(it missed writes/m);
    await verifyPattern(`unix:${volume.endpoint}`, 8 * MiB, state);
    assert.equal(await volume.interrupt(), 0);
  }
  const unasked = await drover("volume", "rm", "v1", "--dir", dir);
  assert.equal(unasked.code, 2);
  assert.match(unasked.stderr, /--yes does it without/);
  assert.equal((await drover("volume", "rm", "v1", "--dir", dir, "--yes")).code, 0);
  assert.deepEqual([...Deno.readDirSync(dir)], []);
});

Deno.test("volumes that are started together do not take each other's port", async () => {
  using directory = tempDir();
  const start = (name: string) =>
    serveVolume(name, directory.join(name), ["--size", "1MiB", "--replicas", "1", "--frontend", "nbd"]);
  const started = await Promise.allSettled(["v1", "v2", "v3"].map(start));
  await using all = new AsyncDisposableStack();
  for (const one of started) if (one.status === "fulfilled") all.use(one.value);
  assert.deepEqual(started.filter(({ status }) => status === "rejected"), []);
  const endpoints = started.map((one) => one.status === "fulfilled" ? one.value.endpoint : "");
  assert.equal(new Set(endpoints).size, 3, endpoints.join());
});

Deno.test("what the command line says must be what the volume is", async () => {
  using directory = tempDir();
  const dir = directory.join("data");
  {
    await using volume = await serveVolume("v1", dir, [...NEW, "--replicas", "1"]);
    assert.equal(await volume.interrupt(), 0);
  }
  const wrong = async (pattern: RegExp, ...args: string[]) => {
    const { code, stderr } = await drover("volume", "serve", "v1", "--dir", dir, ...args);
    assert.equal(code, 2);
    assert.match(stderr, pattern);
  };
  await wrong(/--size 1g: volume v1 has 64 MiB; leave --size out/, "--size", "1g");
  await wrong(/--replicas 3: volume v1 was made with 1/, "--replicas", "3");
  Deno.mkdirSync(`${dir}/v2-r-1`);
  const { code, stderr } = await drover("volume", "serve", "v2", "--dir", dir, ...NEW);
  assert.equal(code, 2);
  assert.match(stderr, /v2-r-1 is there already, but no volume v2 is recorded/);
  Deno.writeTextFileSync(`${dir}/v1.volume.json`, "{");
  const broken = await drover("volume", "info", "v1", "--dir", dir);
  assert.equal(broken.code, 1);
  assert.match(broken.stderr, /v1\.volume\.json: is not JSON/);
});

Deno.test("copies lie in all directories, each of which knows the volume; a lost one is missed", async () => {
  using directory = tempDir();
  const dirs = ["a", "b", "c"].map((name) => directory.join(name));
  {
    await using volume = await serveVolume("v1", dirs[0] ?? "", [...dirs.slice(1), ...NEW]);
    assert.equal(await volume.interrupt(), 0);
  }
  for (const [i, dir] of dirs.entries()) {
    assert.ok(Deno.statSync(`${dir}/v1-r-${i + 1}/volume.meta`).isFile);
    assert.equal((await volumeReport("v1", dir)).replicas.length, 3);
  }
  Deno.removeSync(dirs[0] ?? "", { recursive: true });
  Deno.mkdirSync(dirs[0] ?? "");
  const refused = await drover("volume", "serve", "v1", "--dir", dirs[2] ?? "", ...SOCKET);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /^replica v1-r-1 is missing: there is no copy in .*\/a\/v1-r-1$/m);
  assert.match(refused.stderr, /^drover: volume v1 cannot start: .*may hold newer data/m);
  assert.match(refused.stderr, /^If they are lost for good: --degraded/m);
  await using volume = await serveVolume("v1", dirs[2] ?? "", [...SOCKET, "--degraded"]);
  const { state, replicas } = await volume.report();
  assert.equal(state, "degraded");
  assert.deepEqual(replicas.map((replica) => replica.state), ["missing", "complete", "complete"]);
  assert.equal(await volume.interrupt(), 0);
});

Deno.test("when the engine dies everything stops, with the reason", async () => {
  using directory = tempDir();
  await using volume = await serveVolume("v1", directory.path, NEW);
  const [engine = 0, ...replicas] = await processesOf("v1", directory.path);
  Deno.kill(engine, "SIGKILL");
  assert.equal((await volume.process.status).code, 1);
  assert.match(volume.process.output, /^drover: the engine died \(SIGKILL\); the volume is down$/m);
  assert.match(volume.process.output, /^the log: .*v1\.log$/m);
  assert.deepEqual(replicas.filter(isAlive), []);
  const report = await volumeReport("v1", directory.path);
  assert.equal(report.state, "stopped");
});

Deno.test("the processes end in order when the one that serves is killed", async () => {
  using directory = tempDir();
  await using volume = await serveVolume("v1", directory.path, NEW);
  const processes = await processesOf("v1", directory.path);
  volume.process.signal("SIGKILL");
  await waitFor(() => !processes.some(isAlive), { what: "the end of the processes" });
  const report = await volumeReport("v1", directory.path);
  assert.equal(report.state, "stopped");
  assert.equal(report.unclean, false);
  assert.deepEqual(report.replicas.map(({ state }) => state), ["complete", "complete", "complete"]);
});

Deno.test("Ctrl-C in a terminal, which signals the whole group, ends the volume in order", async () => {
  using directory = tempDir();
  const serve = ["run", "-A", "--no-check", inRepository("cmd/drover.ts"), "volume", "serve", "v1", "--dir"];
  await using group = spawnLogged("setsid", [Deno.execPath(), ...serve, directory.path, ...NEW]);
  await group.waitForOutput(/^ready after/m);
  const processes = await processesOf("v1", directory.path);
  Deno.kill(-group.pid, "SIGINT");
  assert.equal((await group.status).code, 0, group.output);
  assert.deepEqual(processes.filter(isAlive), []);
  const report = await volumeReport("v1", directory.path);
  assert.deepEqual([report.unclean, ...report.replicas.map(({ state }) => state)], [
    false,
    "complete",
    "complete",
    "complete",
  ]);
});

Deno.test("a start that is interrupted leaves nothing running, and the volume can be started again", async () => {
  using directory = tempDir();
  const args = ["volume", "serve", "v1", "--dir", directory.path, ...NEW];
  await using process = spawnDeno("cmd/drover.ts", args);
  await process.waitForOutput(/^log: /m);
  process.signal("SIGINT");
  assert.equal((await process.status).code, 0, process.output);
  assert.equal((await volumeReport("v1", directory.path)).state, "stopped");
  await using volume = await serveVolume("v1", directory.path, SOCKET);
  assert.equal(await volume.interrupt(), 0);
});
