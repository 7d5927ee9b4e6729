import assert from "node:assert/strict";
import { Op } from "../block/device.ts";
import type { Handlers } from "../io/mailbox_server.ts";
import { closeAll } from "../io/passing.ts";
import { FrameType } from "../wire/frame.ts";
import { handoverHandlers, type Packed } from "./handover_thread.ts";
import { Bench } from "./test_kit.ts";

const GRACE_MS = 3000;

interface Suspended {
  packed: Packed | undefined;
  error: unknown;
  differed: number;
  handlers: Handlers;
}

/** Asks the volume of a bench to come to rest. */
function suspend(bench: Bench): Suspended {
  const { volume, process: { io } } = bench;
  const told: Suspended = { packed: undefined, error: undefined, differed: 0, handlers: {} };
  const makeFrontend = () => assert.fail("there is no frontend");
  told.handlers = handoverHandlers({
    io,
    volume,
    frontend: undefined,
    makeFrontend,
    onDiffer: () => told.differed++,
  });
  bench.enter(() =>
    told.handlers["suspend"]({ graceMs: GRACE_MS }, {
      ok: (packed) => told.packed = packed as Packed,
      error: (error) => told.error = error,
    })
  );
  return told;
}

Deno.test("a copy that fails while the volume comes to rest is recorded as gone before a write that it missed is answered", () => {
  using bench = new Bench({ replicas: 2 });
  const [first, second] = bench.replicas;
  second.behave = ({ type }) => type === FrameType.WRITE ? "hold" : undefined;
  const write = bench.submit(Op.WRITE, 0, 4096, 1);
  bench.until("the write at both", () => first.count(FrameType.WRITE) + second.count(FrameType.WRITE) === 2);
  const told = suspend(bench);
  bench.pass(100);
  assert.deepEqual([told.packed, write.result], [undefined, undefined], "it waits for the write");
  // The one that is left does not record for a while.
  first.behave = ({ type }) => type === FrameType.ADOPT ? "hold" : undefined;
  second.process.kill();
  bench.until("the round", () => first.held.length > 0);
  bench.pass(100);
  assert.deepEqual([told.packed, write.result], [undefined, undefined]);
  first.behave = () => undefined;
  first.release();
  bench.until("the rest", () => told.packed !== undefined);
  assert.equal(write.result, 4096);
  assert.deepEqual(told.packed?.record.members, ["id-r1"]);
  assert.deepEqual([told.packed?.complete, bench.volume.serving], [[first.name], false]);
  closeAll([told.packed?.memory ?? -1]);
});

Deno.test("a volume that does not come to rest goes on, with its members and with making copies equal", () => {
  using bench = new Bench({ replicas: 2 });
  const [first, second] = bench.replicas;
  for (const replica of bench.replicas) {
    replica.behave = ({ type }) => type === FrameType.WRITE ? "hold" : undefined;
  }
  bench.volume.turns.single = true;
  const write = bench.submit(Op.WRITE, 0, 4096, 1), told = suspend(bench);
  bench.until("the end of its time", () => told.error !== undefined);
  assert.match(String(told.error), /requests under way do not end/);
  assert.deepEqual([bench.volume.serving, bench.volume.working, told.differed], [true, true, 1]);
  second.process.kill();
  first.behave = () => undefined;
  first.release();
  bench.until("the answer", () => write.result !== undefined);
  assert.deepEqual([write.result, bench.modes], [4096, "RW ERR"]);
  assert.deepEqual(bench.recorded.at(-1)?.members, ["id-r1"]);
});
