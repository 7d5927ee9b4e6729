/**
 * Drover's file transfer with a peer of Longhorn's kind, in both roles, and with peers that mean harm.
 *
 * @module
 */
import assert from "node:assert/strict";
import { FilesLibc } from "../lib/io/files_libc.ts";
import { assertSameFile, fill, layoutOf, makeReplica, startTogether, SyncReplica } from "./sync_kit.ts";
import { peerTest } from "./support/conditional.ts";
import { freePortRange } from "./support/ports.ts";
import { run, spawnLogged } from "./support/process.ts";
import { inRepository } from "./support/repository.ts";
import { tempDir } from "./support/temp.ts";
import { waitFor } from "./support/wait.ts";

const PEER = inRepository("tests/ssync_peer.py");
const IMAGE = "volume-snap-a.img", CHECKSUM = "0123456789abcdef";

/** One replica with a snapshot, and one without anything. */
async function pair(path: string) {
  makeReplica(`${path}/s`, 8192, [{ name: "a", parent: "" }], "a", 6);
  const started = await startTogether(
    new SyncReplica(`${path}/s`, path).start(),
    new SyncReplica(`${path}/t`, path).start("--size", String(8192 * 4096)),
  );
  const [one, two] = started.all;
  return { started, one, two, from: `${path}/s/${IMAGE}`, to: `${path}/t/${IMAGE}` };
}

/** Changes a block, and makes a hole where there was data. */
function spoil(path: string): void {
  const files = new FilesLibc(), fd = files.open(path, { write: true }), bytes = new Uint8Array(4096);
  const [first, second] = files.extents(fd, 0, files.fstat(fd).size);
  fill(bytes, 99);
  files.writeAt(fd, bytes, first.offset);
  files.punchHole(fd, second.offset, 4096);
  files.close(fd);
}

peerTest("Longhorn's sender fills our receiver, first and again", { needs: ["python3"] }, async () => {
  using dir = tempDir();
  const { started, two, from, to } = await pair(dir.path);
  await using _ = started;
  const send = async (file: string, checksum = "") => {
    const { port } = await two.agent.unary("receiverLaunch", { toFileName: file.split("/").at(-1) ?? "" });
    const { stdout } = await run("python3", [PEER, "send", "127.0.0.1", String(port), file], {
      env: { CHECKSUM: checksum },
    });
    return JSON.parse(stdout);
  };
  const data = layoutOf(from).split(" ").reduce((sum, run) => sum + Number(run.split("+")[1]), 0);
  const first = await send(from, CHECKSUM);
  assertSameFile(to, from);
  assert.deepEqual([first.written, first.hashed, first.record], [data, 0, 404]);
  const record = JSON.parse(Deno.readTextFileSync(`${to}.checksum`));
  assert.deepEqual([record.method, record.checksum, record.last_hashed_at], ["crc64", CHECKSUM, ""]);
  spoil(to);
  const again = await send(from);
  assertSameFile(to, from);
  assert.ok(again.written > 0 && again.written <= 2 * 2 * 1024 * 1024, `${again.written} bytes were sent`);
  // The record of the content before must not outlive it.
  assert.throws(() => Deno.statSync(`${to}.checksum`), Deno.errors.NotFound);
  await send(`${from}.meta`);
  assert.deepEqual(Deno.readFileSync(`${to}.meta`), Deno.readFileSync(`${from}.meta`));
});

peerTest("our sender fills Longhorn's receiver, first and again", { needs: ["python3"] }, async () => {
  using dir = tempDir();
  const { started, one, from, to } = await pair(dir.path);
  await using _ = started;
  const receive = async (fromFileName: string, path: string) => {
    const port = freePortRange(1);
    await using peer = spawnLogged("python3", [PEER, "receive", "127.0.0.1", String(port), path]);
    await peer.waitForOutput(/listening/);
    await one.agent.unary("fileSend", { fromFileName, host: "127.0.0.1", port, fastSync: true });
    const [text] = await peer.waitForOutput(/\{.*\}/);
    return JSON.parse(text);
  };
  const first = await receive(IMAGE, to);
  assertSameFile(to, from);
  assert.deepEqual([first.existed, first.direct, first.hashed], [false, "true", 0]);
  spoil(to);
  const again = await receive(IMAGE, to);
  assertSameFile(to, from);
  assert.ok(again.existed && again.hashed > 0 && again.written <= 2 * 2 * 1024 * 1024, JSON.stringify(again));
  const record = await receive(`${IMAGE}.meta`, `${to}.meta`);
  assert.equal(record.direct, "false");
  assert.deepEqual(Deno.readFileSync(`${to}.meta`), Deno.readFileSync(`${from}.meta`));
});

