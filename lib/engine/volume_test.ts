import assert from "node:assert/strict";
import { Op } from "../block/device.ts";
import { Errno } from "../io/errno.ts";
import { FrameType, MAX_FRAME_PAYLOAD } from "../wire/frame.ts";
import { Bench, EIO, FEATURES, filled, VOLUME_BYTES } from "./test_kit.ts";

const KIB = 1024;

Deno.test("a write is on every replica when it is answered, and is read back from each", () => {
  using bench = new Bench();
  assert.equal(bench.ask(Op.WRITE, 4096, 8192, 0x11).result, 8192);
  for (const { disk } of bench.replicas) {
    assert.deepEqual(disk.subarray(4096, 12_288), filled(8192, 0x11));
    assert.equal(disk[4095] + disk[12_288], 0);
  }
  for (let i = 0; i < 24; i++) {
    const read = bench.ask(Op.READ, 4096, 8192);
    assert.deepEqual([read.result, read.data], [8192, filled(8192, 0x11)]);
  }
  for (const replica of bench.replicas) assert.ok(replica.count(FrameType.READ) >= 4, "its turn never came");
  assert.equal(bench.volume.used, 0);
});

Deno.test("a read goes to the replica on this machine while it has one", () => {
  using bench = new Bench({ local: "tcp://r2:10000" });
  for (let i = 0; i < 20; i++) bench.ask(Op.READ, 0, 512);
  assert.deepEqual(bench.replicas.map((r) => r.count(FrameType.READ)), [0, 20, 0]);
  bench.replicas[1].process.kill();
  for (let i = 0; i < 20; i++) assert.equal(bench.ask(Op.READ, 0, 512).result, 512);
  assert.ok(bench.replicas[0].count(FrameType.READ) >= 4 && bench.replicas[2].count(FrameType.READ) >= 4);
});

Deno.test("while copies may differ, reads go to the copy that the others are made equal to, not to the local one", () => {
  using bench = new Bench({ local: "tcp://r2:10000" });
  bench.volume.turns.single = true;
  for (let i = 0; i < 20; i++) bench.ask(Op.READ, 0, 512);
  assert.deepEqual(bench.replicas.map((r) => r.count(FrameType.READ)), [20, 0, 0]);
});

Deno.test("the first copy to be admitted is the first to be read from, wherever it was dialed", () => {
  using bench = new Bench({ bare: true });
  for (const replica of bench.replicas) bench.dial(replica);
  bench.until("connections", () => bench.connected.length === 3);
  bench.enter(() => {
    for (const { name } of bench.replicas.toReversed()) bench.volume.admit(name, "RW");
    bench.volume.turns.single = true;
    bench.volume.start(1);
  });
  bench.until("the members", () => bench.recorded.length > 0);
  assert.deepEqual(bench.recorded[0].members, ["id-r3", "id-r2", "id-r1"]);
  for (let i = 0; i < 5; i++) bench.ask(Op.READ, 0, 512);
  assert.deepEqual(bench.replicas.map((r) => r.count(FrameType.READ)), [0, 0, 5]);
});

Deno.test("unmaps, flushes and durable writes go to every replica", () => {
  using bench = new Bench();
  bench.ask(Op.WRITE, 0, 8192, 0x22);
  assert.equal(bench.ask(Op.UNMAP, 0, 4096).result, 4096);
  assert.equal(bench.ask(Op.FLUSH, 0, 0).result, 0);
  assert.equal(bench.ask(Op.WRITE_DURABLE, 8192, 512, 0x33).result, 512);
  for (const replica of bench.replicas) {
    assert.deepEqual([replica.disk[0], replica.disk[4096], replica.disk[8192]], [0, 0x22, 0x33]);
    assert.deepEqual(
      [FrameType.UNMAP, FrameType.FLUSH, FrameType.WRITE_DURABLE].map((t) => replica.count(t)),
      [
        1,
        1,
        1,
      ],
    );
  }
});

Deno.test("replicas without the extensions get plain frames only", () => {
  using bench = new Bench({ features: [0, 0], replicas: 2, bare: true });
  for (const replica of bench.replicas) bench.dial(replica, 0);
  bench.until("connections", () => bench.connected.length === 2);
  bench.enter(() => {
    for (const { name } of bench.replicas) bench.volume.admit(name, "RW");
    bench.volume.start(1);
  });
  assert.equal(bench.ask(Op.WRITE_DURABLE, 0, 512, 1).result, 512);
  assert.equal(bench.ask(Op.FLUSH, 0, 0).result, 0);
  for (const replica of bench.replicas) {
    assert.deepEqual(replica.requests.map(({ type }) => type), [FrameType.WRITE]);
  }
});

