import assert from "node:assert/strict";
import { instanceService, processManagerService } from "../lib/rpc/imrpc.ts";
import { Code, connect } from "../lib/rpc/mod.ts";
import { TlsIdentity } from "../lib/rpc/tls.ts";
import { isAlive, TestNode } from "./instance_kit.ts";
import { Authority } from "./support/certificates.ts";
import { peerTest } from "./support/conditional.ts";
import { freePortRange } from "./support/ports.ts";
import { runAnyway, spawnDeno } from "./support/process.ts";
import { inRepository } from "./support/repository.ts";
import { tempDir } from "./support/temp.ts";
import { sleep, waitFor } from "./support/wait.ts";

/** A client that lost its server has a timer until it dials again. */
const REDIALS = { sanitizeOps: false, sanitizeResources: false };

/** Instances of the big test. */
const MANY = 200;
/** How long the idle manager is looked at, milliseconds. */
const WINDOW_MS = 4_000;
/** A window may hold what a start leaves to be compiled and collected; so many are looked at. */
const WINDOWS = 4;
/** Most clock ticks (of 10 ms) in that time: one percent of a processor. */
const MOST_TICKS = WINDOW_MS / 1000;
/** Most sleeps of all threads in that time. Threads of the runtime have a few of their own. */
const MOST_SLEEPS = 200;

Deno.test(
  "processes survive the manager's end and its death; the next one is told how they end",
  REDIALS,
  async () => {
    await using node = await TestNode.start();
    const created = await node.sleep("vol-e-0");
    await node.sleep("vol-r-1");
    await node.sleep("vol-r-2");
    await node.until("vol-r-2", /^running$/);
    const pids = node.pids();
    assert.equal(pids.size, 3);
    for (const signal of ["SIGTERM", "SIGKILL"] as const) {
      await node.restart(signal);
      const { processes } = await node.processes.unary("processList", {});
      assert.deepEqual(Object.keys(processes).sort(), ["vol-e-0", "vol-r-1", "vol-r-2"]);
      assert.equal(processes["vol-e-0"]?.status?.uuid, created.status?.uuid);
      assert.equal(processes["vol-e-0"]?.status?.state, "running");
      assert.deepEqual(node.pids(), pids);
      assert.ok([...pids.values()].every(isAlive));
    }
    Deno.kill(pids.get("vol-e-0") ?? 0, "SIGKILL");
    await node.until("vol-e-0", /^error: (signal: killed|exit status unknown)$/);
    await node.processes.unary("processDelete", { name: "vol-e-0" });
    await node.processes.unary("processDelete", { name: "vol-r-1" });
    await waitFor(async () =>
      (await node.processes.unary("processList", {})).processes["vol-r-1"] === undefined
    );
    assert.equal(isAlive(pids.get("vol-r-1") ?? 0), false);
    assert.ok(isAlive(pids.get("vol-r-2") ?? 0));
    assert.deepEqual([...node.pids().keys()], ["vol-r-2"]);
  },
);

/** Processes whose command line begins with a path. */
function runningPrograms(path: string): number[] {
  const pids: number[] = [];
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      if (Deno.readTextFileSync(`/proc/${name}/cmdline`).startsWith(`${path}\0`)) pids.push(Number(name));
    } catch {
      // It ended.
    }
  }
  return pids.sort((a, b) => a - b);
}

Deno.test("a manager that is killed while it starts processes loses none of them", REDIALS, async () => {
  await using node = await TestNode.start();
  for (let round = 0; round < 3; round++) {
    const before = node.pids().size;
    // The answers may or may not come.
    const creating = Array.from(
      { length: 20 },
      (_, index) => node.sleep(`p${round}-${index}`).catch(() => {}),
    );
    await waitFor(() => node.pids().size > before + 3 * round, { what: "some of the processes", everyMs: 1 });
    await node.restart("SIGKILL");
    await Promise.all(creating);
    const known = [...node.pids().values()].sort((a, b) => a - b);
    assert.deepEqual(runningPrograms(node.sleepers[0]), known);
    const { processes } = await node.processes.unary("processList", {});
    const running = Object.values(processes).filter(({ status }) => status?.state === "running");
    assert.equal(running.length, known.length);
  }
  assert.ok(node.pids().size > 3);
});

Deno.test(
  "what ended while there was no manager is in error; a second manager on the same state is refused",
  REDIALS,
  async () => {
    await using node = await TestNode.start();
    await node.sleep("a");
    await node.until("a", /^running$/);
    const other = freePortRange(4);
    const rest = node.arguments().map((word) =>
      word === `127.0.0.1:${node.port}` ? `127.0.0.1:${other}` : word
    );
    const second = await runAnyway(Deno.execPath(), [
      "run",
      "-A",
      "--no-check",
      inRepository("cmd/instance_manager.ts"),
      ...rest,
    ]);
    assert.equal(second.code, 1);
    assert.match(second.stderr, /another instance manager uses it/);
    const pid = node.pids().get("a") ?? 0;
    node.manager.signal("SIGKILL");
    await node.manager.status;
    Deno.kill(pid, "SIGKILL");
    await waitFor(() => !isAlive(pid));
    await node.restart("SIGKILL");
    assert.match(await node.state("a"), /^error: it ended while the instance manager was not running/);
  },
);

