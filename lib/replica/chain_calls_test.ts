/** Snapshots, reverts and growth of a replica that is being used. */
import assert from "node:assert/strict";
import type { Io } from "../io/io.ts";
import { testWorlds } from "../io/test_kit.ts";
import { type ptypes, RollbackError } from "../rpc/mod.ts";
import { FrameType } from "../wire/frame.ts";
import { REGION_MAP_BYTES } from "../wire/regions.ts";
import { pattern, until } from "../wire/test_kit.ts";
import { HeldRequests } from "./held_requests.ts";
import { adopt, type Setup, setUp } from "./host_test_kit.ts";
import { replicaHandlers } from "./service.ts";

const MIB = 1024 * 1024;
const BYTES = 8 * MIB;
const CREATED = "2026-07-12T08:00:00Z";

function opened(io: Io, parent: string): Setup {
  const setup = setUp(io, parent);
  setup.call("create", { bytes: BYTES });
  setup.call("open", { expectedBytes: 0 });
  return setup;
}

testWorlds("snapshots are taken between the requests of an engine that goes on writing", (io, parent) => {
  using setup = opened(io, parent);
  const { host } = setup, client = setup.connect(), data = pattern(4096, 7);
  adopt(client, 1);
  const ends: unknown[] = [];
  let sequence = 1000;
  const burst = () => {
    for (let i = 0; i < 20; i++) {
      client.request(sequence++, FrameType.WRITE, (sequence % 64) * 4096, 4096, data);
    }
  };
  for (let i = 0; i < 5; i++) {
    burst();
    host.handlers().snapshot(
      { name: `s${i}`, userCreated: true, created: CREATED, labels: { n: String(i) } },
      {
        ok: () => ends.push("ok"),
        error: (error) => ends.push(error),
      },
    );
    burst();
  }
  until(io, "the snapshots", () => ends.length === 5);
  assert.deepEqual(ends, ["ok", "ok", "ok", "ok", "ok"]);
  until(io, "the replies", () => client.replies.length === 201);
  assert.ok(client.replies.slice(1).every(({ result }) => result === 4096));
  assert.deepEqual(client.ask(FrameType.READ, (sequence % 64) * 4096, 4096).data, data);
  const found = setup.call("get");
  assert.equal(found.chain?.length, 6);
  assert.deepEqual(found.disks?.["volume-snap-s4.img"]?.labels, { n: "4" });
  assert.equal(found.snapshotCountUsage, 5);
});

