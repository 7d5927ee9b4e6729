import assert from "node:assert/strict";
import type { Io } from "../io/io.ts";
import { settleOne, testWorlds } from "../io/test_kit.ts";
import { FrameType } from "../wire/frame.ts";
import { pattern, until } from "../wire/test_kit.ts";
import { adopt, setUp } from "./host_test_kit.ts";

const BYTES = 8 * 1024 * 1024;

testWorlds("a replica is created, opened, written, closed and found as it was left", (io, parent) => {
  using setup = setUp(io, parent);
  const { call } = setup;
  assert.equal(call("get").state, "initial");
  const created = call("create", { bytes: BYTES });
  assert.deepEqual([created.state, created.size, created.sectorSize], ["closed", String(BYTES), 512]);
  assert.equal(call("create", { bytes: 2 * BYTES }).size, String(BYTES), "there is one already");
  const opened = call("open", { expectedBytes: BYTES });
  assert.deepEqual([opened.state, opened.dirty, opened.rebuilding], ["open", false, false]);
  assert.deepEqual(opened.chain, ["volume-head-000.img"]);
  assert.ok((opened.droverFeatures ?? 0) > 0);
  assert.equal(opened.drover?.id, "made-up-id");
  const client = setup.connect(), data = pattern(8192, 1);
  adopt(client, 1);
  assert.equal(client.ask(FrameType.WRITE, 4096, data.length, data).result, 8192);
  assert.deepEqual([call("get").state, call("get").dirty], ["dirty", true]);
  const closed = call("close");
  assert.deepEqual([closed.state, closed.dirty], ["closed", false]);
  assert.deepEqual(closed.drover?.members, ["made-up-id"]);
  assert.match(client.ask(FrameType.PING, 0, 0).text, /ping failure: replica state closed/);
  assert.equal(call("close").state, "closed");
  call("open", { expectedBytes: BYTES });
  const again = setup.connect();
  adopt(again, 2);
  assert.deepEqual(again.ask(FrameType.READ, 4096, 8192).data, data);
});

testWorlds("calls that make no sense now say so", (io, parent) => {
  using setup = setUp(io, parent);
  const { call } = setup;
  assert.throws(() => call("open", { expectedBytes: 0 }), /there is no replica in .*: create it first/);
  call("create", { bytes: BYTES });
  assert.throws(() => call("setRebuilding", { rebuilding: true }), /replica is not open/);
  assert.throws(() => call("setRevisionCounter", { counter: 1 }), /replica is not open/);
  call("setUnmapMarkChain", { enabled: true });
  call("setSnapshotMaxCount", { count: 5 });
  call("open", { expectedBytes: 0 });
  assert.throws(() => call("open", { expectedBytes: 0 }), /replica is already open/);
  assert.equal(call("setRebuilding", { rebuilding: false }).state, "open");
  assert.equal(call("setRebuilding", { rebuilding: true }).state, "rebuilding");
  assert.equal(call("setRebuilding", { rebuilding: false }).state, "open");
  assert.equal(call("setSnapshotMaxSize", { bytes: 1 }).state, "open");
  assert.equal(call("reload").state, "open");
});

testWorlds("the revision counter counts changes where it is on", (io, parent) => {
  using setup = setUp(io, parent, { revisionCounter: true });
  const { call } = setup;
  call("create", { bytes: BYTES });
  const before = call("open", { expectedBytes: 0 });
  assert.equal(before.revisionCounterDisabled, false);
  const client = setup.connect();
  for (let i = 0; i < 5; i++) client.ask(FrameType.WRITE, i * 4096, 4096, pattern(4096, i));
  assert.equal(Number(call("get").revisionCounter), Number(before.revisionCounter) + 5);
  assert.equal(Number(call("setRevisionCounter", { counter: 77 }).revisionCounter), 77);
  call("close");
  assert.equal(Number(call("open", { expectedBytes: 0 }).revisionCounter), 77);
});

testWorlds("a close waits for the requests that are under way, and several closes are one", (io, parent) => {
  using setup = setUp(io, parent);
  const { host, call } = setup;
  call("create", { bytes: BYTES });
  call("open", { expectedBytes: 0 });
  const client = setup.connect(), data = pattern(64 * 1024, 1);
  client.ask(FrameType.PING, 0, 0);
  for (let i = 0; i < 8; i++) client.request(100 + i, FrameType.WRITE, i * data.length, data.length, data);
  until(io, "requests under way", () => (host.disk?.underWay ?? 0) > 0 || client.replies.length > 1);
  const ends: unknown[] = [];
  for (let i = 0; i < 3; i++) host.close(true, (error) => ends.push(error));
  until(io, "the close", () => ends.length === 3);
  assert.deepEqual(ends, [undefined, undefined, undefined]);
  client.wait(9);
  const good = client.replies.slice(1).filter(({ result }) => result >= 0).map(({ sequence }) =>
    sequence - 100
  );
  assert.equal(call("get").dirty, false);
  call("open", { expectedBytes: 0 });
  for (const i of good) {
    assert.deepEqual(client.ask(FrameType.READ, i * data.length, data.length).data, data, `write ${i}`);
  }
});

