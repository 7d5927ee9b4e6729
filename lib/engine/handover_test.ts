import assert from "node:assert/strict";
import { acceptPassing, closeAll, listenForPassing, memoryOf, readable, send } from "../io/passing.ts";
import { createLogger, Level } from "../log/log.ts";
import type { Backend, BackendInfo } from "./backend.ts";
import { type Opened, StartError } from "./controller_options.ts";
import {
  HANDOVER_FORMAT,
  HandoverChannel,
  type HandoverMessage,
  type ParcelMessage,
} from "./handover_messages.ts";
import { adoptSettings, type SettingsHolder, settingsOf } from "./handover_settings.ts";
import { HandoverTaker } from "./handover_taker.ts";

const log = createLogger({ level: Level.ERROR, format: "json", wallClock: () => 0, write: () => {} });
const HELLO: HandoverMessage = { type: "hello", format: HANDOVER_FORMAT, volume: "vol", bytes: 4096 };

/** A giver that says what a test has it say, and a taker that connects to it. */
async function withGiver(
  work: (
    giver: () => Promise<HandoverChannel>,
    connect: () => Promise<HandoverTaker | undefined>,
  ) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "drover-hand-" }), path = `${directory}/s`;
  const listener = listenForPassing(path);
  const open: HandoverChannel[] = [];
  const giver = async () => {
    assert.ok(await readable(listener, 5000));
    const fd = acceptPassing(listener);
    assert.ok(fd !== undefined);
    const channel = new HandoverChannel(fd);
    open.push(channel);
    return channel;
  };
  try {
    await work(giver, () => HandoverTaker.connect(path, "vol", log));
  } finally {
    for (const channel of open) channel.close();
    closeAll([listener]);
    await Deno.remove(directory, { recursive: true });
  }
}

/** A replica that the running engine uses. */
function replica(name: string, id: string): Opened {
  const info = {
    bytes: 4096,
    state: "dirty",
    sectorBytes: 512,
    rebuilding: false,
    revisionCounter: 0,
    revisionCounterDisabled: true,
    headModifiedNs: 0,
    headBytes: 4096,
    chainLength: 1,
    lostUnflushed: false,
    id,
    generation: 4,
    revision: 1,
    members: [id],
    dirty: true,
    features: 0,
    snapshotCountUsage: 0,
    snapshotSizeUsage: 0,
    chain: ["volume-head-000.img"],
    disks: {},
  };
  const given = info as unknown as BackendInfo;
  const backend = { name, inherit: () => {}, get: () => Promise.resolve(given) } as unknown as Backend;
  return { backend, info: given, unclean: true };
}

/** A taker that was greeted, with a volume thread that notes what it is asked. */
async function greeted(
  giver: () => Promise<HandoverChannel>,
  connect: () => Promise<HandoverTaker | undefined>,
): Promise<[HandoverTaker, HandoverChannel, string[]]> {
  const [taker, channel] = await Promise.all([
    connect(),
    giver().then((channel) => (channel.say(HELLO), channel)),
  ]);
  assert.ok(taker);
  const calls: string[] = [];
  const rules = {
    bytes: 4096,
    currentBytes: 0,
    revisionCounterDisabled: true,
    salvage: false,
    upgrade: true,
  };
  const thread = { call: (kind: string) => (calls.push(kind), Promise.resolve({})) };
  taker.use({ thread, rules, frontend: "nbd", frontendOptions: {}, host: undefined });
  return [taker, channel, calls];
}

const PARCEL: ParcelMessage = {
  type: "parcel",
  mode: "adopt",
  bytes: 4096,
  generation: 6,
  revision: 2,
  members: ["a", "b"],
  complete: ["tcp://r:1", "tcp://r:2"],
  readsFromOne: false,
  frontend: { kind: "nbd", endpoint: "nbd://x/vol", host: null },
};

const THREE = [replica("tcp://r:1", "a"), replica("tcp://r:2", "b"), replica("tcp://r:3", "c")];

Deno.test("what is no message is refused, and leaves no descriptor behind", () =>
  withGiver(async (giver, connect) => {
    const [connected, channel] = await Promise.all([connect(), giver().then((c) => (c.say(HELLO), c))]);
    assert.ok(connected);
    const descriptors = () => [...Deno.readDirSync("/proc/self/fd")].length, before = descriptors();
    for (const text of ["{", "1", "null", '{"typ":"no"}', "\xff"]) {
      const memory = memoryOf(new Uint8Array(1));
      send(channel.fd, new TextEncoder().encode(text), [memory]);
      closeAll([memory]);
      await assert.rejects(connected.channel.next(1000), /JSON|type|null/);
    }
    assert.equal(descriptors(), before);
    connected.channel.close();
  }));

Deno.test("an engine of another volume, or of another format, is not relieved", () =>
  withGiver(async (giver, connect) => {
    for (const hello of [{ ...HELLO, volume: "other" }, { ...HELLO, format: 99 }, { type: "go" } as const]) {
      const says = giver().then((channel) => channel.say(hello as HandoverMessage));
      await assert.rejects(connect(), StartError);
      await says;
    }
    const gone = giver().then((channel) => channel.close());
    assert.equal(await connect(), undefined);
    await gone;
  }));

