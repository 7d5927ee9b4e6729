import assert from "node:assert/strict";
import { bytes, type Client, Kit } from "./test_kit.ts";
import { MAX_OPTION_BYTES } from "./haggle.ts";
import { Form } from "./reply.ts";

const ACK = 1, SERVER = 2, INFO = 3, META = 4;
const UNSUP = 0x80000001, INVALID = 0x80000003, UNKNOWN = 0x80000006, TOO_BIG = 0x80000009;
/** HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES, MULTI_CONN, CACHE, FAST_ZERO. */
const FLAGS = 1 | 4 | 8 | 32 | 64 | 256 | 1024 | 2048;
const DF = 128;

const text = (data: Uint8Array) => new TextDecoder().decode(data);

function client(kit: Kit): Client {
  const made = kit.connect();
  made.greet();
  return made;
}

Deno.test("EXPORT_NAME opens the export, with or without padding, by name or as the default", () => {
  using kit = new Kit();
  for (const [flags, name, padding] of [[3, "vol", 0], [3, "", 0], [1, "vol", 124], [0, "", 124]] as const) {
    const made = kit.connect();
    made.greet(flags);
    made.send(bytes("IHAVEOPT", 1, name.length, name));
    const reply = made.take(10 + padding);
    assert.equal(reply.getBigUint64(0), BigInt(64 * 1024 * 1024));
    assert.equal(reply.getUint16(8), FLAGS, "DF needs structured replies");
    assert.ok(new Uint8Array(reply.buffer).subarray(10).every((byte) => byte === 0));
    assert.equal(made.read(0, 512).length, 512);
    made.close();
  }
  kit.assertClean();
});

Deno.test("EXPORT_NAME with another name ends the connection, as the protocol has it", () => {
  using kit = new Kit();
  const made = client(kit);
  made.send(bytes("IHAVEOPT", 1, 5, "other"));
  made.waitForEnd();
  assert.equal(made.pending, 0);
  kit.assertClean();
  assert.match(kit.events.join("\n"), /"other", which is not here/);
});

Deno.test("INFO tells and GO opens; what was not asked for is left out, block sizes are always told", () => {
  using kit = new Kit();
  const made = client(kit);
  const export_ = bytes([0, 2], [64 * 1024 * 1024, 8], [FLAGS, 2]);
  const blocks = bytes([3, 2], 512, 4096, 4 * 1024 * 1024);
  assert.deepEqual(made.option(6, bytes(3, "vol", [0, 2])), [[INFO, export_], [INFO, blocks], [
    ACK,
    bytes(),
  ]]);
  const all = made.option(6, bytes(0, [4, 2], [1, 2], [2, 2], [3, 2], [999, 2]));
  assert.deepEqual(all.map(([type]) => type), [INFO, INFO, INFO, INFO, ACK]);
  assert.deepEqual(all[2], [INFO, bytes([1, 2], "vol")]);
  assert.deepEqual(all[3], [INFO, bytes([2, 2], "Drover volume vol")]);
  assert.equal(made.option(8)[0]?.[0], ACK);
  const go = made.option(7, bytes(3, "vol", [1, 2], [0, 2]));
  assert.deepEqual(go[0], [INFO, bytes([0, 2], [64 * 1024 * 1024, 8], [FLAGS | DF, 2])]);
  made.form = Form.STRUCTURED;
  assert.equal(made.read(512, 512).length, 512);
  made.close();
  kit.assertClean();
});

Deno.test("an unknown export is an error, and the handshake goes on", () => {
  using kit = new Kit({ exportName: "Ärger/2" });
  const made = client(kit);
  for (const option of [6, 7]) {
    assert.equal(made.option(option, bytes(3, "vol", [0, 2])).at(-1)?.[0], UNKNOWN);
    assert.equal(made.option(option, bytes(5, "\ufeffAb", [0, 2])).at(-1)?.[0], UNKNOWN);
  }
  const name = new TextEncoder().encode("Ärger/2");
  assert.equal(made.option(6, bytes(name.length, name, [0, 2])).at(-1)?.[0], ACK);
  made.close();
  kit.assertClean();
});

Deno.test("LIST names the export and describes it", () => {
  using kit = new Kit();
  const made = client(kit);
  assert.deepEqual(made.option(3), [[SERVER, bytes(3, "vol", "Drover volume vol")], [ACK, bytes()]]);
  assert.equal(made.option(3, bytes(1))[0]?.[0], INVALID);
  made.close();
});

Deno.test("ABORT is acknowledged, whatever comes with it, then the server closes", () => {
  using kit = new Kit();
  for (const data of [bytes(), bytes("why")]) {
    const made = client(kit);
    assert.deepEqual(made.option(2, data), [[ACK, bytes()]]);
    made.waitForEnd();
    assert.equal(made.end, 0);
  }
  kit.assertClean();
});

Deno.test("options that are not known here are refused and skipped", () => {
  using kit = new Kit();
  const made = client(kit);
  for (const option of [0, 4, 12, 77, 0xffffffff]) {
    const [type, data] = made.option(option, new Uint8Array(option % 100))[0] ?? [0, bytes()];
    assert.equal(type, UNSUP);
    assert.match(text(data), /not known/);
  }
  const [type, data] = made.option(5)[0] ?? [0, bytes()];
  assert.equal(type, UNSUP);
  assert.match(text(data), /TLS/);
  assert.equal(made.option(3).at(-1)?.[0], ACK);
  made.close();
});

