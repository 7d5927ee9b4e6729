/**
 * The backup store over a real S3 service with a network that misbehaves: what is passing is not noticed, what stays
 * is told, and in no case a backup looks whole that is not.
 *
 * @module
 */
import assert from "node:assert/strict";
import {
  BlockError,
  createBackup,
  deleteBackup,
  inspectBackup,
  listBackups,
  restoreBackup,
  type Target,
  verifyBackups,
} from "../lib/backup/mod.ts";
import { MemorySink, TestVolume } from "../lib/backup/test_kit.ts";
import { Credentials } from "../lib/backup/target/credentials.ts";
import { openS3 } from "../lib/backup/target/s3.ts";
import { parseTargetUrl, type S3Address } from "../lib/backup/target/url.ts";
import { peerTest } from "./support/conditional.ts";
import { type Exchange, type Fault, type FaultProxy, faultProxy } from "./support/fault_proxy.ts";
import { type S3Server, s3Server } from "./support/s3_server.ts";
import { randomFrom } from "./sync_kit.ts";

const needs = ["versitygw"];
const UNITS = 256, BLOCK = 16 * 4096;
const OPTIONS = { volume: "v", settleMs: 0, concurrency: 4 } as const;

function open(server: S3Server, proxy: FaultProxy): Target {
  const credentials = Credentials.from(server.credentials(proxy.endpoint));
  return openS3(parseTargetUrl(server.url("x")) as S3Address, credentials, {
    retry: { retries: 5, firstPauseMs: 1, maxPauseMs: 4 },
    times: { answerMs: 5_000, stallMs: 200, slowestBytesPerSecond: 1024 * 1024 },
  });
}

/** Two snapshots, the second with a tenth changed. */
function volume(): TestVolume {
  const volume = new TestVolume(UNITS);
  for (let unit = 0; unit < UNITS; unit++) volume.write(unit, unit % 200 + 1);
  volume.snapshot("a");
  for (let unit = 0; unit < UNITS; unit += 10) volume.write(unit, 201 + unit % 50);
  volume.snapshot("b");
  return volume;
}

async function backUp(target: Target, volume: TestVolume, snapshot: string): Promise<void> {
  using source = volume.source(snapshot);
  await createBackup(target, source, { ...OPTIONS, snapshot, name: snapshot, blockBytes: BLOCK });
}

async function restored(target: Target, backup: string): Promise<Uint8Array> {
  const sink = new MemorySink(UNITS * 4096);
  await restoreBackup(target, sink, { ...OPTIONS, backup });
  return sink.content;
}

/** A network that spoils a share of all exchanges, each in one of the ways. */
function storm(seed: number, share: number): (exchange: Exchange) => Fault | undefined {
  const random = randomFrom(seed);
  const kinds: Fault[] = [
    { kind: "status", status: 500 },
    { kind: "status", status: 503, body: "<Error><Code>SlowDown</Code></Error>" },
    { kind: "cut" },
    { kind: "lose answer" },
    { kind: "truncate" },
    { kind: "damage answer" },
    { kind: "damage request" },
    { kind: "delay", milliseconds: 20 },
  ];
  return ({ method }) => {
    if (random() > share) return undefined;
    const fault = kinds[Math.floor(random() * kinds.length)];
    // A damaged listing or request without a body has no checksum: TCP has to do there.
    const checked = method === "GET" || method === "PUT";
    return fault?.kind.startsWith("damage") && !checked ? undefined : fault;
  };
}

peerTest("backups, restores, checks and removals go through a storm", { needs }, async () => {
  await using server = await s3Server();
  await using proxy = await faultProxy(server.endpoint);
  await using target = open(server, proxy);
  const data = volume();
  const calm = storm(1, 0.12);
  // Listings are XML without a checksum: a flipped bit in one is the service's word.
  proxy.decide = (exchange) => {
    const fault = calm(exchange);
    return fault?.kind === "damage answer" && exchange.path.includes("list-type") ? undefined : fault;
  };
  await backUp(target, data, "a");
  await backUp(target, data, "b");
  for (const name of ["a", "b"]) assert.deepEqual(await restored(target, name), data.content(name));
  assert.deepEqual((await verifyBackups(target, OPTIONS)).bad, []);
  await deleteBackup(target, { volume: "v", backup: "a" }, { settleMs: 0 });
  assert.deepEqual(await restored(target, "b"), data.content("b"));
  assert.deepEqual((await listBackups(target, "v")).map(({ name }) => name), ["b"]);
  assert.ok(proxy.seen.length > 100);
});

