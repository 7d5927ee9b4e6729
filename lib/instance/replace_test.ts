import assert from "node:assert/strict";
import { Code } from "../rpc/errors.ts";
import type { ProcessRecord } from "./record.ts";
import { FakeNode, type FakeProcess, quiet, spec } from "./test_kit.ts";

const NEXT = { binary: "/bin/two" };

async function running(): Promise<{ node: FakeNode; old: FakeProcess }> {
  const node = new FakeNode();
  node.table.create(spec("vol-e-0"));
  await quiet();
  node.machine.healthy.add(1000);
  await node.clock.advance(200);
  assert.equal(node.state("vol-e-0"), "running");
  return { node, old: node.machine.last };
}

Deno.test("a replacement starts beside the old process, which gets SIGHUP when the new one is healthy", async () => {
  const { node, old } = await running();
  const replaced = node.table.replace(spec("vol-e-0", NEXT), "SIGHUP");
  await node.clock.advance(1_000);
  const next = node.machine.last;
  assert.notEqual(next, old);
  assert.deepEqual(next.request.args, ["run", "--listen", ":1001"]);
  assert.deepEqual(old.signals, []);
  assert.equal(node.table.get("vol-e-0").record.binary, "/bin/one");
  node.machine.healthy.add(1001);
  await node.clock.advance(200);
  const { record } = await replaced;
  assert.deepEqual([record.binary, record.state, record.portStart], ["/bin/two", "running", 1001]);
  await quiet();
  assert.deepEqual(old.signals, ["SIGHUP"]);
  assert.equal(node.records.records.size, 1);
  assert.equal(node.table.ports.used, 1);
  assert.ok(
    node.told.every(({ deleted, record }) => !deleted && record.state !== "error"),
    "nobody saw an end",
  );
});

Deno.test("the ports of a replaced process are free when it is gone, not before", async () => {
  const { node, old } = await running();
  old.onSignal = (signal) => {
    if (signal === "SIGKILL") old.end({ code: null, signal: 9 });
  };
  node.machine.healthy.add(1001);
  const replaced = node.table.replace(spec("vol-e-0", NEXT), "SIGHUP");
  await node.clock.advance(200);
  await replaced;
  await quiet();
  assert.equal(node.table.ports.used, 2);
  await node.clock.advance(11_000);
  assert.deepEqual(old.signals, ["SIGHUP", "SIGKILL"]);
  assert.equal(node.table.ports.used, 1);
});

Deno.test("the same binary is answered with the running process; unknown names and signals are refused", async () => {
  const { node } = await running();
  const same = await node.table.replace(spec("vol-e-0"), "SIGHUP");
  assert.equal(same.record.uuid, node.table.get("vol-e-0").record.uuid);
  await assert.rejects(node.table.replace(spec("other", NEXT), "SIGHUP"), { code: Code.NOT_FOUND });
  await assert.rejects(node.table.replace(spec("vol-e-0", NEXT), "SIGTERM"), { code: Code.INVALID_ARGUMENT });
  assert.equal(node.machine.processes.length, 1);
});

Deno.test("a replacement that fails, or takes too long, leaves the old process untouched", async () => {
  const { node, old } = await running();
  const failed = assert.rejects(node.table.replace(spec("vol-e-0", NEXT), "SIGHUP"), {
    code: Code.INTERNAL,
    message: /the old one stays: the new one exit status 1$/,
  });
  await quiet();
  node.machine.last.end({ code: 1, signal: null });
  await node.clock.advance(200);
  await failed;
  const slow = assert.rejects(node.table.replace(spec("vol-e-0", NEXT), "SIGHUP"), {
    message: /does not run after 30 s/,
  });
  await node.clock.advance(31_000);
  await slow;
  await quiet();
  assert.deepEqual(node.machine.last.signals, ["SIGINT"]);
  assert.ok(old.alive);
  assert.deepEqual(old.signals, []);
  assert.equal(node.state("vol-e-0"), "running");
  assert.equal(node.table.ports.used, 1);
  assert.equal(node.records.records.size, 1);
});