Deno.test("metadata contexts: queries, wildcards, selections that replace each other", () => {
  using kit = new Kit();
  const made = client(kit);
  const LIST = 9, SET = 10, name = "base:allocation";
  const query = (...queries: string[]) =>
    bytes(3, "vol", queries.length, ...queries.flatMap((q) => [q.length, q]));
  assert.equal(made.option(SET, query(name))[0]?.[0], INVALID, "needs structured replies");
  assert.equal(made.option(8)[0]?.[0], ACK);
  const found = (id: number): [number, Uint8Array][] => [[META, bytes(id, name)], [ACK, bytes()]];
  const none: [number, Uint8Array][] = [[ACK, bytes()]];
  assert.deepEqual(made.option(LIST, query()), found(0));
  assert.deepEqual(made.option(LIST, query("base:")), found(0));
  assert.deepEqual(made.option(LIST, query("x-a:b", name)), found(0));
  assert.deepEqual(made.option(LIST, query("qemu:")), none);
  assert.deepEqual(made.option(SET, query("base:")), none, "no wildcards in selections");
  assert.deepEqual(made.option(SET, query()), none);
  assert.deepEqual(made.option(SET, query("x:y", name, name)), found(1));
  assert.equal(made.option(SET, bytes(5, "other", 1, name.length, name))[0]?.[0], UNKNOWN);
  assert.equal(made.option(7, bytes(0, [0, 2])).at(-1)?.[0], ACK);
  made.form = Form.STRUCTURED;
  made.request(7, 0, 4096);
  assert.equal(made.reply().error, 22, "the failed selection took the earlier one away");
  made.close();
});

Deno.test("extended headers imply chunks; structured replies cannot be asked for after them", () => {
  using kit = new Kit();
  const made = client(kit);
  assert.equal(made.option(11, bytes(1))[0]?.[0], INVALID);
  assert.equal(made.option(11)[0]?.[0], ACK);
  assert.equal(made.option(8)[0]?.[0], 0x8000000a);
  assert.equal(made.option(11)[0]?.[0], ACK);
  made.close();
});

Deno.test("lengths that do not add up are invalid, and the next option is understood", () => {
  using kit = new Kit();
  const made = client(kit);
  assert.equal(made.option(8, bytes(1))[0]?.[0], INVALID);
  assert.equal(made.option(8)[0]?.[0], ACK);
  const cases: [number, Uint8Array][] = [
    [6, bytes()],
    [6, bytes(0)],
    [6, bytes(4, "vol", [0, 2])],
    [6, bytes(0xffffffff, "vol", [0, 2])],
    [6, bytes(3, "vol", [1, 2])],
    [6, bytes(3, "vol", [0, 2], "x")],
    [7, bytes(3, "vol", [65535, 2], [0, 2])],
    [7, bytes(5000, "v".repeat(5000), [0, 2])],
    [9, bytes()],
    [9, bytes(3, "vol")],
    [10, bytes(3, "vol", 0xffffffff)],
    [10, bytes(3, "vol", 1, 0xfffffff0, "base:allocation")],
    [10, bytes(3, "vol", 1, 15, "base:allocation", "x")],
    [10, bytes(0x7fffffff, "vol", 0)],
  ];
  for (const [option, data] of cases) {
    assert.deepEqual(made.option(option, data).map(([type]) => type), [INVALID], `${option}: ${data}`);
  }
  assert.equal(made.option(6, bytes(0, [0, 2])).at(-1)?.[0], ACK);
  made.close();
  kit.assertClean();
});

Deno.test("long option data is skipped, not stored; absurd lengths end the connection", () => {
  using kit = new Kit();
  const made = client(kit);
  assert.equal(made.option(77, new Uint8Array(MAX_OPTION_BYTES))[0]?.[0], UNSUP);
  for (const length of [MAX_OPTION_BYTES + 1, 1_000_000]) {
    assert.equal(made.option(9, new Uint8Array(length))[0]?.[0], TOO_BIG);
  }
  assert.equal(made.option(3).at(-1)?.[0], ACK);
  made.send(bytes("IHAVEOPT", 3, 0x7fffffff));
  made.waitForEnd();
  const other = client(kit);
  other.send(bytes("IHAVEOPT", 1, MAX_OPTION_BYTES + 1));
  other.waitForEnd();
  kit.assertClean();
});

Deno.test("wrong flags and wrong magics end the connection", () => {
  using kit = new Kit();
  for (const flags of [4, 0x80000003, 0xffffffff]) {
    const made = kit.connect();
    made.greet(flags);
    made.waitForEnd();
  }
  for (const junk of ["IHAVEOPU........", "GET / HTTP/1.1\r\n", "\x16\x03\x01\x02".repeat(4)]) {
    const made = client(kit);
    made.send(bytes(junk));
    made.waitForEnd();
  }
  kit.assertClean();
  assert.equal(kit.events.filter((event) => /client dropped: sent/.test(event)).length, 6);
});

Deno.test("everything at once and byte by byte is understood the same", () => {
  using kit = new Kit();
  const hello = bytes(3, "IHAVEOPT", 8, 0, "IHAVEOPT", 7, 6, 0, [0, 2]);
  const read = bytes(0x25609513, [0, 2], [0, 2], [5, 8], [0, 8], 512, 0x25609513, [0, 2], [2, 2], [0, 8], [
    0,
    8,
  ], 0);
  const answers: Uint8Array[] = [];
  for (const step of [1, 1000]) {
    const made = kit.connect();
    const all = new Uint8Array([...hello, ...read]);
    for (let at = 0; at < all.length; at += step) {
      made.send(all.subarray(at, at + step));
      kit.world.passes(1);
    }
    made.waitForEnd();
    answers.push(new Uint8Array(made.take(made.pending).buffer));
  }
  assert.ok((answers[0]?.length ?? 0) > 512);
  assert.deepEqual(answers[0], answers[1]);
  kit.assertClean();
});