peerTest(
  "a service that goes away ends a backup, which then goes on with what is there",
  { needs },
  async () => {
    await using server = await s3Server();
    await using proxy = await faultProxy(server.endpoint);
    await using target = open(server, proxy);
    const data = volume();
    for (const allowed of [3, 6]) {
      let uploads = 0;
      proxy.decide = ({ method, path }) =>
        method === "PUT" && path.includes(".blk") && ++uploads > allowed ? { kind: "cut" } : undefined;
      await assert.rejects(backUp(target, data, "a"), /the connection failed/);
      proxy.decide = () => undefined;
      const record = await inspectBackup(target, { volume: "v", backup: "a" });
      assert.ok(record === undefined || record.createdTime === "", "it does not look whole");
    }
    const before = proxy.seen.length;
    await backUp(target, data, "a");
    const puts = proxy.seen.slice(before).filter(({ method, path }) =>
      method === "PUT" && path.includes(".blk")
    );
    assert.ok(puts.length <= UNITS * 4096 / BLOCK - 9, `${puts.length} blocks were uploaded again`);
    assert.deepEqual(await restored(target, "a"), data.content("a"));
  },
);

peerTest("listings that lag behind lose nothing", { needs }, async () => {
  await using server = await s3Server();
  await using proxy = await faultProxy(server.endpoint);
  await using target = open(server, proxy);
  const data = volume();
  await backUp(target, data, "a");
  // Listings show nothing at all from now on, as if they were old.
  const empty = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
  proxy.decide = ({ path }) =>
    path.includes("list-type") ? { kind: "status", status: 200, body: empty } : undefined;
  await backUp(target, data, "b");
  await deleteBackup(target, { volume: "v", backup: "a" }, { settleMs: 0 });
  proxy.decide = () => undefined;
  assert.deepEqual(await restored(target, "b"), data.content("b"));
  assert.deepEqual((await verifyBackups(target, OPTIONS)).bad, []);
});

peerTest("a block that is wrong or missing in the store is named, with its backup", { needs }, async () => {
  await using server = await s3Server();
  await using proxy = await faultProxy(server.endpoint);
  await using target = open(server, proxy);
  const data = volume();
  await backUp(target, data, "a");
  const record = await inspectBackup(target, { volume: "v", backup: "a" });
  const [first, second] = record?.blocks ?? [];
  const path = (checksum = ""): string =>
    `${server.files}/x/backupstore/volumes/${folderOf(server)}/blocks/${checksum.slice(0, 2)}/${
      checksum.slice(2, 4)
    }/${checksum}.blk`;
  const good = Deno.readFileSync(path(first?.checksum));
  const bad = good.slice();
  bad[bad.length >> 1] = (bad[bad.length >> 1] ?? 0) ^ 0xff;
  Deno.writeFileSync(path(first?.checksum), bad);
  const failure = async (): Promise<BlockError> => {
    try {
      await restored(target, "a");
    } catch (error) {
      assert.ok(error instanceof BlockError);
      return error;
    }
    throw new assert.AssertionError({ message: "a damaged block went through" });
  };
  const damaged = await failure();
  assert.ok(damaged.message.includes(first?.checksum ?? "?") && damaged.message.includes("a"));
  Deno.writeFileSync(path(first?.checksum), good);
  Deno.removeSync(path(second?.checksum));
  assert.match((await failure()).message, /missing/);
  const { bad: found } = await verifyBackups(target, OPTIONS);
  assert.deepEqual(found.map(({ checksum }) => checksum), [second?.checksum]);
});

/** The two levels of hash and the name, of the only volume. */
function folderOf(server: S3Server): string {
  const only = (directory: string): string => {
    const [entry] = [...Deno.readDirSync(directory)].filter(({ isDirectory }) => isDirectory);
    return entry?.name ?? "";
  };
  const base = `${server.files}/x/backupstore/volumes`, one = only(base), two = only(`${base}/${one}`);
  return `${one}/${two}/v`;
}