Deno.test("the members of the parcel are taken, with the next generation", () =>
  withGiver(async (giver, connect) => {
    const [taker, channel, calls] = await greeted(giver, connect);
    const claim = taker.claim(THREE, 0);
    const want = await channel.next(5000);
    assert.ok(typeof want === "object" && want.message.type === "want");
    assert.deepEqual([want.message.ids, want.message.frontend], [["a", "b", "c"], "nbd"]);
    const [memory, listener] = [memoryOf(new Uint8Array(1)), memoryOf(new Uint8Array(1))];
    channel.say(PARCEL, [memory, listener]);
    closeAll([memory, listener]);
    const election = await claim;
    assert.deepEqual(election.chosen.map(({ name }) => name), ["tcp://r:1", "tcp://r:2"]);
    assert.deepEqual([election.generation, election.unclean, election.bytes], [7, false, 4096]);
    assert.deepEqual([election.refused.map(({ name }) => name), election.missing], [["tcp://r:3"], []]);
    assert.equal(await taker.frontend("nbd"), "nbd://x/vol");
    assert.equal(taker.listener, undefined);
    const commit = taker.commit();
    const ready = await channel.next(5000);
    assert.ok(typeof ready === "object" && ready.message.type === "ready");
    assert.deepEqual(calls, ["unpack"], "clients are not touched before the word");
    channel.say({ type: "go" });
    const taken = await channel.next(5000);
    assert.ok(typeof taken === "object" && taken.message.type === "taken");
    await commit;
    assert.deepEqual(calls, ["unpack", "resume"]);
    assert.ok(taker.listener !== undefined);
    closeAll([taker.listener]);
  }));

Deno.test("the copy that hosts read from while copies may differ stays the first, and settings are told", () =>
  withGiver(async (giver, connect) => {
    const [taker, channel] = await greeted(giver, connect);
    const claim = taker.claim(THREE, 0),
      settings = {
        snapshotMaxCount: 7,
        snapshotMaxSize: 4096,
        unmapMark: true,
        rebuildSources: 2,
        expansion: { error: "some could not", failedAt: "2026-01-02T03:04:05Z" },
      };
    await channel.next(5000);
    const complete = ["tcp://r:2", "tcp://r:1"];
    channel.say({ ...PARCEL, members: ["b", "a"], complete, readsFromOne: true, settings });
    const election = await claim;
    assert.deepEqual([election.chosen.map(({ name }) => name), election.unclean], [complete, true]);
    assert.deepEqual(taker.settings, settings);
    taker.fail("");
  }));

Deno.test("settings that calls made go on in the new engine, those of its own command line go before", async () => {
  const holder = (options: SettingsHolder["options"]): SettingsHolder => ({
    changes: {
      limits: { count: 250, bytes: 0, ...options.limits },
      unmapMark: options.unmapMark ?? false,
      expansion: { running: false, error: "", failedAt: "" },
    },
    rebuildSources: options.rebuildSources ?? 16,
    additions: {
      limit: 0,
      setLimit(bytesPerSecond) {
        Object.assign(this, { limit: bytesPerSecond });
        return Promise.resolve();
      },
    },
    options,
  });
  const old = holder({});
  Object.assign(old.changes.limits, { count: 9, bytes: 8192 });
  old.changes.unmapMark = true;
  old.changes.expansion = { running: true, error: "no", failedAt: "then" };
  old.rebuildSources = 3;
  await old.additions.setLimit(1 << 20);
  const plain = holder({}), told = holder({ limits: { bytes: 0 }, unmapMark: false, rebuildSources: 1 });
  await adoptSettings(plain, settingsOf(old));
  await adoptSettings(told, settingsOf(old));
  assert.deepEqual(settingsOf(plain), settingsOf(old));
  assert.equal(plain.changes.expansion.running, false);
  assert.deepEqual(settingsOf(told), {
    ...settingsOf(old),
    snapshotMaxSize: 0,
    unmapMark: false,
    rebuildSources: 1,
  });
});

Deno.test("a refusal is told with its reason; one that takes it back at the last moment is obeyed", () =>
  withGiver(async (giver, connect) => {
    {
      const [taker, channel] = await greeted(giver, connect);
      const claim = taker.claim(THREE, 0);
      await channel.next(5000);
      channel.say({ type: "no", reason: "a copy is being filled" });
      await assert.rejects(claim, /does not hand over: a copy is being filled/);
      taker.fail("as said");
    }
    const [taker, channel, calls] = await greeted(giver, connect);
    const claim = taker.claim(THREE.slice(0, 2), 0);
    await channel.next(5000);
    channel.say({ ...PARCEL, frontend: { kind: "", endpoint: "", host: null } });
    await claim;
    const commit = taker.commit();
    await channel.next(5000);
    channel.say({ type: "no", reason: "late" });
    await assert.rejects(commit, /took it back: late/);
    assert.deepEqual(calls, []);
    taker.fail("late");
    const last = await channel.next(5000);
    assert.ok(typeof last === "object" && last.message.type === "failed");
  }));

Deno.test("the end of the running engine: before the parcel it is a crash, after it the handover goes on", () =>
  withGiver(async (giver, connect) => {
    const [orphan, early] = await greeted(giver, connect);
    const claim = orphan.claim(THREE.slice(0, 1), 0);
    await early.next(5000);
    early.close();
    const election = await claim.catch((error) => error);
    assert.ok(!(election instanceof Error) && election.unclean, "copies may differ");
    orphan.fail("");
    const [taker, channel, calls] = await greeted(giver, connect);
    const second = taker.claim(THREE.slice(0, 2), 0);
    await channel.next(5000);
    channel.say({ ...PARCEL, frontend: { kind: "", endpoint: "", host: null } });
    await second;
    const commit = taker.commit();
    await channel.next(5000);
    channel.close();
    await commit;
    assert.deepEqual(calls, ["resume"]);
  }));