testWorlds("an engine that vanishes leaves the replica closed and marked as not clean", (io, parent) => {
  using setup = setUp(io, parent);
  const { host, call } = setup;
  call("create", { bytes: BYTES });
  call("open", { expectedBytes: 0 });
  const client = setup.connect();
  adopt(client, 1);
  client.ask(FrameType.WRITE, 0, 4096, pattern(4096, 1));
  client.end();
  until(io, "the close", () => host.disk === undefined);
  const left = call("get");
  assert.deepEqual([left.state, left.dirty], ["closed", true]);
  const opened = call("open", { expectedBytes: 0 });
  assert.deepEqual([opened.state, opened.drover?.lostUnflushed], ["dirty", false]);
});

/** A copy that an engine has written to, and that it has left without a word. @returns `volume.meta` as it was before */
function abandoned(io: Io, parent: string): string {
  using setup = setUp(io, parent);
  setup.call("create", { bytes: BYTES });
  setup.call("open", { expectedBytes: 0 });
  const client = setup.connect();
  adopt(client, 1);
  client.ask(FrameType.WRITE, 0, 4096, pattern(4096, 1));
  const meta = Deno.readTextFileSync(`${setup.directory}/volume.meta`);
  client.end();
  until(io, "the close", () => setup.host.disk === undefined);
  return meta;
}

testWorlds("a restart of the machine after an unclean stop is told", (io, parent) => {
  const meta = abandoned(io, parent);
  using setup = setUp(io, parent, { boot: "boot-2" });
  // As if the process had been killed before it closed the directory.
  Deno.writeTextFileSync(`${setup.directory}/volume.meta`, meta);
  assert.equal(setup.call("open", { expectedBytes: 0 }).drover?.lostUnflushed, true);
});

testWorlds(
  "a copy that its engine left may differ from others, and a restart loses nothing of it",
  (io, parent) => {
    abandoned(io, parent);
    using setup = setUp(io, parent, { boot: "boot-2" });
    assert.equal(setup.call("get").dirty, true);
    const { drover } = setup.call("open", { expectedBytes: 0 });
    assert.equal(drover?.lostUnflushed, false);
    // From then on a restart could.
    assert.match(Deno.readTextFileSync(`${setup.directory}/volume.meta`), /"boot":"boot-2"/);
  },
);

testWorlds(
  "a copy that an engine gives up, or that is told to stop under it, keeps its dirty regions",
  (io, parent) => {
    for (const told of [true, false]) {
      let directory = "";
      {
        using setup = setUp(io, parent);
        ({ directory } = setup);
        setup.call("create", { bytes: BYTES });
        setup.call("open", { expectedBytes: 0 });
        const client = setup.connect();
        adopt(client, 1, ["made-up-id", "b"]);
        client.ask(FrameType.WRITE, 0, 4096, pattern(4096, 1));
        if (told) setup.call("close", { generation: 1, differs: true });
        // Else it is stopped at the end of this block.
      }
      assert.match(Deno.readTextFileSync(`${directory}/volume.meta`), /"Dirty":true.*"boot":"synced"/s);
      assert.notEqual(Deno.readFileSync(`${directory}/drover.regions`)[4096], 0);
      Deno.removeSync(directory, { recursive: true });
      Deno.mkdirSync(directory);
    }
  },
);

testWorlds("deleting removes the replica and nothing else", (io, parent) => {
  using setup = setUp(io, parent);
  const { call, directory } = setup;
  call("create", { bytes: BYTES });
  call("open", { expectedBytes: 0 });
  const client = setup.connect();
  client.ask(FrameType.WRITE, 0, 4096, pattern(4096, 1));
  Deno.writeTextFileSync(`${directory}/notes.txt`, "mine");
  assert.equal(call("delete").state, "initial");
  assert.deepEqual([...Deno.readDirSync(directory)].map(({ name }) => name), ["notes.txt"]);
  call("create", { bytes: BYTES });
  Deno.removeSync(`${directory}/notes.txt`);
  call("delete");
  assert.throws(() => Deno.statSync(directory), Deno.errors.NotFound);
  call("create", { bytes: BYTES });
});

