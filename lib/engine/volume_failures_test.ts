import assert from "node:assert/strict";
import { Op } from "../block/device.ts";
import { FRAME_BYTES, FrameType, putFrame } from "../wire/frame.ts";
import { REPLICA_TIMEOUT_MS } from "./limits.ts";
import { type Asked, Bench, EIO, filled, RogueReplica, VOLUME_BYTES } from "./test_kit.ts";

const S = REPLICA_TIMEOUT_MS;
/** How late the clock of requests may look. */
const LOOK_MS = 1100;
const KIB = 1024;

const answered = (...requests: Asked[]) => () => requests.every(({ result }) => result !== undefined);
const isChange = (type: number) => type === FrameType.WRITE || type === FrameType.UNMAP;

Deno.test("a replica that does not answer is given up after S, and the request succeeds without it", () => {
  using bench = new Bench();
  bench.ask(Op.READ, 0, 512);
  const begin = bench.cluster.now;
  bench.replicas[1].process.pause(60_000);
  const write = bench.submit(Op.WRITE, 0, 4096, 0x11);
  bench.until("the answer", answered(write));
  assert.equal(write.result, 4096);
  const took = write.answeredAt - begin;
  assert.ok(took > S && took < S + LOOK_MS, `${took} ms`);
  assert.equal(bench.modes, "RW ERR RW");
  assert.match(bench.failed.join(), /r2:10000 no answer for more than 8 s/);
  assert.deepEqual(bench.recorded.at(-1)?.members, ["id-r1", "id-r3"]);
});

Deno.test("when no complete copy answers all have 2 S", () => {
  using bench = new Bench({ replicas: 2, timeoutMs: 10_000 });
  const begin = bench.cluster.now;
  for (const replica of bench.replicas) replica.behave = ({ type }) => isChange(type) ? "hold" : undefined;
  const write = bench.submit(Op.WRITE, 0, 4096, 0x11);
  bench.pass(19_900);
  assert.equal(bench.modes, "RW RW");
  bench.until("the answer", answered(write));
  const took = write.answeredAt - begin;
  assert.ok(took > 20_000 && took < 20_000 + LOOK_MS, `${took} ms`);
  assert.deepEqual([write.result, bench.modes], [EIO, "ERR ERR"]);
});

Deno.test("copies that were late together and come back before 2 S stay", () => {
  using bench = new Bench({ replicas: 2 });
  for (const replica of bench.replicas) replica.process.pause(1.7 * S);
  const write = bench.submit(Op.WRITE, 0, 4096, 0x11);
  bench.until("the answer", answered(write));
  assert.deepEqual([write.result, bench.modes], [4096, "RW RW"]);
});

Deno.test("a replica that answers pings and forgets a write is given up all the same", () => {
  using bench = new Bench({ replicas: 2 });
  bench.replicas[0].behave = ({ type }) => type === FrameType.WRITE ? "hold" : undefined;
  const write = bench.submit(Op.WRITE, 0, 4096, 1);
  while (write.result === undefined) bench.ask(Op.READ, 8192, 512);
  assert.deepEqual([write.result, bench.modes], [4096, "ERR RW"]);
});

Deno.test("a replica that hangs is noticed by an idle volume too", () => {
  using bench = new Bench({ replicas: 2 });
  bench.replicas[0].process.pause(60_000);
  bench.pass(S);
  assert.equal(bench.modes, "RW RW");
  bench.pass(6000);
  assert.equal(bench.modes, "ERR RW");
  assert.match(bench.failed.join(), /r1:10000 no answer for more than 8 s/);
});

Deno.test("an idle volume whose replicas all hang for a while keeps them", () => {
  using bench = new Bench({ replicas: 2 });
  for (const replica of bench.replicas) replica.process.pause(1.7 * S);
  bench.pass(10 * S);
  assert.equal(bench.modes, "RW RW");
  for (const replica of bench.replicas) replica.process.pause(60_000);
  bench.pass(2 * S + 6000);
  assert.equal(bench.modes, "ERR ERR");
});

Deno.test("a replica that answers pings with an error is given up with its text", () => {
  using bench = new Bench({ replicas: 2 });
  bench.replicas[0].behave = ({ type }) => type === FrameType.PING ? EIO : undefined;
  bench.replicas[0].text = "ping failure: replica state error";
  bench.pass(3000);
  assert.deepEqual(bench.failed, ["tcp://r1:10000 ping failed: ping failure: replica state error"]);
});