/** Says something to a receiver and reads what it answers until it closes, or for a moment. */
async function say(port: number, text: string | Uint8Array): Promise<string> {
  const connection = await Deno.connect({ hostname: "127.0.0.1", port });
  const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
  try {
    for (let done = 0; done < bytes.length;) done += await connection.write(bytes.subarray(done));
    await connection.closeWrite();
  } catch {
    // Closed before everything was sent: the answer says why.
  }
  let answer = "";
  try {
    for await (const part of connection.readable) answer += new TextDecoder().decode(part);
  } catch {
    // Reset: what came before is what there is.
  }
  return answer;
}

Deno.test("hostile senders get a clear error, and nothing is written outside of the file", async () => {
  using dir = tempDir();
  await using two = await new SyncReplica(dir.join("t"), dir.path).start("--size", "1m");
  const { port } = await two.agent.unary("receiverLaunch", { toFileName: IMAGE });
  const post = (name: string, body = "", length = body.length) =>
    `POST /v1-ssync/${name} HTTP/1.1\r\nHost: x\r\nContent-Length: ${length}\r\n\r\n${body}`;
  const get = (name: string) => `GET /v1-ssync/${name} HTTP/1.1\r\nHost: x\r\n\r\n`;
  const cases: [string | Uint8Array, RegExp][] = [
    [post("writeData?begin=0&end=4", "abcd"), /^HTTP\/1\.1 409 /],
    [get("open?begin=0&end=99999999999999999999&directIO=true"), /^HTTP\/1\.1 400 /],
    [get("open?begin=0&end=-4096&directIO=true"), /^HTTP\/1\.1 400 /],
    [get("open?begin=0&end=5000&directIO=true"), /^HTTP\/1\.1 400 .*whole blocks/s],
    [get("open?begin=0&end=8192&directIO=true"), /^HTTP\/1\.1 200 .*Drover-Sync: 1\r\n.*false$/s],
    [get("open?begin=0&end=4096&directIO=true"), /^HTTP\/1\.1 409 .*do not agree/s],
    [post("writeData?begin=8000&end=9000", "x".repeat(1000)), /^HTTP\/1\.1 400 .*no range/s],
    [post("writeData?begin=4096&end=0", ""), /^HTTP\/1\.1 400 /],
    [post("writeData?begin=0&end=8192", "x", 1), /^HTTP\/1\.1 400 /],
    [post("writeData?begin=0&end=4096", "short", 4096), /^HTTP\/1\.1 400 .*ended inside a body/s],
    [post("sendHole?begin=0&end=1e3"), /^HTTP\/1\.1 400 /],
    [post("sendHole?begin=0&end=8193"), /^HTTP\/1\.1 400 /],
    [get("getChecksum?begin=x&end=4096"), /^HTTP\/1\.1 400 /],
    [get("../../etc/passwd"), /^HTTP\/1\.1 404 /],
    [get("constructor"), /^HTTP\/1\.1 404 /],
    ["DELETE /v1-ssync/open HTTP/1.1\r\n\r\n", /^HTTP\/1\.1 400 /],
    ["GET / HTTP/9.9\r\n\r\n", /^HTTP\/1\.1 400 /],
    [`GET /v1-ssync/open HTTP/1.1\r\nX: ${"y".repeat(20000)}\r\n\r\n`, /^HTTP\/1\.1 431 /],
    ["POST /v1-ssync/close HTTP/1.1\r\nContent-Length: 1e9\r\n\r\n", /^HTTP\/1\.1 400 /],
    ["POST /v1-ssync/close HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", /^HTTP\/1\.1 501 /],
    ["POST /v1-ssync/close HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n", /^HTTP\/1\.1 413 /],
    [post("droverCompare", "nonsense"), /^HTTP\/1\.1 400 .*lines of/s],
    [post("droverCompare", "0 99999 0123456789abcdef"), /^HTTP\/1\.1 400 /],
    [post("droverData?begin=0&end=4096&check=00000000", "\xff\xff\xff\xff"), /^HTTP\/1\.1 400 .*too long/s],
    [
      post("droverData?begin=0&end=4096&check=0", "\x01\0\0\0" + "\0".repeat(16)),
      /^HTTP\/1\.1 400 .*outside/s,
    ],
    [new Uint8Array(70000).fill(65), /^HTTP\/1\.1 431 /],
    [crypto.getRandomValues(new Uint8Array(5000)), /^HTTP\/1\.1 400 /],
    [new Uint8Array(0), /^$/],
  ];
  for (const [text, expected] of cases) {
    const bytes = typeof text === "string" ? Uint8Array.from(text, (c) => c.charCodeAt(0)) : text;
    assert.match(await say(port, bytes), expected, String(text).slice(0, 80));
  }
  // A run that ends behind the batch, and data that does not fit its check.
  const table = new Uint8Array(4 + 16 + 4096), view = new DataView(table.buffer);
  view.setUint32(0, 1, true);
  view.setBigUint64(4, 4096n, true);
  view.setBigUint64(12, 4096n, true);
  const head = (end: number) =>
    new TextEncoder().encode(
      `POST /v1-ssync/droverData?begin=0&end=${end}&check=00000000 HTTP/1.1\r\nContent-Length: ${table.length}\r\n\r\n`,
    );
  assert.match(await say(port, Uint8Array.from([...head(4096), ...table])), /^HTTP\/1\.1 400 .*outside/s);
  assert.match(await say(port, Uint8Array.from([...head(8192), ...table])), /^HTTP\/1\.1 422 .*damaged/s);
  assert.deepEqual(Deno.readFileSync(`${two.directory}/${IMAGE}`), new Uint8Array(8192));
  // It still works for who behaves: several requests at once are answered in order.
  const answers = await say(port, post("writeData?begin=0&end=4", "abcd") + get("getRecordedMetadata"));
  assert.match(answers, /^HTTP\/1\.1 200 .*HTTP\/1\.1 404 /s);
  assert.match(await say(port, post("close?checksumMethod=&checksum=")), /^HTTP\/1\.1 200 /);
  await waitFor(() =>
    Deno.connect({ hostname: "127.0.0.1", port }).then((c) => (c.close(), null), () => true)
  );
  assert.equal(Deno.readTextFileSync(`${two.directory}/${IMAGE}`).slice(0, 4), "abcd");
});

