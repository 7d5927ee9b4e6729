import assert from "node:assert/strict";
import { Op } from "../block/device.ts";
import { Errno } from "../io/errno.ts";
import { FrameType } from "../wire/frame.ts";
import { type Asked, Bench, EIO } from "./test_kit.ts";

const answered = (...requests: Asked[]) => () => requests.every(({ result }) => result !== undefined);
const isAdopt = (type: number) => type === FrameType.ADOPT;

Deno.test("a generation begins with a record on every replica, on both of its connections", () => {
  using bench = new Bench();
  const record = { generation: 1, revision: 1, members: ["id-r1", "id-r2", "id-r3"] };
  assert.deepEqual(bench.recorded, [record]);
  for (const { records } of bench.replicas) assert.deepEqual(records, [record, record]);
});

Deno.test("nothing is acknowledged until the remaining replicas have recorded that one is gone; reads go on", () => {
  using bench = new Bench();
  bench.replicas[1].behave = ({ type }) => isAdopt(type) ? "hold" : undefined;
  bench.replicas[0].process.kill();
  const writes = [Op.WRITE, Op.UNMAP, Op.WRITE_DURABLE].map((op, i) => bench.submit(op, i * 4096, 4096, 5));
  const flush = bench.submit(Op.FLUSH, 0, 0);
  bench.until("the record to be under way", () => bench.replicas[1].held.length > 0);
  bench.pass(1000);
  assert.equal(bench.replicas[1].disk[0], 5, "it was sent");
  for (const { result } of [...writes, flush]) assert.equal(result, undefined);
  assert.equal(bench.ask(Op.READ, 0, 4096).result, 4096);
  bench.replicas[1].behave = () => undefined;
  bench.replicas[1].release();
  bench.until("the answers", answered(...writes, flush));
  assert.ok(writes.every(({ result }) => result === 4096));
  const record = { generation: 1, revision: 2, members: ["id-r2", "id-r3"] };
  assert.deepEqual(bench.recorded.at(-1), record);
  for (const { records } of bench.replicas.slice(1)) assert.deepEqual(records.at(-1), record);
});

Deno.test("a second failure while the first is being recorded begins another round", () => {
  using bench = new Bench();
  bench.replicas[1].behave = ({ type }) => isAdopt(type) ? "hold" : undefined;
  bench.replicas[0].process.kill();
  const write = bench.submit(Op.WRITE, 0, 4096, 5);
  bench.until("the record to be under way", () => bench.replicas[1].held.length > 0);
  bench.replicas[2].process.kill();
  bench.until("the second failure", () => bench.modes === "ERR RW ERR");
  bench.pass(1000);
  assert.equal(write.result, undefined);
  bench.replicas[1].behave = () => undefined;
  bench.replicas[1].release();
  bench.until("the answer", answered(write));
  assert.equal(write.result, 4096);
  const record = bench.recorded.at(-1);
  assert.deepEqual(record?.members, ["id-r2"]);
  assert.deepEqual(bench.replicas[1].records.at(-1), record);
  const revisions = bench.replicas[1].records.map(({ revision }) => revision);
  assert.deepEqual([...revisions].sort((a, b) => a - b), revisions, "revisions only rise");
});

Deno.test("a replica that cannot record the members is out itself", () => {
  using bench = new Bench();
  bench.replicas[1].behave = ({ type }) => isAdopt(type) ? EIO : undefined;
  bench.replicas[1].text = "no space left on device";
  bench.replicas[0].process.kill();
  const write = bench.ask(Op.WRITE, 0, 4096, 6);
  assert.deepEqual([write.result, bench.modes], [4096, "ERR ERR RW"]);
  assert.match(bench.failed.join(), /r2:10000 cannot record the members: no space left on device/);
  assert.deepEqual(bench.recorded.at(-1)?.members, ["id-r3"]);
});

Deno.test("the last copy tries again until it can record that it is the last", () => {
  using bench = new Bench({ replicas: 2 });
  bench.replicas[1].behave = ({ type }) => isAdopt(type) ? -Errno.ENOSPC : undefined;
  bench.replicas[0].process.kill();
  const write = bench.submit(Op.WRITE, 0, 4096, 7);
  bench.pass(20_000);
  assert.deepEqual([write.result, bench.modes], [undefined, "ERR RW"]);
  const tries = bench.replicas[1].count(FrameType.ADOPT);
  assert.ok(tries > 15 && tries < 30, `${tries} tries in 20 s`);
  assert.equal(bench.ask(Op.READ, 0, 512).result, 512);
  bench.replicas[1].behave = () => undefined;
  bench.until("the answer", answered(write));
  assert.equal(write.result, 4096);
  assert.deepEqual(bench.recorded.at(-1)?.members, ["id-r2"]);
});

Deno.test("what is held fails when the last copy goes before it has recorded anything", () => {
  using bench = new Bench({ replicas: 2 });
  bench.replicas[1].behave = ({ type }) => isAdopt(type) ? "hold" : undefined;
  bench.replicas[0].process.kill();
  const write = bench.submit(Op.WRITE, 0, 4096, 7);
  bench.until("the record to be under way", () => bench.replicas[1].held.length > 0);
  bench.pass(100);
  bench.replicas[1].process.kill();
  bench.until("the answer", answered(write));
  assert.equal(write.result, EIO);
});

Deno.test("an engine that was superseded gives its copies up instead of keeping its clients waiting", () => {
  using bench = new Bench({ replicas: 2 });
  for (const replica of bench.replicas) {
    replica.behave = ({ type }) => type === FrameType.PING ? undefined : -Errno.EPERM;
    replica.text = "this engine was superseded: the replica serves generation 2 only";
  }
  const write = bench.submit(Op.WRITE, 0, 4096, 7);
  bench.until("the answer", answered(write));
  assert.equal(write.result, EIO);
  assert.equal(bench.modes, "ERR ERR");
  assert.equal(bench.ask(Op.READ, 0, 512).result, EIO);
  assert.equal(bench.ask(Op.FLUSH, 0, 0).result, EIO);
});

Deno.test("replicas that leave after the volume was retired stay members", () => {
  using bench = new Bench();
  bench.enter(() => bench.volume.retire());
  for (const replica of bench.replicas) replica.process.kill();
  bench.until("the end of all", () => bench.modes === "ERR ERR ERR");
  bench.pass(5000);
  assert.equal(bench.recorded.length, 1);
});

Deno.test("a replica that is admitted later is recorded once it is complete", () => {
  using bench = new Bench({ replicas: 2, bare: true });
  for (const replica of bench.replicas) bench.dial(replica);
  bench.until("connections", () => bench.connected.length === 2);
  bench.enter(() => {
    bench.volume.admit("tcp://r1:10000", "RW");
    bench.volume.start(4);
  });
  bench.until("the record", () => bench.recorded.length > 0);
  bench.enter(() => bench.volume.admit("tcp://r2:10000", "WO"));
  bench.until("the record", () => bench.recorded.length > 1);
  assert.deepEqual(bench.replicas[1].records.at(-1), { generation: 4, revision: 2, members: ["id-r1"] });
  bench.enter(() => bench.volume.admit("tcp://r2:10000", "RW"));
  bench.until("the record", () => bench.recorded.length > 2);
  assert.deepEqual(bench.replicas[0].records.at(-1), {
    generation: 4,
    revision: 3,
    members: ["id-r1", "id-r2"],
  });
});
