import assert from "node:assert/strict";
import { Errno } from "../io/errno.ts";
import type { Completer } from "../io/io.ts";
import { SimCluster, type SimProcess } from "../io/sim/mod.ts";
import { FrameType, SUPERSEDED_TEXT } from "../wire/frame.ts";
import type { AdoptedRecord } from "./adopted_record.ts";
import { DataService, type ReplicaStore } from "./data_service.ts";

const BYTES = 1024 * 1024;

/** A directory in memory. */
class FakeStore implements ReplicaStore {
  readonly bytes = BYTES;
  readonly regions = undefined;
  fault = "";
  record: AdoptedRecord | undefined;
  /** What adopting fails with. */
  full = false;
  readonly done: string[] = [];

  #end(what: string, who: Completer, tag: number, result: number): void {
    this.done.push(what);
    who.complete(tag, result);
  }

  read(offset: number, length: number, _at: number, who: Completer, tag: number): void {
    this.#end(`read ${offset}+${length}`, who, tag, length);
  }

  write(offset: number, length: number, _at: number, durable: boolean, who: Completer, tag: number): void {
    this.#end(`${durable ? "durable" : "write"} ${offset}+${length}`, who, tag, length);
  }

  unmap(offset: number, length: number, who: Completer, tag: number): void {
    this.#end(`unmap ${offset}+${length}`, who, tag, length);
  }

  flush(who: Completer, tag: number): void {
    this.#end("flush", who, tag, 0);
  }

  markData(_offset: number, length: number, piece: number, marks: Uint8Array): void {
    marks.fill(1, 0, Math.ceil(length / piece));
  }

  adopt(record: AdoptedRecord | undefined): void {
    if (this.full) throw new Error("no space left on device");
    this.record = record;
    this.done.push(record ? `adopt ${record.generation}.${record.revision}` : "forget");
  }
}

class Setup implements Disposable {
  readonly cluster = new SimCluster(1);
  readonly store = new FakeStore();
  abandoned = 0;
  readonly process: SimProcess;
  #service: DataService | undefined;
  #tag = 0;

  constructor(open = true) {
    this.process = this.cluster.host("r").spawn("replica", (io) => {
      this.#service = new DataService(io, () => this.abandoned++);
      if (open) this.#service.use(this.store, "open");
    });
  }