testWorlds("cached and direct I/O, aligned and not, are the same disk", (io, parent) => {
  for (const ioMode of ["cached", "direct", "cached"] as const) {
    using setup = setUp(io, parent, { ioMode });
    setup.call("create", { bytes: BYTES });
    setup.call("open", { expectedBytes: 0 });
    const client = setup.connect();
    for (
      const [offset, length] of [[0, 4096], [5, 3], [4090, 5000], [BYTES - 1, 1], [0, 0], [100_000, 70_001]]
    ) {
      const data = pattern(length, offset + ioMode.length);
      assert.equal(client.ask(FrameType.WRITE, offset, length, data).result, length);
      assert.deepEqual(
        client.ask(FrameType.READ, offset, length).data,
        data,
        `${ioMode} ${offset}+${length}`,
      );
    }
    assert.match(client.ask(FrameType.READ, BYTES, 1).text, /unexpected EOF/);
    assert.match(client.ask(FrameType.WRITE, BYTES - 1, 2, pattern(2, 1)).text, /beyond the size/);
  }
});

testWorlds("a directory that is gone, or that nobody can read, is described all the same", (io, parent) => {
  using setup = setUp(io, parent);
  setup.call("create", { bytes: BYTES });
  Deno.writeTextFileSync(`${setup.directory}/volume.meta`, "{ this is not JSON");
  assert.equal(setup.call("get").state, "error");
  assert.throws(() => setup.call("open", { expectedBytes: 0 }), /volume\.meta/);
  settleOne(io, (who, tag) => io.timer(1, who, tag));
  Deno.removeSync(setup.directory, { recursive: true });
  assert.equal(setup.call("get").state, "initial");
});

testWorlds(
  "an engine of an older generation cannot close what a newer one uses; others are obeyed",
  (io, parent) => {
    using setup = setUp(io, parent);
    const { call } = setup;
    call("create", { bytes: BYTES });
    call("open", { expectedBytes: 0 });
    adopt(setup.connect(), 5);
    assert.throws(
      () => call("close", { generation: 4 }),
      /this engine was superseded: the replica serves generation 5/,
    );
    assert.throws(() => call("close", { generation: 0 }), /superseded/);
    assert.equal(call("get").state, "open");
    assert.equal(call("close", { generation: 5 }).state, "closed");
    for (const body of [{}, { generation: null }]) {
      call("open", { expectedBytes: 0 });
      adopt(setup.connect(), 6);
      assert.equal(call("close", body).state, "closed");
    }
  },
);

testWorlds(
  "one that is to end waits until its engine has closed it or is gone, and no longer than it may",
  (io, parent) => {
    using setup = setUp(io, parent);
    const { call, host } = setup;
    const wait = (graceMs: number) => {
      const waiting = { over: false };
      host.awaitLeave(graceMs, () => waiting.over = true);
      return waiting;
    };
    assert.ok(wait(60_000).over, "nobody uses it");
    call("create", { bytes: BYTES });
    call("open", { expectedBytes: 0 });
    assert.ok(wait(60_000).over, "it is open, but no engine is connected");
    const engine = setup.connect();
    adopt(engine, 1);
    const closed = wait(60_000), late = wait(1);
    assert.ok(!closed.over);
    until(io, "the end of its time", () => late.over);
    assert.ok(!closed.over && host.inUse);
    call("close", { generation: 1 });
    until(io, "the engine's farewell", () => closed.over);
    assert.equal(call("get").dirty, false);
    call("open", { expectedBytes: 0 });
    const next = setup.connect();
    adopt(next, 2);
    engine.end();
    const gone = wait(60_000);
    assert.ok(!gone.over);
    next.end();
    until(io, "the end of its connections", () => gone.over);
  },
);

testWorlds(
  "a copy without a record of members keeps who it is, and notes beside whom it was found",
  (io, parent) => {
    const members = (setup: ReturnType<typeof setUp>) => setup.call("get").drover?.members;
    {
      using setup = setUp(io, parent);
      const { call } = setup;
      call("create", { bytes: BYTES });
      call("open", { expectedBytes: 0, copies: ["made-up-id"] });
      assert.deepEqual(members(setup), ["made-up-id"], "a volume of one copy has nobody else to note");
      call("close");
      call("open", { expectedBytes: 0, copies: ["made-up-id", "b", "c"] });
      call("close");
      // What was noted once stays: they may have been written to.
      call("open", { expectedBytes: 0, copies: ["made-up-id", "d"] });
      assert.deepEqual(members(setup), ["made-up-id", "b", "c", "d"]);
      assert.equal(call("get").drover?.generation, 0);
    }
    using setup = setUp(io, parent, {}, "another-id");
    const { call } = setup;
    assert.deepEqual([call("get").drover?.id, members(setup)], ["made-up-id", ["made-up-id", "b", "c", "d"]]);
    call("open", { expectedBytes: 0 });
    const engine = setup.connect();
    adopt(engine, 1, ["made-up-id", "b"]);
    call("close");
    call("open", { expectedBytes: 0, copies: ["made-up-id", "e"] });
    assert.deepEqual(members(setup), ["made-up-id", "b"], "a record of members is the engine's");
  },
);