Deno.test("what lies outside the volume, is not made of sectors, or is too large is refused", () => {
  using bench = new Bench();
  const refused: [Op, number, number][] = [
    [Op.READ, VOLUME_BYTES, 512],
    [Op.WRITE, VOLUME_BYTES - 512, 1024],
    [Op.WRITE, -512, 512],
    [Op.UNMAP, 2 ** 53, 512],
    [Op.READ, NaN, 512],
    [Op.READ, 0, -512],
    [Op.WRITE, 100, 512],
    [Op.WRITE, 0, 100],
    [Op.READ, 0, MAX_FRAME_PAYLOAD + 512],
  ];
  const before = bench.replicas.map(({ requests }) => requests.length);
  for (const [op, offset, length] of refused) {
    const { volume } = bench;
    let result: number | undefined;
    bench.enter(() =>
      volume.submit(op, offset, length, 0, { complete: (_tag, value) => void (result = value) }, 0)
    );
    bench.until("an answer", () => result !== undefined);
    assert.equal(result, -Errno.EINVAL, `${op} ${offset} ${length}`);
  }
  assert.deepEqual(bench.replicas.map(({ requests }) => requests.length), before);
});

Deno.test("requests of no bytes end well", () => {
  using bench = new Bench();
  for (const op of [Op.READ, Op.WRITE, Op.UNMAP]) assert.equal(bench.ask(op, 4096, 0).result, 0, `${op}`);
  assert.equal(bench.modes, "RW RW RW");
});

Deno.test("a read that fails is answered by another replica, and the failed one is out", () => {
  using bench = new Bench({ replicas: 2 });
  bench.ask(Op.WRITE, 0, 4096, 0x44);
  bench.replicas[0].behave = ({ type }) => type === FrameType.READ ? EIO : undefined;
  bench.replicas[0].text = "bad block";
  for (let i = 0; i < 8; i++) {
    const read = bench.ask(Op.READ, 0, 4096);
    assert.deepEqual([read.result, read.data], [4096, filled(4096, 0x44)]);
  }
  assert.equal(bench.modes, "ERR RW");
  assert.deepEqual(bench.failed, ["tcp://r1:10000 read failed: bad block"]);
  assert.deepEqual(bench.recorded.at(-1)?.members, ["id-r2"]);
});

Deno.test("the last copy stays, whatever of it cannot be read or written", () => {
  using bench = new Bench({ replicas: 1 });
  const [replica] = bench.replicas;
  replica.behave = ({ offset, type }) => type !== FrameType.ADOPT && offset === 0 ? EIO : undefined;
  for (const op of [Op.READ, Op.WRITE, Op.UNMAP]) assert.equal(bench.ask(op, 0, 4096).result, EIO);
  assert.equal(bench.modes, "RW");
  assert.equal(bench.ask(Op.WRITE, 4096, 4096, 0x55).result, 4096);
  assert.equal(bench.ask(Op.READ, 4096, 4096).result, 4096);
});

Deno.test("when every copy fails a write one stays, and the others are recorded as gone", () => {
  using bench = new Bench();
  for (const replica of bench.replicas) {
    replica.behave = ({ type }) => type === FrameType.WRITE ? EIO : undefined;
  }
  assert.equal(bench.ask(Op.WRITE, 0, 4096, 1).result, EIO);
  assert.equal(bench.modes, "RW ERR ERR");
  assert.deepEqual(bench.recorded.at(-1)?.members, ["id-r1"]);
  assert.equal(bench.ask(Op.READ, 0, 4096).result, 4096);
});

Deno.test("some replicas without space are out, the write succeeds", () => {
  using bench = new Bench();
  bench.replicas[2].behave = ({ type }) => type === FrameType.WRITE ? -Errno.ENOSPC : undefined;
  assert.equal(bench.ask(Op.WRITE, 0, 4096, 0x66).result, 4096);
  assert.equal(bench.modes, "RW RW ERR");
  assert.match(bench.failed[0], /no space left on device/);
});