testWorlds("a revert shows the snapshot to the connections that are there", (io, parent) => {
  using setup = opened(io, parent);
  const { call } = setup, client = setup.connect(), old = pattern(4096, 1);
  adopt(client, 1);
  client.ask(FrameType.WRITE, 0, 4096, old);
  call("snapshot", { name: "s", userCreated: true, created: CREATED });
  client.ask(FrameType.WRITE, 0, 4096, pattern(4096, 2));
  assert.throws(() => call("revert", { name: "", created: CREATED }), /the disk's name is missing/);
  assert.throws(
    () => call("revert", { name: "volume-snap-s.img", created: "" }),
    /the head's time is missing/,
  );
  assert.throws(() => call("revert", { name: "nobody", created: CREATED }), /cannot find disk nobody/);
  const found = call("revert", { name: "volume-snap-s.img", created: CREATED });
  assert.deepEqual(found.chain, ["volume-head-002.img", "volume-snap-s.img"]);
  assert.deepEqual(client.ask(FrameType.READ, 0, 4096).data, old);
});

testWorlds("a volume that grows keeps its dirty regions, and engines reach the new part", (io, parent) => {
  using setup = opened(io, parent);
  const { call } = setup, client = setup.connect(), data = pattern(4096, 1);
  adopt(client, 1, ["made-up-id", "another"]);
  client.ask(FrameType.WRITE, 3 * MIB, 4096, data);
  assert.match(client.ask(FrameType.READ, BYTES, 4096).text, /unexpected EOF/);
  const large = 64 * 1024 * MIB;
  assert.equal(call("expand", { bytes: large }).size, String(large));
  assert.equal(call("expand", { bytes: large }).size, String(large), "again is fine");
  assert.deepEqual(client.ask(FrameType.READ, 3 * MIB, 4096).data, data);
  assert.equal(client.ask(FrameType.WRITE, large - 4096, 4096, data).result, 4096);
  assert.deepEqual(client.ask(FrameType.READ, large - 4096, 4096).data, data);
  const map = client.ask(FrameType.REGIONS, 0, REGION_MAP_BYTES).data;
  const expected = new Uint8Array(REGION_MAP_BYTES);
  // Regions of 2 MiB now: the one of the first write, and the last one.
  expected[0] = 0b10;
  expected[REGION_MAP_BYTES - 1] = 0x80;
  assert.deepEqual(map, expected);
  client.end();
  until(io, "the close", () => setup.host.disk === undefined);
  assert.equal(call("open", { expectedBytes: 0 }).state, "dirty");
  const again = setup.connect();
  adopt(again, 2, ["made-up-id", "another"]);
  assert.deepEqual(again.ask(FrameType.REGIONS, 0, REGION_MAP_BYTES).data, expected);
});

testWorlds(
  "a growth that is refused says in the peers' words that nothing has changed",
  async (io, parent) => {
    using setup = opened(io, parent);
    const remote = (kind: string, body?: unknown) => {
      try {
        return Promise.resolve(setup.call(kind, body));
      } catch (error) {
        // What is left of an error between threads.
        const { name, message } = error as Error;
        return Promise.reject(Object.assign(new Error(message), { name }));
      }
    };
    const { replicaExpand } = replicaHandlers({ call: remote });
    const request = { size: BYTES - 4096 } as unknown as ptypes.ReplicaExpandRequest;
    await assert.rejects(async () => await replicaExpand(request, undefined as never), (error) => {
      assert.ok(error instanceof RollbackError);
      assert.equal(error.outcome, "FunctionFailedWithoutRollback");
      assert.match(error.reason, /smaller than the present size/);
      return true;
    });
    setup.call("close");
    await assert.rejects(async () => await replicaExpand(request, undefined as never), /replica is not open/);
  },
);

testWorlds("disks are marked, prepared, removed and limited through calls", (io, parent) => {
  using setup = opened(io, parent);
  const { call } = setup;
  call("setSnapshotMaxSize", { bytes: 4096 });
  for (const name of ["a", "b"]) call("snapshot", { name, userCreated: false, created: CREATED });
  assert.throws(
    () => call("snapshot", { name: "a", userCreated: false, created: CREATED }),
    /already existing/,
  );
  const client = setup.connect();
  client.ask(FrameType.WRITE, 0, 65536, pattern(65536, 1));
  assert.throws(
    () => call("snapshot", { name: "c", userCreated: false, created: CREATED }),
    /the limit is 4096/,
  );
  call("reload");
  assert.throws(
    () => call("snapshot", { name: "c", userCreated: false, created: CREATED }),
    /the limit is 4096/,
  );
  call("setSnapshotMaxSize", { bytes: 0 });
  assert.equal(call("markRemoved", { name: "a" }).disks?.["volume-snap-a.img"]?.removed, true);
  const { operations } = call("prepareRemove", { name: "a" }) as ptypes.IDiskPrepareRemoveResponse;
  assert.deepEqual(operations?.map(({ action }) => action), ["coalesce", "replace"]);
  assert.throws(() => call("removeDisk", { name: "volume-snap-a.img", force: false }), /with 1 children/);
  const replaced = call("replaceDisk", { target: "volume-snap-b.img", source: "volume-snap-a.img" });
  assert.deepEqual(replaced.chain, [replaced.head, "volume-snap-b.img"]);
  call("removeDisk", { name: "volume-snap-b.img", force: true });
  assert.deepEqual(call("get").chain, [replaced.head]);
  call("close");
  for (const kind of ["prepareRemove", "markRemoved", "removeDisk", "replaceDisk"]) {
    assert.throws(() => call(kind, { name: "a" }), /replica is not open/);
  }
  assert.throws(() => call("snapshot", { name: "c", created: CREATED }), /replica is not open/);
});

Deno.test("requests are put aside in order and within a bound", () => {
  const held = new HeldRequests(3), started: number[] = [], who = { complete: () => {} };
  held.active = true;
  for (let tag = 0; tag < 3; tag++) held.push(1, 2, 3, 4, 5, who, tag);
  assert.throws(() => held.push(1, 2, 3, 4, 5, who, 3), RangeError);
  held.release((type, offset, size, at, peer, whose, tag) => {
    assert.deepEqual([type, offset, size, at, peer, whose], [1, 2, 3, 4, 5, who]);
    started.push(tag);
  });
  assert.deepEqual(started, [0, 1, 2]);
  assert.equal(held.active, false);
});

testWorlds("a removed snapshot is merged on demand; a close cuts that short", (io, parent) => {
  using setup = opened(io, parent);
  const { call, host } = setup, client = setup.connect(), data = pattern(65536, 1);
  adopt(client, 1);
  for (const name of ["a", "b", "c"]) {
    client.ask(FrameType.WRITE, 0, 65536, data);
    call("snapshot", { name, userCreated: true, created: CREATED });
  }
  const [source, target] = ["volume-snap-a.img", "volume-snap-b.img"];
  assert.throws(() => call("coalesce", { source, target }), /not marked as removed/);
  call("markRemoved", { name: "a" });
  call("coalesce", { source, target });
  call("replaceDisk", { source, target });
  call("markRemoved", { name: "c" });
  call("prune", { source: "volume-snap-c.img" });
  assert.deepEqual(client.ask(FrameType.READ, 0, 65536).data, data);
  call("markRemoved", { name: "b" });
  const answers: string[] = [];
  host.handlers().coalesce({ source: target, target: "volume-snap-c.img" }, {
    ok: () => answers.push("ok"),
    error: (error) => answers.push(String(error)),
  });
  call("close");
  assert.equal(answers.length, 1);
  assert.match(answers[0] ?? "", /begin again|not open/);
});
