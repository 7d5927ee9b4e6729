import assert from "node:assert/strict";
import { peerTest } from "../../tests/support/conditional.ts";
import { tempDir } from "../../tests/support/temp.ts";
import { parseJunit } from "./junit.ts";
import { describeFailures, describeResult, parseTotals, totalsLine } from "./report.ts";
import { type JobResult, runJob } from "./run_file.ts";

/** Runs a file with this text. */
async function runText(text: string, timeoutMs = 30_000): Promise<JobResult> {
  using directory = tempDir();
  const path = directory.join("sample_test.ts");
  Deno.writeTextFileSync(path, text);
  Deno.mkdirSync(directory.join("own"));
  const place = { directory: directory.join("own"), mark: `${Deno.pid}-inner/`, lane: 0 };
  return await runJob({ path, variant: "", env: {}, timeoutMs }, place);
}

Deno.test("tests are counted without their steps", async () => {
  const result = await runText(`
    Deno.test("one > two", () => {});
    Deno.test("steps", async (t) => { await t.step("a > b", () => {}); await t.step("c", () => {}); });
    Deno.test("<&> \\"", () => { throw new Error("this is why"); });
  `);
  assert.equal(result.passed, 2);
  assert.equal(result.failed, 1);
  assert.deepEqual(result.problems, []);
  assert.match(describeResult(result), /^FAILED .*: 2 passed, 1 failed \([\s\S]*this is why/);
  const recalled = describeFailures([result]).split("\n");
  assert.match(recalled[0] ?? "", /^failed: .*sample_test\.ts$/);
  assert.match(recalled[1] ?? "", /^ {4}<&> " =>/, "the errors, not what was printed before them");
  assert.match(recalled[2] ?? "", /this is why/);
  assert.match(recalled.at(-1) ?? "", /^failed: .*sample_test\.ts$/);
});

Deno.test("a skipped test's reason is found, and a skip without one is a failure", async () => {
  const helper = new URL("../../tests/support/conditional.ts", import.meta.url).href;
  const result = await runText(`
    import { peerTest, testUnless } from ${JSON.stringify(helper)};
    peerTest("peer", { needs: ["sh", "no-such-program"] }, () => { throw new Error("runs"); });
    testUnless("full moon", "moon", () => { throw new Error("runs"); });
    testUnless(null, "runs", () => {});
    Deno.test["ignore"]("quiet", () => {});
  `);
  assert.equal(result.passed, 1);
  assert.deepEqual(result.skips.map(({ name, reason }) => [name, reason]), [
    ["peer", "no-such-program is missing"],
    ["moon", "full moon"],
    ["quiet", "no reason given"],
  ]);
  assert.deepEqual(result.problems, ["skipped without a reason: quiet"]);
  assert.equal(result.failed, 1);
});

Deno.test("a crash, an exception while loading and a file without tests are failures", async () => {
  const crash = await runText(`
    const libc = Deno.dlopen("libc.so.6", { abort: { parameters: [], result: "void" } });
    Deno.test("dies", () => libc.symbols.abort());
  `);
  assert.deepEqual([crash.passed, crash.failed], [0, 1]);
  assert.match(crash.problems.join(), /SIGABRT/);
  const load = await runText(`Deno.test("fine", () => {}); throw new Error("while loading");`);
  assert.equal(load.failed, 1);
  assert.match(load.output, /while loading/);
  const empty = await runText("export {};");
  assert.deepEqual([empty.failed, empty.problems], [1, ["has no tests"]]);
});

Deno.test("a hanging file is stopped, with what it started", async () => {
  const result = await runText(
    `
    const child = new Deno.Command("sleep", { args: ["1000"] }).spawn();
    console.log("child", child.pid);
    Deno.test("hangs", async () => { await child.status; });
  `,
    2_000,
  );
  assert.match(result.problems.join("\n"), /left running: \d+ \S*sleep 1000[\s\S]*stopped after 2 s/);
  const pid = /child (\d+)/.exec(result.output)?.[1];
  assert.throws(() => Deno.statSync(`/proc/${pid}/exe`));
});

Deno.test("a leaked file is a failure", async () => {
  const result = await runText(`Deno.test("leaks", () => { Deno.openSync("/etc/passwd"); });`);
  assert.equal(result.failed, 1);
  assert.match(result.output, /Leaks detected/);
});

peerTest(
  "a mount that is left behind is a failure and is removed",
  { needs: ["root", "umount"] },
  async () => {
    const result = await runText(`
    Deno.test("mounts", async () => {
      const path = Deno.makeTempDirSync();
      await new Deno.Command("mount", { args: ["-t", "tmpfs", "none", path] }).output();
    });
  `);
    assert.match(result.problems.join(), /left mounted: (.*)/);
    const path = /left mounted: (.*)/.exec(result.problems.join())?.[1] ?? "";
    assert.ok(!Deno.readTextFileSync("/proc/self/mounts").includes(path));
  },
);

Deno.test("the last line is read as it is written", () => {
  const totals = { passed: 12, failed: 0, skipped: 3 };
  assert.deepEqual(parseTotals(`noise\n${totalsLine(totals)}\n`), totals);
  assert.deepEqual(parseTotals("1 passed, 2 failed"), { passed: 1, failed: 2, skipped: 0 });
  assert.equal(parseTotals("1 passed, 2 failed\nbut"), null);
  assert.deepEqual(parseJunit(""), []);
});