  get service(): DataService {
    assert(this.#service);
    return this.#service;
  }

  /** A request of a connection; its result. */
  ask(peer: number, type: number, offset = 0, size = 0, payload: Uint8Array = new Uint8Array()): number {
    let result: number | undefined;
    const tag = this.#tag++ % 512;
    this.process.io.arena.u8.set(payload, 4096);
    this.process.enter(() =>
      this.service.start(type, offset, size || payload.length, 4096, peer, {
        complete: (_tag, value) => void (result = value),
      }, tag)
    );
    assert(this.cluster.runUntil(() => result !== undefined, this.cluster.now + 1000), "no answer");
    return result as number;
  }

  adopt(peer: number, generation: number, revision = 1, members: readonly string[] = ["a"]): number {
    return this.ask(peer, FrameType.ADOPT, 0, 0, json({ generation, revision, members }));
  }

  gone(peer: number): void {
    this.process.enter(() => this.service.onGone(peer));
  }

  /** Time passes; @param ping which connection pings meanwhile, every two seconds */
  pass(ms: number, ping?: number): void {
    for (const end = this.cluster.now + ms; this.cluster.now < end;) {
      this.cluster.run(Math.min(end, this.cluster.now + 2000));
      if (ping !== undefined) this.ask(ping, FrameType.PING);
    }
  }

  text(type: number, result: number, offset = 0, size = 0): string {
    return this.service.errorText(type, offset, size, result);
  }

  [Symbol.dispose](): void {
    this.cluster[Symbol.dispose]();
  }
}

const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

Deno.test("requests become operations on the directory", () => {
  using setup = new Setup();
  const { store } = setup;
  assert.equal(setup.ask(1, FrameType.PING), 0);
  assert.equal(setup.ask(1, FrameType.READ, 4096, 512), 512);
  assert.equal(setup.ask(1, FrameType.WRITE, 0, 100), 100);
  assert.equal(setup.ask(1, FrameType.WRITE_DURABLE, 0, 100), 100);
  assert.equal(setup.ask(1, FrameType.UNMAP, 8192, 4096), 4096);
  assert.equal(setup.ask(1, FrameType.FLUSH), 0);
  assert.deepEqual(store.done, ["read 4096+512", "write 0+100", "durable 0+100", "unmap 8192+4096", "flush"]);
  assert.equal(setup.service.serves(FrameType.RESPONSE), false);
  assert.equal(setup.service.serves(99), false);
});

Deno.test("what lies beyond the size is refused with the texts that engines know, and nothing is done", () => {
  using setup = new Setup();
  for (const type of [FrameType.READ, FrameType.WRITE, FrameType.UNMAP, FrameType.WRITE_DURABLE]) {
    for (const [offset, size] of [[BYTES, 1], [-1, 1], [BYTES - 1, 2], [2 ** 60, 4096], [0, 0xffff_ffff]]) {
      assert.equal(setup.ask(1, type, offset, size), -Errno.EINVAL);
    }
  }
  assert.deepEqual(setup.store.done, []);
  assert.equal(setup.text(FrameType.READ, -Errno.EINVAL), "unexpected EOF");
  assert.equal(
    setup.text(FrameType.WRITE, -Errno.EINVAL, 5, 6),
    `write of 6 bytes at offset 5 is beyond the size ${BYTES}`,
  );
  assert.equal(
    setup.text(FrameType.REGIONS, -Errno.EINVAL, 0, 512),
    "a map of regions has 4096 bytes, 512 were asked for",
  );
});

Deno.test("a digest is of whole pieces from one on, within the volume, and not of too much", () => {
  using setup = new Setup();
  assert.equal(setup.ask(1, FrameType.DIGEST, 65536, BYTES - 65536), 0);
  assert.deepEqual(setup.store.done.length, 15);
  for (
    const [offset, size] of [[512, 512], [0, 5], [0, 0xffff_fe00], [BYTES, 512], [-65536, 512], [
      2 ** 60,
      512,
    ]]
  ) {
    assert.equal(setup.ask(1, FrameType.DIGEST, offset, size), -Errno.EINVAL, `${size} at ${offset}`);
  }
  assert.equal(setup.store.done.length, 15);
  assert.match(
    setup.text(FrameType.DIGEST, -Errno.EINVAL, 512, 512),
    /^a digest of 512 bytes at offset 512: at most/,
  );
  assert.match(setup.text(FrameType.DIGEST, -Errno.EINVAL, BYTES, 512), /beyond the size/);
  setup.adopt(2, 5);
  assert.equal(setup.ask(1, FrameType.DIGEST, 0, 512), -Errno.EPERM);
});

Deno.test("a closed replica and a bad one answer everything with why", () => {
  using setup = new Setup(false);
  assert.equal(setup.ask(1, FrameType.PING), -Errno.ENODEV);
  assert.equal(setup.ask(1, FrameType.WRITE, 0, 100), -Errno.ENODEV);
  assert.equal(setup.text(FrameType.PING, -Errno.ENODEV), "ping failure: replica state closed");
  setup.service.use(setup.store, "open");
  setup.store.fault = "a sync failed";
  assert.equal(setup.ask(1, FrameType.PING), -Errno.ENODEV);
  assert.equal(setup.adopt(1, 1), -Errno.ENODEV);
  assert.equal(setup.text(FrameType.PING, -Errno.ENODEV), "ping failure due to a sync failed");
  assert.deepEqual(setup.store.done, []);
});

Deno.test("an engine that adopted is served on the connections it adopted on, older ones are not", () => {
  using setup = new Setup();
  assert.equal(setup.ask(1, FrameType.WRITE, 0, 100), 100);
  assert.equal(setup.adopt(2, 5), 0);
  assert.equal(setup.ask(2, FrameType.WRITE, 0, 100), 100);
  for (const type of [FrameType.WRITE, FrameType.READ, FrameType.UNMAP, FrameType.FLUSH]) {
    assert.equal(setup.ask(1, type, 0, type === FrameType.FLUSH ? 0 : 100), -Errno.EPERM);
    assert.equal(setup.ask(3, type, 0, type === FrameType.FLUSH ? 0 : 100), -Errno.EPERM);
  }
  assert.equal(setup.ask(1, FrameType.PING), 0, "it is told when it asks for something");
  assert.ok(setup.text(FrameType.WRITE, -Errno.EPERM).startsWith(`${SUPERSEDED_TEXT}: `));
  assert.match(setup.text(FrameType.WRITE, -Errno.EPERM), /generation 5 only/);
  assert.equal(setup.adopt(1, 4), -Errno.EPERM);
  assert.equal(setup.adopt(3, 5), 0, "the second connection of the same engine");
  assert.equal(setup.adopt(4, 6), 0);
  assert.equal(setup.ask(2, FrameType.READ, 0, 100), -Errno.EPERM);
  assert.equal(setup.ask(4, FrameType.READ, 0, 100), 100);
});

Deno.test("a record is stored when it is newer than the one there is, and its generation cannot go back", () => {
  using setup = new Setup();
  const { store } = setup;
  setup.adopt(1, 3, 1, ["a", "b"]);
  setup.adopt(2, 3, 1, ["a", "b"]);
  setup.adopt(1, 3, 2, ["a"]);
  assert.deepEqual(store.done, ["adopt 3.1", "adopt 3.2"]);
  assert.deepEqual(store.record, { generation: 3, revision: 2, members: ["a"] });
  // Closed and opened again: the generation on disk still counts.
  setup.service.use(undefined, "closed");
  setup.service.use(store, "open");
  assert.equal(setup.adopt(5, 2), -Errno.EPERM);
  assert.equal(setup.adopt(5, 4), 0);
});

Deno.test("a record that cannot be stored is an error with the reason", () => {
  using setup = new Setup();
  setup.store.full = true;
  assert.equal(setup.adopt(1, 1), -Errno.EIO);
  assert.match(setup.text(FrameType.ADOPT, -Errno.EIO), /no space left on device/);
  setup.store.full = false;
  assert.equal(setup.adopt(1, 1), 0);
});

Deno.test("a record that is none, or far too long, is refused", () => {
  using setup = new Setup();
  const none: unknown[] = [
    null,
    7,
    [],
    {},
    { generation: 0, revision: 1, members: [] },
    { generation: 1.5, revision: 1, members: [] },
    { generation: 2 ** 60, revision: 1, members: [] },
    { generation: 1, revision: -1, members: [] },
    { generation: 1, revision: 1, members: "a" },
    { generation: 1, revision: 1, members: [1] },
    { generation: 1, revision: 1, members: ["a".repeat(20_000)] },
  ];
  for (const record of none) {
    assert.equal(setup.ask(1, FrameType.ADOPT, 0, 0, json(record)), -Errno.EPROTO, JSON.stringify(record));
  }
  assert.equal(setup.ask(1, FrameType.ADOPT, 0, 0, new Uint8Array([0xff, 0xfe])), -Errno.EPROTO);
  assert.equal(setup.ask(1, FrameType.ADOPT), -Errno.EPROTO);
  assert.equal(setup.text(FrameType.ADOPT, -Errno.EPROTO), "the record of members cannot be read");
  assert.deepEqual(setup.store.done, []);
});

Deno.test("an engine that never adopts is served, and its first change forgets the record", () => {
  using setup = new Setup();
  const { store } = setup;
  store.record = { generation: 3, revision: 1, members: ["a"] };
  assert.equal(setup.ask(1, FrameType.READ, 0, 512), 512);
  assert.equal(setup.ask(1, FrameType.FLUSH), 0);
  assert.notEqual(store.record, undefined);
  store.full = true;
  assert.equal(setup.ask(1, FrameType.WRITE, 0, 512), -Errno.EIO, "a record that is wrong must not stay");
  store.full = false;
  assert.equal(setup.ask(1, FrameType.UNMAP, 0, 4096), 4096);
  assert.deepEqual(store.done, ["read 0+512", "flush", "forget", "unmap 0+4096"]);
});

Deno.test("an engine that slept through a close of the directory is not taken for one that never adopts", () => {
  using setup = new Setup();
  const { store, service } = setup;
  setup.adopt(1, 3);
  service.use(undefined, "closed");
  service.use(store, "open");
  assert.equal(setup.ask(1, FrameType.WRITE, 0, 512), -Errno.EPERM);
  assert.equal(setup.ask(1, FrameType.READ, 0, 512), -Errno.EPERM);
  assert.deepEqual(store.done, ["adopt 3.1"]);
  assert.equal(store.record?.generation, 3);
  // Its number may be given to another connection afterwards.
  setup.gone(1);
  assert.equal(setup.ask(1, FrameType.READ, 0, 512), 512);
});

Deno.test("the last connection of the adopted engine takes the replica with it", () => {
  using setup = new Setup();
  setup.gone(7);
  setup.adopt(1, 3);
  setup.adopt(2, 3);
  setup.gone(7);
  setup.gone(1);
  assert.equal(setup.abandoned, 0);
  setup.gone(2);
  assert.equal(setup.abandoned, 1);
});

Deno.test("when an older engine goes, the newer one keeps the replica", () => {
  using setup = new Setup();
  setup.adopt(1, 3);
  setup.adopt(2, 4);
  setup.gone(1);
  assert.equal(setup.abandoned, 0);
});

Deno.test("an adopted engine that is silent for a minute is gone; one that pings is not", () => {
  using setup = new Setup();
  setup.adopt(1, 3);
  setup.pass(300_000, 1);
  assert.equal(setup.abandoned, 0);
  setup.pass(59_000);
  assert.equal(setup.abandoned, 0);
  setup.pass(12_000);
  assert.equal(setup.abandoned, 1);
});

Deno.test("an engine that never adopts may be silent for as long as it likes", () => {
  using setup = new Setup();
  setup.ask(1, FrameType.WRITE, 0, 512);
  setup.pass(600_000);
  assert.equal(setup.abandoned, 0);
});

Deno.test("an engine that dies before it has adopted, or never would, leaves the replica closed a little later", () => {
  using setup = new Setup();
  for (const peer of [1, 2]) setup.process.enter(() => setup.service.onCome(peer));
  setup.gone(1);
  setup.pass(20_000);
  assert.equal(setup.abandoned, 0, "it has another connection");
  setup.gone(2);
  setup.pass(4_000);
  // Somebody else comes, and stays.
  setup.process.enter(() => setup.service.onCome(3));
  setup.pass(20_000);
  assert.equal(setup.abandoned, 0);
  setup.gone(3);
  assert.equal(setup.abandoned, 0);
  setup.pass(6_000);
  assert.equal(setup.abandoned, 1);
});

Deno.test("an engine that dies while it opens a replica leaves it closed; who opens it without a connection may go on", () => {
  for (const engine of [true, false]) {
    using setup = new Setup(false);
    setup.process.enter(() => setup.service.use(setup.store, "open", engine));
    setup.pass(6_000);
    assert.equal(setup.abandoned, engine ? 1 : 0);
  }
  using setup = new Setup(false);
  setup.process.enter(() => {
    setup.service.onCome(1);
    setup.service.use(setup.store, "open", true);
  });
  setup.pass(20_000);
  assert.equal(setup.abandoned, 0);
});

Deno.test("while somebody else is connected, the end of an engine leaves him time to take its place", () => {
  using setup = new Setup();
  setup.adopt(1, 3);
  setup.process.enter(() => setup.service.onCome(2));
  setup.gone(1);
  setup.pass(4_000);
  assert.equal(setup.abandoned, 0);
  assert.equal(setup.adopt(2, 4), 0);
  setup.pass(20_000, 2);
  assert.equal(setup.abandoned, 0);
  // The older one comes back with a number above: the newer one's end is no matter then.
  setup.process.enter(() => setup.service.onCome(3));
  assert.equal(setup.adopt(3, 5), 0);
  setup.gone(2);
  setup.pass(20_000, 3);
  assert.equal(setup.abandoned, 0);
  setup.gone(3);
  assert.equal(setup.abandoned, 1);
});

Deno.test("he who does not, and he who goes as well, leave the replica closed", () => {
  for (const stays of [true, false]) {
    using setup = new Setup();
    setup.adopt(1, 3);
    setup.process.enter(() => setup.service.onCome(2));
    setup.gone(1);
    if (!stays) setup.gone(2);
    assert.equal(setup.abandoned, stays ? 0 : 1);
    setup.pass(6_000);
    assert.equal(setup.abandoned, 1);
  }
});
