import assert from "node:assert/strict";
import { peerTest } from "./support/conditional.ts";
import { type LoggedProcess, spawnLogged } from "./support/process.ts";
import { waitFor } from "./support/wait.ts";
import { Stage } from "./upgrade_kit.ts";
import { upgradeUnderLoad } from "./upgrade_load.ts";

/** In a row. Each starts a process: many for one frontend, fewer for the others, whose way is the same. */
const MANY = 10, SOME = 4;

/** Random reads and writes of which fio checks what it reads, until it is interrupted. */
function fio(stage: Stage, engine: readonly string[]): LoggedProcess {
  return spawnLogged("fio", [
    "--name=upgrade",
    "--thread", // one process, so that its time is that of the job
    ...engine,
    "--rw=randwrite",
    "--bs=4k",
    "--iodepth=16",
    "--size=16M",
    "--verify=crc32c",
    "--verify_backlog=256",
    "--verify_fatal=1",
    "--time_based",
    "--runtime=600",
    `--aux-path=${stage.path("")}`,
  ]);
}

/** Processor time of a process in user mode (proc(5), field 14); 0 when it is gone. */
function cpuTime(pid: number): number {
  try {
    return Number(Deno.readTextFileSync(`/proc/${pid}/stat`).split(" ")[13]);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}

/** Upgrades while fio runs, and not one error. */
async function upgradeUnderFio(stage: Stage, load: LoggedProcess, upgrades: number): Promise<void> {
  const used = () => cpuTime(load.pid);
  await waitFor(() => !load.running || used() > 0, { what: "fio at work" });
  for (let n = 0; n < upgrades; n++) {
    await stage.upgrade();
    const before = used();
    await waitFor(() => !load.running || used() > before, { what: "fio at work", timeoutMs: 30_000 });
    assert.ok(load.running, `${load.output.slice(0, 800)}\n${n}\n${stage.engine.output}`);
  }
  load.signal("SIGINT");
  await load.status;
  assert.match(load.output, /err= 0/, load.output);
  assert.doesNotMatch(load.output, /verify failed|bad magic|verify:.*(?:bad|fail)|error=/i, load.output);
}

peerTest("NBD: ten upgrades in a row under fio --verify", { needs: ["fio"] }, async () => {
  await using stage = await Stage.start({ frontend: "nbd" });
  await using load = fio(stage, ["--ioengine=nbd", `--uri=nbd://${stage.listen}/${stage.name}`]);
  await upgradeUnderFio(stage, load, MANY);
});

peerTest(
  "loop device: upgrades in a row under fio --verify, the device stays",
  { needs: ["fio", "root", "loop", "fuse"] },
  async () => {
    await using stage = await Stage.start({ frontend: "loop", replicas: 1 });
    const device = stage.device();
    await using load = fio(stage, ["--ioengine=libaio", "--direct=1", `--filename=${device}`]);
    await upgradeUnderFio(stage, load, SOME);
  },
);

Deno.test("iSCSI: upgrades in a row under load, within one session", async () => {
  await upgradeUnderLoad({ frontend: "iscsi", replicas: 1 }, SOME);
});

Deno.test("socket: upgrades in a row under load, on one connection", async () => {
  await upgradeUnderLoad({ frontend: "socket", replicas: 1 }, SOME);
});

peerTest("libiscsi, in qemu: nothing but a pause, and no second login", { needs: ["qemu-img"] }, async () => {
  await using stage = await Stage.start({ frontend: "iscsi", replicas: 1 });
  const bench = ["bench", "-w", "-c", "40000", "-d", "32", "-s", "4096", "--flush-interval=64"];
  await using load = spawnLogged("qemu-img", [...bench, "-f", "raw", "-t", "none", stage.place()]);
  await stage.engine.waitForOutput(/"what":"login"/);
  await stage.upgrade();
  assert.match(stage.engine.output, /"what":"adopted"/);
  while (load.running) {
    assert.doesNotMatch(stage.engine.output, /"what":"(?:login|connected)"/);
    await stage.upgrade();
  }
  assert.equal((await load.status).code, 0, load.output);
});
