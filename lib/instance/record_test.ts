import assert from "node:assert/strict";
import fc from "fast-check";
import { tempDir } from "../../tests/support/temp.ts";
import { FilesLibc } from "../io/files_libc.ts";
import {
  decodeRecord,
  DirectoryRecordStore,
  encodeRecord,
  type ProcessRecord,
  RecordError,
} from "./record.ts";

const record: ProcessRecord = {
  name: "vol-e-0",
  uuid: "0b0f3a52-2f53-4d52-8a3a-0f6f0f3a5252",
  binary: "engine",
  args: ["controller", "vol"],
  portCount: 1,
  portArgs: ["--listen,:"],
  portStart: 10000,
  portEnd: 10000,
  host: "boot pid:[1]",
  pid: 17,
  startTicks: 1234,
  state: "running",
  error: "",
  createdMs: 1,
  deleting: false,
  replaces: "",
  superseded: false,
};

Deno.test("a record is read as it was written", () => {
  assert.deepEqual(decodeRecord(encodeRecord(record)), record);
  const texts = { args: fc.array(fc.string()), error: fc.string(), binary: fc.string(), host: fc.string() };
  const numbers = { pid: fc.nat(), startTicks: fc.nat(), createdMs: fc.nat() };
  const flags = { deleting: fc.boolean(), superseded: fc.boolean() };
  fc.assert(fc.property(fc.record({ ...texts, ...numbers, ...flags }), (change) => {
    assert.deepEqual(decodeRecord(encodeRecord({ ...record, ...change })), { ...record, ...change });
  }));
});

Deno.test("a record that makes no sense is an error that names the key", () => {
  const broken = (change: Record<string, unknown>): Uint8Array =>
    new TextEncoder().encode(JSON.stringify({ version: 1, ...record, ...change }));
  const cases: [Record<string, unknown>, RegExp][] = [
    [{ version: 2 }, /"version"/],
    [{ name: "../x" }, /"name"/],
    [{ uuid: "../../etc/passwd" }, /"uuid"/],
    [{ state: "dancing" }, /"state"/],
    [{ pid: -1 }, /"pid"/],
    [{ pid: "17" }, /"pid"/],
    [{ args: [1] }, /"args"/],
    [{ replaces: null }, /"replaces"/],
  ];
  for (const [change, message] of cases) {
    assert.throws(
      () => decodeRecord(broken(change)),
      (error) => error instanceof RecordError && message.test(error.message),
    );
  }
  for (const text of ["", "{", "null", "[]", "1"]) {
    assert.throws(() => decodeRecord(new TextEncoder().encode(text)), RecordError, text);
  }
});

Deno.test("records survive in their directory; what cannot be read is named and left alone", () => {
  using directory = tempDir();
  const path = directory.join("deep", "state");
  {
    using store = new DirectoryRecordStore(new FilesLibc(), path);
    store.save(record);
    store.save({ ...record, state: "stopping" });
    Deno.writeTextFileSync(`${path}/broken.json`, "{");
    Deno.writeTextFileSync(`${path}/${record.uuid}.json.tmp`, "{");
    assert.throws(
      () => new DirectoryRecordStore(new FilesLibc(), path),
      RecordError,
      "one manager at a time",
    );
  }
  using store = new DirectoryRecordStore(new FilesLibc(), path);
  const problems: string[] = [];
  const loaded = store.load((file) => problems.push(file));
  assert.deepEqual(loaded, [{ ...record, state: "stopping" }]);
  assert.deepEqual(problems, [`${path}/broken.json`]);
  assert.deepEqual([...Deno.readDirSync(path)].map(({ name }) => name).sort(), [
    `${record.uuid}.json`,
    "broken.json",
  ]);
  store.remove(record.uuid);
  store.remove(record.uuid);
  assert.deepEqual(store.load(() => {}), []);
});