Deno.test(
  "the command line creates, lists, replaces and deletes; hostile requests are refused in one line",
  REDIALS,
  async () => {
    await using node = await TestNode.start();
    const [first, second] = node.sleepers;
    const cli = async (...args: string[]) => {
      const url = ["--url", `127.0.0.1:${node.port}`];
      const script = inRepository("cmd/instance_manager.ts");
      return await runAnyway(Deno.execPath(), ["run", "-A", "--no-check", script, ...url, ...args]);
    };
    const create = ["process", "create", "--name", "a", "--binary"];
    assert.equal(
      JSON.parse((await cli(...create, first, "--", "1000")).stdout).processStatus.state,
      "starting",
    );
    await node.until("a", /^running$/);
    const replaced = await cli("process", "replace", "--name", "a", "--binary", second, "--", "1000");
    assert.equal(JSON.parse(replaced.stdout).binary, second);
    const listed = JSON.parse((await cli("process", "ls")).stdout);
    assert.deepEqual([listed.a.binary, listed.a.processStatus.state], [second, "running"]);
    assert.equal(JSON.parse((await cli("process", "delete", "--name", "a")).stdout).deleted, true);
    const refused: [string[], RegExp][] = [
      [[...create, "/bin/sh"], /not below a directory that programs may come from/],
      [
        ["process", "create", "--name", "../a", "--binary", first],
        /^instance-manager: process name "\.\.\/a"/,
      ],
      [["process", "get", "--name", "none"], /cannot find process "none"/],
      [
        ["process", "create", "--name", "b", "--binary", first, "--port-count", "1000"],
        /no 1000 free ports in a row/,
      ],
      [["process", "create", "--name", "b", "--binary", first, "--port-count", "x"], /expected a number/],
    ];
    await Promise.all(refused.map(async ([args, message]) => {
      const { code, stderr } = await cli(...args);
      assert.notEqual(code, 0);
      assert.match(stderr, message);
      assert.equal(stderr.trim().split("\n").length, 1, stderr);
    }));
    assert.match((await cli("version")).stdout, /^\d+\.\d+\.\d+$/m);
  },
);

Deno.test("everything ends with the manager where that is asked for", REDIALS, async () => {
  await using node = await TestNode.start(["--stop-instances-on-exit"]);
  await node.sleep("vol-e-0");
  await node.sleep("vol-r-1");
  await node.until("vol-r-1", /^running$/);
  const pids = [...node.pids().values()];
  assert.equal(pids.length, 2);
  node.manager.signal("SIGTERM");
  assert.equal((await node.manager.status).code, 0, node.manager.output);
  assert.equal(pids.filter(isAlive).length, 0);
});

Deno.test("an output that nobody reads does not keep the manager from its work", REDIALS, async () => {
  using directory = tempDir();
  const port = freePortRange(4), seq = directory.join("seq");
  await Deno.copyFile("/usr/bin/seq", seq);
  const manager = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", inRepository("cmd/instance_manager.ts"), "daemon"].concat(
      ["--logs-dir", directory.join("l"), "--state-dir", directory.join("s"), "--allow-binary", seq],
      ["--listen", `127.0.0.1:${port}`],
    ),
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const client = connect(processManagerService, `127.0.0.1:${port}`);
  const list = () => client.unary("processList", {}, { timeoutMs: 5_000 });
  try {
    await waitFor(() => list().then(() => true, () => false), { what: "the manager" });
    // Far more than a pipe holds, more than once.
    for (const name of ["a", "b", "c"]) {
      await client.unary("processCreate", {
        spec: { name, binary: seq, args: ["300000"], portCount: 0, portArgs: [] },
      });
      await waitFor(async () => (await list()).processes[name]?.status?.state === "stopped", { what: name });
      await sleep(300);
    }
    assert.deepEqual(Object.keys((await list()).processes), ["a", "b", "c"]);
  } finally {
    client.close();
    manager.kill("SIGKILL");
    await Promise.all([manager.status, manager.stdout.cancel()]);
  }
});

