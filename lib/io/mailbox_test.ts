import assert from "node:assert/strict";
import fc from "fast-check";
import { Mailbox, type MailboxError, MAX_PENDING_CALLS, RemoteError, VolumeThread } from "./mailbox.ts";
import { MailboxRing, makeRingMemory } from "./mailbox_ring.ts";
import type { KernelWorld } from "./open.ts";

const module = new URL("./mailbox_test_worker.ts", import.meta.url);
const worlds: KernelWorld[] = ["uring", "poll"];

async function withThread(world: KernelWorld, body: (thread: VolumeThread) => Promise<void>): Promise<void> {
  const thread = await VolumeThread.start(module, { init: { world } });
  try {
    await body(thread);
  } finally {
    await thread.stop();
  }
}

for (const world of worlds) {
  Deno.test(`a thread blocked in ${world} answers calls, at once and later`, () =>
    withThread(world, async (thread) => {
      assert.deepEqual(thread.ready, { world });
      assert.deepEqual(await thread.call("echo", { a: [1, "zwei", null] }), { a: [1, "zwei", null] });
      assert.equal(await thread.call("echo"), undefined);
      assert.equal(await thread.call("later"), "later");
      assert.equal(await thread.call("twice", 1), 1);
      const many = await Promise.all(Array.from({ length: 500 }, (_, i) => thread.call("echo", i)));
      assert.deepEqual(many, Array.from({ length: 500 }, (_, i) => i));
    }));

  Deno.test(`the death of a thread in ${world} fails its calls and is told`, async () => {
    const thread = await VolumeThread.start(module, { init: { world } });
    const open = assert.rejects(thread.call("silent"), { name: "MailboxError", code: "DIED" });
    await assert.rejects(thread.call("die"), {
      name: "MailboxError",
      code: "DIED",
      message: /the loop broke/,
    });
    await open;
    assert.equal((await thread.ended).code, "DIED");
    await assert.rejects(thread.call("echo"), { code: "DIED" });
    thread.terminate();
  });

  Deno.test(`a thread blocked in ${world} is terminated from outside`, async () => {
    const thread = await VolumeThread.start(module, { init: { world } });
    const open = assert.rejects(thread.call("silent"), { code: "DIED" });
    thread.terminate();
    await open;
    assert.equal((await thread.ended).code, "DIED");
  });
}

Deno.test("errors of handlers arrive with name, message and code", () =>
  withThread("uring", async (thread) => {
    await assert.rejects(thread.call("full"), (error) => {
      assert(error instanceof RemoteError);
      assert.deepEqual([error.name, error.code], ["IoError", "ENOSPC"]);
      assert.match(error.message, /no space left on device/);
      return true;
    });
    await assert.rejects(thread.call("throws"), { name: "RangeError", message: "out of range", code: "" });
    await assert.rejects(thread.call("nonsense"), { code: "UNKNOWN_CALL", message: /"nonsense"/ });
    await assert.rejects(thread.call("uncloneable"), { name: "DataCloneError" });
    await assert.rejects(thread.call("toString"), { code: "UNKNOWN_CALL" });
    assert.equal(await thread.call("echo", 1), 1);
  }));

Deno.test("events arrive in order and before the answer that follows them", async () => {
  const events: unknown[] = [];
  const thread = await VolumeThread.start(module, {
    init: { world: "uring" },
    onEvent: (event) => events.push(event),
  });
  await thread.call("events", 100);
  assert.deepEqual(events, Array.from({ length: 100 }, (_, i) => ({ i })));
  await thread.stop();
});

Deno.test("requests that do not fit the ring wait for room and arrive in order", () =>
  withThread("uring", async (thread) => {
    const text = "x".repeat(300_000);
    const calls = Array.from({ length: 40 }, (_, i) => thread.call("echo", { i, text }));
    const answers = await Promise.all(calls) as { i: number; text: string }[];
    assert.deepEqual(answers.map(({ i }) => i), Array.from({ length: 40 }, (_, i) => i));
    assert(answers.every((answer) => answer.text === text));
  }));

Deno.test("a call that takes too long fails alone; a late answer is ignored", () =>
  withThread("uring", async (thread) => {
    await assert.rejects(thread.call("silent", null, 1), { code: "TIMEOUT" });
    assert.equal(await thread.call("echo", 7), 7);
  }));

Deno.test("calls that cannot be carried are refused at once", async () => {
  const mailbox = new Mailbox(1024);
  await assert.rejects(mailbox.call("echo", "x".repeat(1024)), { code: "TOO_LARGE" });
  await assert.rejects(mailbox.call("echo", 1n), TypeError);
  const open = Array.from({ length: MAX_PENDING_CALLS }, () => mailbox.call("echo").catch((error) => error));
  await assert.rejects(mailbox.call("echo"), { code: "TOO_MANY" });
  mailbox.close();
  for (const error of await Promise.all(open)) assert.equal((error as MailboxError).code, "CLOSED");
  assert.throws(() => new Mailbox(1000), RangeError);
});

Deno.test("a start that fails or never ends is told with its error", async () => {
  await assert.rejects(VolumeThread.start(module, { init: { fail: true } }), {
    name: "IoError",
    code: "ENOENT",
  });
  const broken = new URL("data:application/javascript,throw new Error('no start')");
  await assert.rejects(VolumeThread.start(broken), { code: "DIED", message: /no start/ });
  const silent = new URL("data:application/javascript,onmessage=()=>{}");
  await assert.rejects(VolumeThread.start(silent, { startTimeoutMs: 1 }), { code: "TIMEOUT" });
});

Deno.test("the ring gives back what was put, in order, over any wrap", () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: "binary", maxLength: 100 }), { maxLength: 40 }), (bodies) => {
      const memory = makeRingMemory(1024);
      const writer = new MailboxRing(memory), reader = new MailboxRing(memory);
      const waiting = bodies.map((body, id) => ({ id, kind: "k", body }));
      const taken: unknown[] = [];
      const expected = structuredClone(waiting);
      while (waiting.length > 0) {
        const record = MailboxRing.encode(waiting[0]!);
        if (record.length > writer.capacity || writer.put(record)) {
          if (record.length > writer.capacity) {
            expected.splice(expected.findIndex((e) => e.id === waiting[0]!.id), 1);
          }
          waiting.shift();
        } else {
          assert(reader.takeStarving());
          taken.push(reader.take());
        }
      }
      for (let value = reader.take(); value !== undefined; value = reader.take()) taken.push(value);
      assert.deepEqual(taken, expected);
    }),
  );
});