Deno.test("a replica that takes long to open is not pinged before it is admitted", () => {
  using bench = new Bench({ replicas: 2, bare: true });
  const [first, second] = bench.replicas;
  bench.dial(first);
  bench.until("a connection", () => bench.connected.length === 1);
  bench.enter(() => {
    bench.volume.admit(first.name, "RW");
    bench.volume.start(1);
  });
  second.behave = ({ type }) => type === FrameType.PING ? EIO : undefined;
  second.text = "ping failure: replica state closed";
  bench.dial(second);
  bench.pass(10_000);
  assert.deepEqual(bench.failed, []);
  bench.enter(() => bench.volume.admit(second.name, "WO"));
  bench.pass(10_000);
  assert.deepEqual(bench.failed, [`${second.name} ping failed: ${second.text}`]);
});

Deno.test("a late answer of a replica that was given up is nobody's", () => {
  using bench = new Bench({ replicas: 2 });
  const [late] = bench.replicas;
  late.behave = ({ type }) => type === FrameType.PING || type === FrameType.ADOPT ? undefined : "hold";
  const old = [1, 2, 3].map((i) => bench.submit(Op.WRITE, i * 4096, 4096, i));
  bench.until("the answers", answered(...old));
  // Slots are used again while the old answers are on their way.
  const fresh = Array.from({ length: 50 }, (_, i) => bench.submit(Op.WRITE, (i + 4) * 4096, 4096, i));
  late.behave = () => undefined;
  late.release();
  bench.until("the answers", answered(...fresh));
  assert.ok([...old, ...fresh].every(({ result }) => result === 4096));
  assert.equal(bench.volume.used, 0);
});

for (const how of ["killed", "cut off", "resets"] as const) {
  Deno.test(`under load a replica that is ${how} costs nothing but its place`, () => {
    using bench = new Bench({ world: { network: { bytesPerMs: 200 * KIB } } });
    const pending: Asked[] = [];
    for (let i = 0; i < 60; i++) {
      pending.push(bench.submit(i % 3 ? Op.WRITE : Op.READ, (i % 15) * 64 * KIB, 64 * KIB, i));
    }
    bench.pass(3);
    const [victim] = bench.replicas, engine = bench.process.host;
    if (how === "killed") victim.process.kill();
    else if (how === "resets") bench.cluster.network.cut(engine, victim.host);
    else bench.cluster.network.partition([engine], [victim.host]);
    bench.until("all answers", answered(...pending));
    assert.ok(pending.every(({ result, length }) => result === length));
    assert.equal(bench.modes, "ERR RW RW");
    const { disk } = bench.replicas[1];
    assert.ok(bench.replicas[2].disk.every((byte, i) => byte === disk[i]), "the copies differ");
    assert.equal(bench.pool.free, 8 * 1024 * KIB);
  });
}

Deno.test("a write's buffer stays with the request until no connection can send from it", () => {
  // A receiver that takes nothing: the bytes of the last requests are still to be sent when it is given up.
  using bench = new Bench({ replicas: 2, world: { network: { windowBytes: [16 * KIB, 16 * KIB] } } });
  bench.replicas[0].process.pause(20_000);
  const writes = Array.from(
    { length: 4 },
    (_, i) => bench.submit(Op.WRITE, i * 256 * KIB, 256 * KIB, 0x11 + i),
  );
  bench.until("the answers", answered(...writes));
  // Answers filled the buffers with 0xdd: none of that may ever be sent, nor on the other replica's disk.
  bench.pass(30_000);
  for (const { disk } of bench.replicas) assert.ok(!disk.includes(0xdd), "sent after the answer");
  assert.ok(writes.every(({ result }) => result === 256 * KIB));
});

Deno.test("a write whose buffer is still being sent from when the last copy that has it goes is an error", () => {
  using bench = new Bench({ replicas: 2, world: { network: { windowBytes: [16 * KIB, 16 * KIB] } } });
  const [stuck, last] = bench.replicas;
  stuck.process.pause(60_000);
  const write = bench.submit(Op.WRITE, 0, 256 * KIB, 0x11);
  bench.until("the write on one copy", () => last.count(FrameType.WRITE) > 0);
  bench.pass(100);
  // Both are out at the same moment, the one that has it last: nobody records that the other one missed it.
  bench.enter(() => {
    for (const { name } of [stuck, last]) bench.volume.replicas.find(name).close("the network is gone");
  });
  bench.until("the answer", answered(write));
  assert.equal(write.result, EIO);
});

