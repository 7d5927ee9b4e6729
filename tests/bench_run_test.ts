/**
 * The benchmark as a whole, with durations that measure nothing: every subject starts, is measured and goes away,
 * and the report has what it promises.
 *
 * @module
 */
import assert from "node:assert/strict";
import { verdicts } from "../tools/bench/goals.ts";
import type { Life } from "../tools/bench/life.ts";
import type { Measurement } from "../tools/bench/measure.ts";
import { groups, Names } from "../tools/bench/plan.ts";
import { type Report, reportText } from "../tools/bench/report.ts";
import { cellName } from "../tools/bench/subject.ts";
import { peerTest } from "./support/conditional.ts";
import { run, runAnyway } from "./support/process.ts";
import { inRepository } from "./support/repository.ts";
import { tempDir } from "./support/temp.ts";

const SUBJECTS =
  "(drover/(socket|nbd|iscsi)/1/cached|drover/socket/1/direct|file|tgtd/cached/drover|qemu-nbd)";

async function bench(args: readonly string[]): Promise<{ report: Report; text: string }> {
  using directory = tempDir("bench-");
  const json = directory.join("report.json");
  const times = [
    "--seconds",
    "0.3",
    "--ramp",
    "0.1",
    "--rounds",
    "1",
    "--idle-seconds",
    "0.3",
    "--size",
    "8m",
  ];
  const script = ["run", "-A", "--no-check", inRepository("tools/bench.ts"), "--dir", directory.path];
  const { stdout } = await run(Deno.execPath(), [...script, ...times, "--json", json, ...args]);
  assert.deepEqual([...Deno.readDirSync(directory.path)].map(({ name }) => name), ["report.json"]);
  return { report: JSON.parse(Deno.readTextFileSync(json)) as Report, text: stdout };
}

function assertMeasured(m: Measurement): void {
  assert.ok(
    m.iops > 0 && m.bytesPerSecond > 0 && (m.p50Us ?? 0) > 0 && (m.p99Us ?? 0) > 0,
    JSON.stringify(m),
  );
}

const needs = ["root", "fio", "tgtd", "tgtadm", "qemu-nbd"];

peerTest("a run has figures of all subjects, ratios, an idle volume and verdicts", { needs }, async () => {
  const { report, text } = await bench(["--only", `^${SUBJECTS}.* rand(read|write) 4k qd8$|^idle$`]);
  const seen = new Map<string, string[]>();
  for (const m of report.measurements) {
    assertMeasured(m);
    seen.set(m.subject, [...seen.get(m.subject) ?? [], m.cell]);
  }
  assert.deepEqual([...seen.keys()].sort(), [
    "drover/iscsi/1/cached",
    "drover/nbd/1/cached",
    "drover/socket/1/cached",
    "drover/socket/1/direct",
    "file/direct/drover",
    "file/direct/fio",
    "qemu-nbd/cached/drover",
    "qemu-nbd/cached/fio",
    "tgtd/cached/drover",
  ]);
  for (const cells of seen.values()) assert.deepEqual(cells, ["randread 4k qd8", "randwrite 4k qd8"]);
  const iscsi = report.measurements.find(({ subject }) => subject === "drover/iscsi/1/cached");
  assert.equal(iscsi?.against, Names.TGT);
  assert.ok((iscsi?.ratio ?? 0) > 0);
  assert.ok(
    report.idle && report.idle.engineBytes > 0 && report.idle.replicaBytes > 0 && report.idle.readyMs > 0,
  );
  assert.ok(
    report.verdicts.some(({ ok }) => ok !== null) && report.machine.cores > 0 && report.version !== "",
  );
  for (
    const word of ["randread 4k qd8", "drover/nbd/1/cached", "idle volume of 1 TiB", "goal", "not measured"]
  ) {
    assert.ok(text.includes(word), `${word} in\n${text}`);
  }
});

Deno.test("a command line that cannot be met ends before anything starts", async () => {
  const script = ["run", "-A", "--no-check", inRepository("tools/bench.ts")];
  for (const args of [["--only", "("], ["--seconds", "none"], ["--rounds", "0"], ["--size", "big"]]) {
    const { code, stderr } = await runAnyway(Deno.execPath(), [...script, "--dir", "/nowhere", ...args]);
    assert.notEqual(code, 0);
    assert.ok(stderr.includes(args[1] ?? ""), stderr);
  }
});

Deno.test("every goal is about something that the quick run measures", () => {
  const made: Measurement[] = groups(true, "/spike").flatMap(({ rows, cells }) =>
    rows.flatMap(({ maker, takes }) =>
      cells.filter((cell) => takes?.(cell) ?? true).map((cell): Measurement => ({
        subject: maker.name,
        cell: cellName(cell),
        blockBytes: cell.blockBytes,
        iops: 100_000,
        bytesPerSecond: 1e9,
        p50Us: 10,
        p99Us: 20,
        cpuUs: {},
        stolen: 0,
      }))
    )
  );
  const idle = { seconds: 10, engineCpuMs: 0, replicaCpuMs: 30, engineBytes: 0, replicaBytes: 0, readyMs: 1 };
  const rebuilt = { bytes: 46 * 1024 ** 2, rebuildMs: 1000, cpMs: 600, cpSyncedMs: 700 };
  const recovery = {
    range: 1,
    allocatedBytes: 1,
    noticedMs: 1,
    readyMs: 10,
    equalMs: 20,
    bytes: 1,
    copied: 0,
  };
  const rounds = [[1, 2], [95, 100], [2, 1]].map(([recorded = 0, unrecorded = 0]) => ({
    recorded,
    unrecorded,
  }));
  const cost = { volumeBytes: 1, rounds };
  const life: Life = {
    snapshot: { stoppedMs: [1, 50], iops: 1, longestMs: 1 },
    regions: { inUse: cost, allOver: cost },
    recovery: { near: recovery, allOver: { ...recovery, equalMs: 10_100 } },
    outage: { written: 10, moved: 12, backMs: 1 },
    rebuild: { contiguous: rebuilt, alternating: rebuilt },
    users: { limit: 1, idleP99Ms: 1, rebuildP99Ms: 3, operations: 100 },
  };
  const all = verdicts(made, idle, life);
  assert.deepEqual(all.filter(({ found }) => found === null), []);
  assert.deepEqual(all.filter(({ ok }) => ok === false).map(({ goal }) => goal), [
    "idle replica: CPU time in 10 s",
    "snapshot under load: longest stop of hosts",
    "the same: until equal, writes all over",
    "rebuild with a limit: p99 of hosts / idle",
  ]);
  assert.ok(verdicts([], null, null).every(({ found, ok }) => found === null && ok === null));
  const text = reportText({
    date: "",
    version: "",
    machine: { cpu: "cpu", cores: 1, memoryBytes: 1, kernel: "6", load: 0, deno: "2" },
    settings: { quick: true, seconds: 1, rounds: 1, diskBytes: 1, fileSystem: "ext4" },
    measurements: made.map((m) => ({ ...m, against: null, ratio: null })),
    idle,
    life,
    verdicts: all,
    skipped: ["x: y is missing"],
  });
  assert.match(text, /FAIL +idle replica: CPU time in 10 s +30 ms/);
  assert.match(text, /left out: x: y is missing/);
});