Deno.test("when all ports are taken by receivers the next one is refused, and one that ends gives its port back", async () => {
  using dir = tempDir();
  await using two = await new SyncReplica(dir.join("t"), dir.path).start("--size", "1m");
  const launch = (name: string) =>
    two.agent.unary("receiverLaunch", { toFileName: `volume-snap-${name}.img.meta` });
  const ports = [];
  for (const name of ["a", "b", "c", "d"]) ports.push((await launch(name)).port);
  assert.deepEqual(ports, [3, 4, 5, 6].map((offset) => two.port + offset));
  await assert.rejects(launch("e"), /no port is free/);
  assert.match(
    await say(
      ports[1],
      "GET /v1-ssync/open?begin=0&end=2&directIO=false HTTP/1.1\r\n\r\n" +
        "POST /v1-ssync/writeData?begin=0&end=2 HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}" +
        "POST /v1-ssync/close HTTP/1.1\r\n\r\n",
    ),
    /^HTTP\/1\.1 200 .*HTTP\/1\.1 200 .*HTTP\/1\.1 200 /s,
  );
  const again = await waitFor(() => launch("e").catch(() => null));
  assert.equal(again.port, ports[1]);
  assert.equal(Deno.readTextFileSync(`${two.directory}/volume-snap-b.img.meta`), "{}");
});