Deno.test("an old process that hands over and leaves is not an error; the new one is waited for", async () => {
  const { node, old } = await running();
  const replaced = node.table.replace(spec("vol-e-0", NEXT), "SIGHUP");
  await quiet();
  old.end({ code: 0, signal: null });
  await node.clock.advance(40_000);
  assert.deepEqual(node.told.filter(({ record }) => record.state === "stopped"), []);
  node.machine.healthy.add(1001);
  await node.clock.advance(1_000);
  assert.equal((await replaced).record.state, "running");
});

Deno.test("when both are gone the end of the old process is told", async () => {
  const { node, old } = await running();
  const replaced = assert.rejects(node.table.replace(spec("vol-e-0", NEXT), "SIGHUP"));
  await quiet();
  old.end({ code: 5, signal: null });
  node.machine.last.end({ code: 1, signal: null });
  await node.clock.advance(200);
  await replaced;
  assert.equal(node.state("vol-e-0"), "error: exit status 5");
  assert.equal(node.told.at(-1)?.record.error, "exit status 5");
});

Deno.test("a deletion or a second replacement in between is answered, and one process is left", async () => {
  const { node } = await running();
  const replaced = assert.rejects(node.table.replace(spec("vol-e-0", NEXT), "SIGHUP"), {
    code: Code.ALREADY_EXISTS,
    message: "process vol-e-0 to replace has changed in the meantime",
  });
  await quiet();
  await assert.rejects(node.table.replace(spec("vol-e-0", NEXT), "SIGHUP"), { code: Code.ALREADY_EXISTS });
  node.table.delete("vol-e-0", "");
  await node.clock.advance(1_000);
  await replaced;
  await quiet();
  assert.equal(node.table.size, 0);
  assert.equal(node.table.ports.used, 0);
  assert.ok(node.machine.processes.every(({ alive }) => !alive));
});

Deno.test("a manager that dies at any step of a replacement is followed by one that ends it, one way or the other", async () => {
  for (let step = 0;; step++) {
    const { node, old } = await running();
    const steps: Map<string, ProcessRecord>[] = [];
    const noted = (): void => void steps.push(new Map(node.records.records));
    noted();
    node.records.onChange = noted;
    // The processes take signals only after the restart: the dead manager sends none.
    const signals: string[] = [];
    const replaced = node.table.replace(spec("vol-e-0", NEXT), "SIGHUP").catch(() => {});
    await quiet();
    const next = node.machine.last;
    if (step === 0) assert.notEqual(next, old);
    old.onSignal = (signal) => void signals.push(signal);
    node.machine.healthy.add(1001);
    await node.clock.advance(200);
    await replaced;
    const records = steps[step];
    if (!records) {
      assert.ok(step >= 5, `${step} steps were looked at`);
      return;
    }
    old.onSignal = () => old.end({ code: null, signal: 1 });
    node.restart("boot", records);
    await node.clock.advance(15_000);
    const alive = node.machine.processes.filter((one) => one.alive);
    const known = node.table.get("vol-e-0").record;
    assert.equal(known.state, "running", `step ${step}`);
    // Before the new process was noted, nobody can know of it.
    if (step > 0) assert.deepEqual(alive.map(({ pid }) => pid), [known.pid], `step ${step}`);
    assert.equal(node.table.size, 1);
    if (step > 0) assert.equal(node.table.ports.used, 1, `step ${step}`);
  }
});

Deno.test("when the new process died together with the manager, the old one keeps the name", async () => {
  const { node, old } = await running();
  const steps: Map<string, ProcessRecord>[] = [];
  node.records.onChange = () => void steps.push(new Map(node.records.records));
  const replaced = node.table.replace(spec("vol-e-0", NEXT), "SIGHUP");
  await quiet();
  old.onSignal = () => {};
  const next = node.machine.last;
  node.machine.healthy.add(1001);
  await node.clock.advance(200);
  await replaced;
  const superseded = steps.find((records) => [...records.values()].some((record) => record.superseded));
  assert.ok(superseded);
  next.end({ code: null, signal: 9 });
  old.onSignal = () => old.end({ code: null, signal: 1 });
  node.restart("boot", superseded);
  await node.clock.advance(15_000);
  assert.ok(old.alive);
  assert.equal(node.state("vol-e-0"), "running");
  assert.equal(node.table.get("vol-e-0").record.pid, old.pid);
  assert.equal(node.records.records.size, 1);
});
