import assert from "node:assert/strict";
import { PING_INTERVAL_MS } from "../lib/engine/limits.ts";
import { sleep } from "./support/wait.ts";
import { Cluster } from "./worlds/cluster.ts";

/** How long to look, milliseconds. */
const WINDOW_MS = 10_000;
/** Most clock ticks (of 10 ms) of user and system time of a process in that time: half a percent of one processor. */
const MOST_TICKS = 5;
/** Most sleeps of a volume thread per ping: its timer, its answer, and now and then something else. */
const SLEEPS_PER_PING = 4;

/** What all threads of a process have used; by thread, since names are not unique. */
interface Usage {
  readonly ticks: number;
  /** Voluntary context switches of the volume thread: how often it went to sleep. */
  readonly sleeps: number;
}

function usage(pid: number): Usage {
  let ticks = 0, sleeps = 0;
  for (const { name } of Deno.readDirSync(`/proc/${pid}/task`)) {
    const of = (file: string) => Deno.readTextFileSync(`/proc/${pid}/task/${name}/${file}`);
    // proc(5): utime and stime are fields 14 and 15; the name in parentheses is field 2.
    const fields = of("stat").replace(/^.*\) /s, "").split(" ");
    ticks += Number(fields[11]) + Number(fields[12]);
    if (!of("comm").startsWith("worker")) continue;
    sleeps += Number(/^voluntary_ctxt_switches:\s+(\d+)$/m.exec(of("status"))?.[1]);
  }
  return { ticks, sleeps };
}

Deno.test("an idle engine and an idle replica use no processor but for their pings", async () => {
  await using cluster = await Cluster.start({ replicas: 1 });
  const frames = await cluster.connect();
  await frames.write(0, new Uint8Array(4096).fill(1));
  // What a start leaves to be compiled and collected.
  await sleep(3000);
  const pids = [cluster.engine.process.pid, cluster.replicas[0].process?.pid ?? 0];
  const before = pids.map(usage);
  await sleep(WINDOW_MS);
  const used = pids.map(usage).map((after, i) => ({
    ticks: after.ticks - before[i].ticks,
    sleeps: after.sleeps - before[i].sleeps,
  }));
  const pings = WINDOW_MS / PING_INTERVAL_MS;
  for (const [i, { ticks, sleeps }] of used.entries()) {
    const who = ["engine", "replica"][i];
    assert.ok(ticks <= MOST_TICKS, `the ${who} used ${ticks} ticks of 10 ms in 10 s`);
    assert.ok(sleeps >= pings - 2, `the volume thread of the ${who} slept ${sleeps} times: does it ping?`);
    assert.ok(
      sleeps <= SLEEPS_PER_PING * pings,
      `the volume thread of the ${who} slept ${sleeps} times for ${pings} pings`,
    );
  }
});
