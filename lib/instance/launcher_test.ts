import assert from "node:assert/strict";
import { tempDir } from "../../tests/support/temp.ts";
import { waitFor } from "../../tests/support/wait.ts";
import { FilesLibc } from "../io/files_libc.ts";
import { systemClock } from "./clock.ts";
import { describeExit } from "./exit.ts";
import { SystemLauncher } from "./launcher.ts";
import { LogDirectory } from "./log_file.ts";
import { processStat } from "./proc.ts";

const files = new FilesLibc();

async function launched(
  script: string,
  work: (parts: {
    launcher: SystemLauncher;
    running: Awaited<ReturnType<SystemLauncher["launch"]>>;
    output: () => string;
    uuid: string;
  }) => Promise<void>,
): Promise<void> {
  using directory = tempDir();
  using launcher = new SystemLauncher(systemClock, ["DROVER_TEST_WITHHELD"]);
  const logs = new LogDirectory(files, directory.path), uuid = crypto.randomUUID();
  const outputFd = logs.openForProcess("a");
  const running = await launcher.launch({ command: "/bin/sh", args: ["-c", script], outputFd, uuid });
  files.close(outputFd);
  try {
    await work({ launcher, running, output: () => Deno.readTextFileSync(logs.path("a")), uuid });
  } finally {
    running.signal("SIGKILL");
    await running.ended;
  }
}

Deno.test("a process has a session of its own, writes into its log, and its end is told", async () => {
  Deno.env.set("DROVER_TEST_WITHHELD", "secret");
  const script = 'cat /proc/self/stat; echo "[$DROVER_TEST_WITHHELD]"; pwd; echo bad >&2; exit 61';
  await launched(script, async ({ running, output }) => {
    assert.equal(describeExit(await running.ended), "exit status 61");
    const [stat = "", ...rest] = output().trim().split("\n");
    const [, , group, session] = stat.slice(stat.lastIndexOf(")") + 2).split(" ").map(Number);
    assert.deepEqual([group, session], [running.pid, running.pid]);
    assert.deepEqual(rest, ["[]", "/", "bad"]);
  });
  Deno.env.delete("DROVER_TEST_WITHHELD");
});

Deno.test("signals reach a process, and the one that ends it is told", async () => {
  await launched("exec sleep 60", async ({ running }) => {
    running.signal("SIGHUP");
    assert.equal(describeExit(await running.ended), "signal: hangup");
    running.signal("SIGINT");
  });
});

Deno.test("a process that ends well after a signal has ended well", async () => {
  await launched(
    'trap "exit 0" INT; echo ready; while :; do sleep 0.02; done',
    async ({ running, output }) => {
      await waitFor(() => output().includes("ready"), { what: "the process" });
      running.signal("SIGINT");
      assert.deepEqual(await running.ended, { code: 0, signal: null });
    },
  );
});

Deno.test("a process that ignores a signal gets the next one", async () => {
  await launched('trap "" INT; echo ready; while :; do sleep 0.02; done', async ({ running, output }) => {
    await waitFor(() => output().includes("ready"), { what: "the process" });
    running.signal("SIGINT");
    running.signal("SIGKILL");
    assert.equal(describeExit(await running.ended), "signal: killed");
  });
});

Deno.test("a program that is not there is an error in words", async () => {
  using launcher = new SystemLauncher(systemClock);
  await assert.rejects(
    launcher.launch({ command: "/nowhere/engine", args: [], outputFd: 2, uuid: "x" }),
    /^Error: fork\/exec \/nowhere\/engine: no such file or directory$/,
  );
});

Deno.test("a process of somebody else is found, watched and signalled; a pid used again is not", async () => {
  // The shell in between ends at once: the process is nobody's child here.
  await launched("sh -c 'echo $$; exec sleep 60' & wait", async ({ launcher, output, running }) => {
    const pid = await waitFor(() => Number(output().trim()) || undefined, {
      what: "the pid of the other process",
    });
    const stat = await waitFor(() => processStat(pid), { what: "the other process" });
    assert.equal(launcher.adopt({ pid, startTicks: stat.startTicks + 1 }), undefined);
    const adopted = launcher.adopt(stat);
    assert.ok(adopted);
    adopted.signal("SIGINT");
    adopted.signal("SIGKILL");
    // Its parent waits for it, so how it ended is known where the kernel tells.
    assert.match(describeExit(await adopted.ended), /^(signal: killed|exit status unknown)$/);
    assert.equal(launcher.adopt(stat), undefined);
    adopted.signal("SIGKILL");
    await running.ended;
  });
});

Deno.test("a process is found by the identity that it was started with", async () => {
  await launched("exec sleep 60", async ({ launcher, running, uuid }) => {
    const { pid, startTicks } = running;
    assert.deepEqual([...launcher.find(new Set([uuid]))], [[uuid, { pid, startTicks }]]);
    await Promise.resolve();
  });
});
