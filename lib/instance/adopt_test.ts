import assert from "node:assert/strict";
import { FakeNode, quiet, spec } from "./test_kit.ts";

Deno.test("the next manager finds what runs, and sees it end", async () => {
  const node = new FakeNode();
  node.table.create(spec("a"));
  node.table.create(spec("b", { portCount: 0, portArgs: [] }));
  await quiet();
  node.machine.healthy.add(1000);
  await node.clock.advance(200);
  const uuids = ["a", "b"].map((name) => node.table.get(name).record.uuid);
  node.restart();
  assert.deepEqual(["a", "b"].map((name) => node.table.get(name).record.uuid), uuids);
  assert.equal(node.state("a"), "running");
  assert.equal(node.machine.processes.length, 2, "nothing was started again");
  assert.deepEqual(node.machine.processes.flatMap(({ signals }) => signals), []);
  assert.equal(node.table.create(spec("c")).record.portStart, 1001, "its ports are taken");
  node.machine.processes[0]?.end({ code: 61, signal: null });
  await quiet();
  assert.equal(node.state("a"), "error: exit status 61");
});

Deno.test("what ended while no manager ran is in error; what had ended before says so still", async () => {
  const node = new FakeNode();
  node.table.create(spec("gone"));
  node.table.create(spec("failed"));
  await quiet();
  node.machine.last.end({ code: 61, signal: null });
  await quiet();
  const records = new Map(node.records.records);
  node.machine.processes[0]?.end({ code: 0, signal: null });
  node.restart("boot", records);
  assert.match(node.state("gone"), /^error: it ended while the instance manager was not running/);
  assert.equal(node.state("failed"), "error: exit status 61");
  node.table.delete("gone", "");
  node.table.delete("failed", "");
  await quiet();
  assert.equal(node.table.ports.used, 0);
  assert.equal(node.records.records.size, 0);
});

Deno.test("a pid that was used again is not taken for the process", async () => {
  const node = new FakeNode();
  const { record } = node.table.create(spec("a"));
  await quiet();
  const noted = node.records.records.get(record.uuid);
  assert.ok(noted);
  node.records.records.set(record.uuid, { ...noted, startTicks: noted.startTicks - 1 });
  node.restart();
  assert.match(node.state("a"), /^error/);
  assert.deepEqual(node.machine.last.signals, []);
});

Deno.test("a process whose pid was not noted is found by its environment", async () => {
  const node = new FakeNode();
  const { record } = node.table.create(spec("a"));
  const before = new Map(node.records.records);
  assert.equal(before.get(record.uuid)?.pid, 0);
  await quiet();
  node.restart("boot", before);
  assert.equal(node.table.get("a").record.pid, node.machine.last.pid);
  node.machine.healthy.add(1000);
  await node.clock.advance(1_000);
  assert.equal(node.state("a"), "running");
});

Deno.test("one that was noted but never started is in error", () => {
  const node = new FakeNode();
  node.table.create(spec("a"));
  const before = new Map(node.records.records);
  const other = new FakeNode();
  other.restart("boot", before);
  assert.equal(other.state("a"), "error: the instance manager ended before it had started this process");
});

Deno.test("a deletion that was under way goes on", async () => {
  const node = new FakeNode();
  node.table.create(spec("a"));
  await quiet();
  const child = node.machine.last;
  child.onSignal = () => {};
  node.table.delete("a", "");
  await quiet();
  node.restart();
  await quiet();
  assert.deepEqual(child.signals, ["SIGINT", "SIGINT"]);
  assert.ok(node.table.view(node.table.get("a")).deleted);
  child.end({ code: 0, signal: null });
  await quiet();
  assert.equal(node.table.size, 0);
});

Deno.test("processes of another boot or container are forgotten: their numbers mean others now", async () => {
  const node = new FakeNode();
  node.table.create(spec("a"));
  await quiet();
  node.restart("another boot");
  assert.equal(node.table.size, 0);
  assert.equal(node.records.records.size, 0);
  assert.equal(node.table.ports.used, 0);
  assert.deepEqual(node.machine.last.signals, []);
});

Deno.test("a manager may die after any record that it writes; the next one knows every process that runs", async () => {
  for (let step = 0;; step++) {
    const node = new FakeNode();
    const steps: ReturnType<typeof copy>[] = [];
    const copy = () => new Map(node.records.records);
    node.records.onChange = () => void steps.push(copy());
    node.table.create(spec("a"));
    await quiet();
    // It takes signals of the second manager only.
    const child = node.machine.last;
    child.onSignal = () => {};
    node.machine.healthy.add(1000);
    await node.clock.advance(200);
    node.table.delete("a", "");
    await quiet();
    const records = steps[step];
    if (!records) {
      assert.ok(step >= 5, `${step} steps were looked at`);
      return;
    }
    node.restart("boot", records);
    assert.equal(node.table.get("a").record.pid, child.pid, `step ${step}`);
    child.onSignal = () => child.end({ code: 0, signal: null });
    node.table.delete("a", "");
    await node.clock.advance(61_000);
    assert.equal(child.alive, false, `step ${step}`);
    assert.equal(node.table.size, 0, `step ${step}`);
  }
});
