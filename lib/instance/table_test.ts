import assert from "node:assert/strict";
import { Code } from "../rpc/errors.ts";
import { FakeNode, quiet, spec } from "./test_kit.ts";

Deno.test("a process starts with its port, and runs when it is healthy", async () => {
  const node = new FakeNode();
  const { record, deleted } = node.table.create(spec("vol-e-0"));
  assert.equal(record.state, "starting");
  assert.equal(deleted, false);
  assert.deepEqual([record.portStart, record.portEnd], [1000, 1000]);
  await quiet();
  assert.deepEqual(node.machine.last.request.args, ["run", "--listen", ":1000"]);
  await node.clock.advance(500);
  assert.equal(node.state("vol-e-0"), "starting");
  node.machine.healthy.add(1000);
  await node.clock.advance(100);
  assert.equal(node.state("vol-e-0"), "running");
  assert.deepEqual(node.told.map(({ record }) => record.state), ["starting", "starting", "running"]);
});

Deno.test("a process without ports runs as soon as it was started", async () => {
  const node = new FakeNode();
  node.table.create(spec("a", { portCount: 0, portArgs: [] }));
  await quiet();
  assert.equal(node.state("a"), "running");
});

Deno.test("a process that ends is stopped or in error, with the words that callers know", async () => {
  const node = new FakeNode();
  const ends = [
    [{ code: 0, signal: null }, "stopped"],
    [{ code: 61, signal: null }, "error: exit status 61"],
    [{ code: null, signal: 1 }, "error: signal: hangup"],
    [{ code: null, signal: 9 }, "error: signal: killed"],
    [{ code: null, signal: 11 }, "error: signal: segmentation fault"],
    [{ code: null, signal: null }, "error: exit status unknown"],
  ] as const;
  for (const [index, [exit, expected]] of ends.entries()) {
    node.table.create(spec(`p${index}`));
    await quiet();
    node.machine.last.end(exit);
    await quiet();
    assert.equal(node.state(`p${index}`), expected);
  }
});

Deno.test("a program that cannot be executed is a process in error, not a failed call", async () => {
  const node = new FakeNode();
  node.machine.failure = "fork/exec /bin/one: no such file or directory";
  assert.equal(node.table.create(spec("a")).record.state, "starting");
  await quiet();
  assert.equal(node.state("a"), "error: fork/exec /bin/one: no such file or directory");
});

Deno.test("a process that is not healthy within a minute is stopped, and says why", async () => {
  const node = new FakeNode();
  node.table.create(spec("a"));
  await node.clock.advance(59_000);
  assert.equal(node.state("a"), "starting");
  await node.clock.advance(2_000);
  assert.deepEqual(node.machine.last.signals, ["SIGINT"]);
  assert.equal(node.state("a"), "error: not healthy within 60 s after its start; see its log");
});

Deno.test("deletion: SIGINT, the name and the ports stay taken until the process has ended", async () => {
  const node = new FakeNode("1000-1000");
  node.table.create(spec("a"));
  await quiet();
  const child = node.machine.last;
  child.onSignal = () => {};
  const view = node.table.delete("a", "");
  assert.equal(view.deleted, true);
  await quiet();
  assert.deepEqual(child.signals, ["SIGINT"]);
  assert.equal(node.state("a"), "stopping");
  assert.throws(() => node.table.create(spec("a")), { code: Code.ALREADY_EXISTS });
  assert.throws(() => node.table.create(spec("b")), { code: Code.RESOURCE_EXHAUSTED });
  child.end({ code: 0, signal: null });
  await quiet();
  assert.throws(() => node.table.get("a"), { code: Code.NOT_FOUND });
  assert.equal(node.records.records.size, 0);
  const last = node.told.at(-1);
  assert.deepEqual([last?.record.name, last?.record.state, last?.deleted], ["a", "stopped", true]);
  node.table.create(spec("b"));
});

Deno.test("a process that ignores SIGINT is killed after a minute, at once when it is deleted again", async () => {
  const node = new FakeNode();
  node.table.create(spec("a"));
  await quiet();
  const child = node.machine.last;
  child.onSignal = () => {};
  node.table.delete("a", "");
  await node.clock.advance(59_000);
  assert.deepEqual(child.signals, ["SIGINT"]);
  await node.clock.advance(2_000);
  assert.deepEqual(child.signals, ["SIGINT", "SIGKILL"]);
  await node.clock.advance(70_000);
  assert.equal(node.table.find("a")?.record.state, "stopping", "it hangs in the kernel and stays listed");
  node.table.delete("a", "");
  await quiet();
  assert.deepEqual(child.signals, ["SIGINT", "SIGKILL", "SIGKILL"]);
  child.end({ code: null, signal: 9 });
  await quiet();
  assert.equal(node.table.find("a"), undefined);
});

