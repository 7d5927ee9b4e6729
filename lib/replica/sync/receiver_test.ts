import assert from "node:assert/strict";
import { tempDir } from "../../../tests/support/temp.ts";
import { freePortRange } from "../../../tests/support/ports.ts";
import { type Batch, batchCheck, batchSum, encodeTable } from "./batches.ts";
import type { JobContext } from "./job.ts";
import { receive, type ReceiveEvent, type ReceiveResult } from "./receiver.ts";
import type { Verify } from "./reception.ts";
import { SsyncClient } from "./ssync_client.ts";

const FILE = "volume-snap-a.img", SIZE = 8192;

interface Setup {
  readonly client: SsyncClient;
  readonly result: Promise<ReceiveResult>;
  tell(news: unknown): void;
}

/** A receiver in this thread, and a connection to it. */
async function setUp(directory: string, verify: Verify): Promise<Setup> {
  const listening = Promise.withResolvers<number>();
  let tell = (_news: unknown) => {};
  const context: JobContext = {
    signal: new AbortController().signal,
    event: (event) => {
      if ("port" in (event as ReceiveEvent)) listening.resolve((event as { port: number }).port);
    },
    onTell: (listener) => tell = listener,
  };
  const ports = { first: freePortRange(1), count: 1 };
  const result = receive(
    { directory, file: FILE, host: "127.0.0.1", ports, shared: true, limit: 0, verify },
    context,
  );
  result.catch(() => {});
  const client = await SsyncClient.connect("127.0.0.1", await listening.promise, 10_000);
  return { client, result, tell: (news) => tell(news) };
}

/** One batch that is the whole file: a block of data, then a hole. */
function batchOf(
  fill: number,
): { batch: Batch; table: Uint8Array<ArrayBuffer>; data: Uint8Array<ArrayBuffer> } {
  const batch = { begin: 0, end: SIZE, runs: [{ offset: 0, length: 4096 }], bytes: 4096 };
  return { batch, table: encodeTable(batch), data: new Uint8Array(4096).fill(fill) };
}

async function fillFile(client: SsyncClient): Promise<void> {
  await client.call("GET", `open?begin=0&end=${SIZE}&directIO=true`);
  const { table, data } = batchOf(7);
  assert.deepEqual(JSON.parse((await client.call("GET", "droverPart")).text), {
    begin: 0,
    end: SIZE,
    compare: false,
  });
  await client.call("POST", `droverData?begin=0&end=${SIZE}&check=${batchCheck(table, data)}`, table, data);
}

for (const verify of ["sample", "everything"] as const) {
  Deno.test(`what was received is read back once more, as far as is wanted (${verify}), and then it is complete`, async () => {
    using dir = tempDir();
    const { client, result, tell } = await setUp(dir.path, verify);
    using connection = client;
    await fillFile(connection);
    assert.equal(JSON.parse((await connection.call("GET", "droverPart")).text).compare, true);
    const { table, data } = batchOf(7);
    const lines = new TextEncoder().encode(`0 ${SIZE} ${batchSum(table, data)}`);
    assert.equal((await connection.call("POST", "droverCompare", lines)).text, "[]");
    assert.deepEqual(JSON.parse((await connection.call("GET", "droverPart")).text), { done: true });
    await connection.call("POST", "droverLeave?checksumMethod=crc64&checksum=00000000000000ab");
    tell({ finish: true });
    await result;
    assert.deepEqual(Deno.readFileSync(dir.join(FILE)).slice(0, 4096), data);
    const record = JSON.parse(Deno.readTextFileSync(dir.join(`${FILE}.checksum`)));
    assert.equal(record.checksum, "00000000000000ab");
  });
}

Deno.test("a disk that gives back something else than was written makes the transfer fail", async () => {
  using dir = tempDir();
  const { client, result } = await setUp(dir.path, "sample");
  using connection = client;
  await fillFile(connection);
  await connection.call("GET", "droverPart");
  const file = Deno.openSync(dir.join(FILE), { write: true });
  file.writeSync(new Uint8Array([1]));
  file.close();
  const { table, data } = batchOf(7);
  const lines = new TextEncoder().encode(`0 ${SIZE} ${batchSum(table, data)}`);
  await assert.rejects(connection.call("POST", "droverCompare", lines), /reads back differently/);
  await assert.rejects(result, /reads back differently/);
});

Deno.test("a file is not complete before everything is in place, and a finish that comes too early says so", async () => {
  using dir = tempDir();
  const { client, result, tell } = await setUp(dir.path, "nothing");
  using connection = client;
  await connection.call("GET", `open?begin=0&end=${SIZE}&directIO=true`);
  await connection.call("GET", "droverPart");
  tell({ finish: true });
  await assert.rejects(result, /is not complete/);
});

Deno.test("of many batches some are read back, each of them whole, and only these", async () => {
  using dir = tempDir();
  const batches = 300, bytes = batches * 4096;
  const { client, result, tell } = await setUp(dir.path, "sample");
  using connection = client;
  await connection.call("GET", `open?begin=0&end=${bytes}&directIO=true`);
  await connection.call("GET", "droverPart");
  const lineOf = (i: number) => {
    const begin = i * 4096,
      batch = { begin, end: begin + 4096, runs: [{ offset: begin, length: 4096 }], bytes: 4096 };
    return { begin, end: batch.end, table: encodeTable(batch), data: new Uint8Array(4096).fill(i) };
  };
  for (let i = 0; i < batches; i++) {
    const { begin, end, table, data } = lineOf(i);
    const name = `droverData?begin=${begin}&end=${end}&check=${batchCheck(table, data)}`;
    await connection.call("POST", name, table, data);
  }
  const asked = new Set<number>();
  for (;;) {
    const part = JSON.parse((await connection.call("GET", "droverPart")).text);
    if (part.done) break;
    assert.deepEqual([part.compare, part.end - part.begin, part.begin % 4096], [true, 4096, 0]);
    asked.add(part.begin);
    const { begin, end, table, data } = lineOf(part.begin / 4096);
    const line = new TextEncoder().encode(`${begin} ${end} ${batchSum(table, data)}`);
    assert.equal((await connection.call("POST", "droverCompare", line)).text, "[]");
  }
  assert.equal(asked.size, 5);
  await connection.call("POST", "droverLeave?checksumMethod=&checksum=");
  tell({ finish: true });
  assert.equal((await result).received, bytes);
});