Deno.test("all replicas without space stay, the writer is told, and reads go to one of them", () => {
  using bench = new Bench();
  for (const replica of bench.replicas) {
    replica.behave = ({ type }) => type === FrameType.WRITE ? -Errno.ENOSPC : undefined;
  }
  assert.equal(bench.ask(Op.WRITE, 0, 4096, 0x77).result, -Errno.ENOSPC);
  assert.equal(bench.modes, "RW RW RW");
  for (let i = 0; i < 20; i++) assert.equal(bench.ask(Op.READ, 0, 512).result, 512);
  assert.equal(bench.replicas.filter((replica) => replica.count(FrameType.READ) > 0).length, 1);
});

Deno.test("overlapping changes reach every replica one after the other, others at once", () => {
  using bench = new Bench();
  for (const replica of bench.replicas) {
    replica.behave = ({ type }) => type === FrameType.WRITE ? "hold" : undefined;
  }
  const first = bench.submit(Op.WRITE, 0, 8192, 1);
  const second = bench.submit(Op.WRITE, 4096, 8192, 2);
  const apart = bench.submit(Op.WRITE, 64 * KIB, 4096, 3);
  bench.pass(100);
  for (const { held } of bench.replicas) {
    assert.deepEqual(held.map(({ offset }) => offset).sort(), [0, 65_536]);
  }
  for (const replica of bench.replicas) {
    replica.behave = () => undefined;
    replica.release();
  }
  bench.until("all answers", () => [first, second, apart].every(({ result }) => result !== undefined));
  assert.ok(first.answeredAt <= second.answeredAt);
  for (const { disk } of bench.replicas) assert.deepEqual([disk[0], disk[4096], disk[8192]], [1, 2, 2]);
});

Deno.test("an incomplete copy gets changes and no reads; its failure fails no request", () => {
  using bench = new Bench({ replicas: 2, bare: true });
  for (const replica of bench.replicas) bench.dial(replica);
  bench.until("connections", () => bench.connected.length === 2);
  bench.enter(() => {
    bench.volume.admit("tcp://r1:10000", "RW");
    bench.volume.admit("tcp://r2:10000", "WO");
    bench.volume.start(1);
  });
  bench.until("the record", () => bench.recorded.length > 0);
  assert.deepEqual(bench.recorded[0].members, ["id-r1"], "it is not complete");
  bench.ask(Op.WRITE, 0, 4096, 9);
  for (let i = 0; i < 10; i++) bench.ask(Op.READ, 0, 512);
  assert.equal(bench.replicas[1].disk[0], 9);
  assert.equal(bench.replicas[1].count(FrameType.READ), 0);
  bench.replicas[1].behave = ({ type }) => type === FrameType.WRITE ? EIO : undefined;
  assert.equal(bench.ask(Op.WRITE, 0, 4096, 8).result, 4096);
  assert.equal(bench.modes, "RW ERR");
  // Only an incomplete copy has it: that is nothing.
  bench.replicas[0].process.kill();
  assert.equal(bench.ask(Op.READ, 0, 512).result, EIO);
});

Deno.test("a replica that was removed makes room for another one at the same address", () => {
  using bench = new Bench({ replicas: 2 });
  const [, old] = bench.replicas;
  bench.enter(() => bench.volume.replicas.remove(old.name));
  bench.pass(10);
  assert.equal(bench.modes, "RW");
  bench.ask(Op.WRITE, 0, 512, 1);
  assert.equal(old.disk[0], 0);
  bench.dial(old, FEATURES);
  bench.until("the connection", () => bench.connected.length === 3);
  bench.enter(() => bench.volume.admit(old.name, "WO"));
  assert.equal(bench.ask(Op.WRITE, 0, 512, 2).result, 512);
  assert.equal(old.disk[0], 2);
  assert.equal(bench.modes, "RW WO");
  assert.throws(() => bench.dial(old), /replica tcp:\/\/r2:10000 is there already/);
  assert.throws(
    () => bench.enter(() => bench.volume.admit("tcp://r9:1", "RW")),
    /has no replica tcp:\/\/r9:1/,
  );
});

Deno.test("without replicas every request fails at once", () => {
  using bench = new Bench({ replicas: 2 });
  for (const replica of bench.replicas) replica.process.kill();
  bench.until("the end of both", () => bench.modes === "ERR ERR");
  for (const op of [Op.READ, Op.WRITE, Op.UNMAP, Op.FLUSH, Op.WRITE_DURABLE]) {
    const length = op === Op.FLUSH ? 0 : 4096;
    const before = bench.cluster.now, asked = bench.ask(op, 0, length);
    assert.equal(asked.result, EIO, `${op}`);
    assert.ok(asked.answeredAt - before < 100);
  }
});