Deno.test("a deletion that means another process of the name is refused", async () => {
  const node = new FakeNode();
  const { record } = node.table.create(spec("a"));
  await quiet();
  assert.throws(() => node.table.delete("a", crypto.randomUUID()), { code: Code.NOT_FOUND });
  assert.throws(() => node.table.delete("b", ""), { code: Code.NOT_FOUND });
  assert.equal(node.table.delete("a", record.uuid).deleted, true);
  await quiet();
  assert.equal(node.table.size, 0);
});

Deno.test("requests that make no sense are refused and leave nothing behind", () => {
  const node = new FakeNode();
  const bad = [
    spec(""),
    spec("../x"),
    spec("a/b"),
    spec(".hidden"),
    spec("a b"),
    spec("a".repeat(201)),
    spec("a\n"),
    spec("a", { binary: "" }),
    spec("a", { args: ["a\0b"] }),
    spec("a", { args: Array.from({ length: 2000 }, () => "x") }),
    spec("a", { args: ["x".repeat(200_000)] }),
    spec("a", { portCount: -1 }),
    spec("a", { portCount: 1, portArgs: ["a:", "b:"] }),
  ];
  for (const one of bad) {
    assert.throws(
      () => node.table.create(one),
      { code: Code.INVALID_ARGUMENT },
      JSON.stringify(one).slice(0, 80),
    );
  }
  assert.throws(() => node.table.create(spec("a", { portCount: 101, portArgs: [] })), {
    code: Code.RESOURCE_EXHAUSTED,
  });
  assert.equal(node.table.size, 0);
  assert.equal(node.table.ports.used, 0);
  assert.equal(node.records.records.size, 0);
});

Deno.test("a process is not started when it cannot be noted: it would never be found again", async () => {
  const node = new FakeNode();
  node.records.failure = "no space left on device";
  assert.throws(() => node.table.create(spec("a")), { code: Code.INTERNAL, message: /no space left/ });
  await quiet();
  assert.equal(node.machine.processes.length, 0);
  assert.equal(node.table.ports.used, 0);
});

Deno.test("a name that crashes again and again waits longer and longer, and says why", async () => {
  const node = new FakeNode();
  const crash = async (): Promise<void> => {
    node.table.create(spec("a"));
    await quiet();
    node.machine.last.end({ code: 61, signal: null });
    await quiet();
    node.table.delete("a", "");
    await quiet();
  };
  for (let i = 0; i < 4; i++) await crash();
  assert.equal(node.machine.processes.length, 4, "a few failures are not held against it");
  node.table.create(spec("a"));
  await quiet();
  assert.equal(node.machine.processes.length, 4);
  assert.match(node.state("a"), /^starting: waits 1 s .*: a failed 4 times in a row, .*: exit status 61$/);
  node.table.create(spec("b"));
  await quiet();
  assert.equal(node.machine.processes.length, 5, "another name does not wait");
  await node.clock.advance(1_000);
  assert.equal(node.machine.processes.length, 6);
  assert.equal(node.state("a"), "starting");
  node.machine.healthy.add(node.table.get("a").record.portStart);
  await node.clock.advance(70_000);
  node.machine.last.end({ code: 1, signal: null });
  await quiet();
  node.table.delete("a", "");
  await quiet();
  node.table.create(spec("a"));
  await quiet();
  assert.equal(node.machine.processes.length, 7, "one that ran for a while begins anew");
});

Deno.test("a process that waits for its turn can be deleted", async () => {
  const node = new FakeNode();
  for (let i = 0; i < 4; i++) node.table.shop.backoff.ended("a", 0, "exit status 1");
  node.table.create(spec("a"));
  await quiet();
  node.table.delete("a", "");
  await quiet();
  assert.equal(node.table.size, 0);
  assert.equal(node.machine.processes.length, 0);
});

Deno.test("a stop of everything ends engines before replicas", async () => {
  const node = new FakeNode();
  const order: string[] = [];
  for (const name of ["vol-r-1234", "vol-e-0", "vol-r-5678"]) {
    node.table.create(spec(name));
    await quiet();
    const child = node.machine.last;
    child.onSignal = () => {
      order.push(name);
      child.end({ code: 0, signal: null });
    };
  }
  await node.table.stopAll();
  assert.equal(order[0], "vol-e-0");
  assert.equal(order.length, 3);
});