Deno.test("a read's buffer stays with the request until no connection can fill it", () => {
  using bench = new Bench({ replicas: 2, world: { network: { windowBytes: [16 * KIB, 16 * KIB] } } });
  bench.ask(Op.WRITE, 0, 512 * KIB, 0x33);
  for (let round = 0; round < 4; round++) {
    const reads = [0, 1, 2, 3].map((i) => bench.submit(Op.READ, i * 128 * KIB, 128 * KIB, 0xee));
    if (round === 2) {
      // In the middle of the data one of them stops.
      bench.pass(0.5);
      bench.replicas[0].process.pause(30_000);
    }
    bench.until("the answers", answered(...reads));
    for (const { result, data } of reads) {
      assert.equal(result, 128 * KIB);
      assert.deepEqual(data, filled(128 * KIB, 0x33));
    }
  }
  bench.pass(60_000);
  assert.equal(bench.modes, "ERR RW");
});

/** A reply to the request whose header this is. */
function reply(header: Uint8Array, type: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(FRAME_BYTES + payload.length), view = new DataView(bytes.buffer);
  const sequence = new DataView(header.buffer).getUint32(2, true);
  putFrame(view, 0, sequence, type, 0, payload.length, payload.length);
  bytes.set(payload, FRAME_BYTES);
  return bytes;
}

const ROGUES: Readonly<Record<string, [Op, (header: Uint8Array) => Uint8Array, RegExp]>> = {
  "more data than was asked for": [
    Op.READ,
    (header) => reply(header, FrameType.RESPONSE, filled(4097, 1)),
    /broke the data protocol/,
  ],
  "less data than was asked for": [
    Op.READ,
    (header) => reply(header, FrameType.RESPONSE, filled(512, 1)),
    /read failed: an answer of 512 bytes/,
  ],
  "data for a write": [
    Op.WRITE,
    (header) => reply(header, FrameType.RESPONSE, filled(512, 1)),
    /broke the data protocol/,
  ],
  "no frames at all": [Op.WRITE, () => filled(100, 0x47), /broke the data protocol/],
  "a Close": [Op.WRITE, (header) => reply(header, FrameType.CLOSE, filled(0, 0)), /closed by the replica/],
};
for (const [what, [op, answer, reason]] of Object.entries(ROGUES)) {
  Deno.test(`a replica that answers with ${what} is out, and the request goes on without it`, () => {
    using bench = new Bench({ replicas: 1, bare: true });
    const rogue = new RogueReplica(bench.cluster.host("rogue"), answer);
    bench.dial(rogue, 0);
    bench.dial(bench.replicas[0], 0);
    bench.until("connections", () => bench.connected.length === 2);
    bench.enter(() => {
      bench.volume.admit(rogue.name, "RW");
      bench.volume.admit("tcp://r1:10000", "RW");
      bench.volume.start(1);
    });
    for (let i = 0; i < 10; i++) {
      const asked = bench.ask(op, 0, 4096, 0x12);
      assert.equal(asked.result, 4096);
      assert.deepEqual(asked.data, filled(4096, op === Op.READ ? 0 : 0x12));
    }
    assert.equal(bench.modes, "ERR RW");
    assert.match(bench.failed.join(), reason);
  });
}

Deno.test("answers that nobody asked for change nothing", () => {
  using bench = new Bench({ replicas: 0, bare: true });
  const rogue = new RogueReplica(bench.cluster.host("rogue"), (header) => {
    const bytes = reply(header, FrameType.RESPONSE, filled(0, 0));
    const stray = [0, 5, 1023, 1024, 2046, 2047, 0xffff_ffff].map((sequence) => {
      const extra = reply(header, FrameType.RESPONSE, filled(0, 0));
      new DataView(extra.buffer).setUint32(2, sequence, true);
      return [...extra];
    });
    return new Uint8Array([...stray.flat(), ...bytes, ...bytes]);
  });
  bench.dial(rogue, 0);
  bench.until("the connection", () => bench.connected.length === 1);
  bench.enter(() => {
    bench.volume.admit(rogue.name, "RW");
    bench.volume.start(1);
  });
  for (let i = 0; i < 2000; i++) assert.equal(bench.ask(Op.UNMAP, 0, VOLUME_BYTES).result, 0);
  assert.equal(bench.modes, "RW");
});