/** Time used and sleeps of all threads of a process. */
function usage(pid: number): { ticks: number; sleeps: number; kib: number } {
  let ticks = 0, sleeps = 0;
  for (const { name } of Deno.readDirSync(`/proc/${pid}/task`)) {
    const of = (file: string) => Deno.readTextFileSync(`/proc/${pid}/task/${name}/${file}`);
    // proc(5): utime and stime are fields 14 and 15; the name in parentheses is field 2.
    const fields = of("stat").replace(/^.*\) /s, "").split(" ");
    ticks += Number(fields[11]) + Number(fields[12]);
    sleeps += Number(/^voluntary_ctxt_switches:\s+(\d+)$/m.exec(of("status"))?.[1]);
  }
  const kib = Number(/^VmRSS:\s+(\d+) kB$/m.exec(Deno.readTextFileSync(`/proc/${pid}/status`))?.[1]);
  return { ticks, sleeps, kib };
}

Deno.test(
  "two hundred processes cost an idle manager next to nothing, its own and adopted ones alike",
  REDIALS,
  async () => {
    await using node = await TestNode.start();
    const names = Array.from({ length: MANY }, (_, index) => `vol${index}-${index % 2 === 0 ? "e" : "r"}-0`);
    await Promise.all(names.map((name) => node.sleep(name)));
    for (const kind of ["own", "adopted"]) {
      if (kind === "adopted") await node.restart("SIGKILL");
      await waitFor(async () => {
        const { processes } = await node.processes.unary("processList", {});
        return Object.values(processes).filter(({ status }) => status?.state === "running").length === MANY;
      }, { what: `${MANY} running processes`, timeoutMs: 60_000 });
      let said = "", idle = false;
      for (let window = 0; window < WINDOWS && !idle; window++) {
        const before = usage(node.manager.pid);
        await sleep(WINDOW_MS);
        const after = usage(node.manager.pid);
        const ticks = after.ticks - before.ticks, sleeps = after.sleeps - before.sleeps;
        said = `${kind}: ${ticks} ticks of 10 ms and ${sleeps} sleeps in ${WINDOW_MS} ms, ${after.kib} KiB`;
        idle = ticks <= MOST_TICKS && sleeps <= MOST_SLEEPS;
      }
      console.log(said);
      assert.ok(idle, said);
    }
  },
);

Deno.test("without TLS the services stay on the loopback interface unless the operator says otherwise", async () => {
  using directory = tempDir();
  const base = ["daemon", "--logs-dir", directory.join("l"), "--state-dir", directory.join("s")];
  const start = async (...flags: string[]) => {
    const port = freePortRange(4);
    await using manager = spawnDeno("cmd/instance_manager.ts", [
      ...base,
      "--listen",
      `0.0.0.0:${port}`,
      ...flags,
    ]);
    await manager.waitForOutput(/instance manager ready/, { timeoutMs: 30_000 });
    return manager.output;
  };
  const careful = await start();
  assert.match(careful, /listens on the loopback interface only/);
  assert.match(careful, /"processes":"tcp:\/\/127\.0\.0\.1:/);
  const careless = await start("--insecure-plaintext");
  assert.match(careless, /serves the network in plain text/);
  assert.match(careless, /"processes":"tcp:\/\/0\.0\.0\.0:/);
});

peerTest("mutual TLS on all services, from files; files that are not there are no reason for plain text", {
  needs: ["openssl"],
  ...REDIALS,
}, async () => {
  using directory = tempDir();
  const authority = await Authority.make(directory, "ours");
  const ours = await authority.issue("node"),
    theirs = await (await Authority.make(directory, "theirs")).issue("x");
  const run = ["--logs-dir", directory.join("l"), "--state-dir", directory.join("s")];
  const port = freePortRange(4);
  const daemon = ["daemon", ...run, "--listen", `127.0.0.1:${port}`];
  const broken = await runAnyway(Deno.execPath(), [
    "run",
    "-A",
    "--no-check",
    inRepository("cmd/instance_manager.ts"),
    "--tls-dir",
    directory.join("nothing"),
    ...daemon,
  ]);
  assert.equal(broken.code, 1);
  assert.match(broken.stderr, /nothing\/ca\.crt is not there/);
  await using manager = spawnDeno("cmd/instance_manager.ts", ["--tls-dir", ours, ...daemon]);
  await manager.waitForOutput(/instance manager ready/, { timeoutMs: 30_000 });
  using identity = await TlsIdentity.load(ours);
  using stranger = await TlsIdentity.load(theirs);
  const good = connect(processManagerService, `127.0.0.1:${port}`, { tls: identity });
  assert.deepEqual((await good.unary("processList", {})).processes, {});
  const instances = connect(instanceService, `127.0.0.1:${port + 3}`, { tls: identity });
  assert.equal((await instances.unary("versionGet", {})).instanceManagerAPIVersion, 7);
  for (const tls of [stranger, undefined]) {
    const bad = connect(processManagerService, `127.0.0.1:${port}`, tls ? { tls } : {});
    await assert.rejects(bad.unary("processList", {}, { timeoutMs: 5_000 }), { code: Code.UNAVAILABLE });
    bad.close();
  }
  good.close();
  instances.close();
});
