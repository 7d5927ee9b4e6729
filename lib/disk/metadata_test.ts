import assert from "node:assert/strict";
import fc from "fast-check";
import { changeTimeText, decodeChecksumRecord, encodeChecksumRecord } from "./checksum_record.ts";
import {
  decodeDiskRecord,
  type DiskRecord,
  encodeDiskRecord,
  newDiskRecord,
  recordTime,
} from "./disk_record.ts";
import { MetadataError } from "./errors.ts";
import { goString, goValue } from "./go_json.ts";
import {
  diskNameProblem,
  headName,
  headNumber,
  isTemporary,
  snapshotDiskName,
  snapshotName,
} from "./names.ts";
import {
  decodeVolumeMeta,
  encodeVolumeMeta,
  isEmptyMeta,
  newVolumeMeta,
  type VolumeMeta,
} from "./volume_meta.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (content: Uint8Array) => new TextDecoder().decode(content);

Deno.test("volume.meta is written byte for byte as Longhorn writes it", () => {
  const meta: VolumeMeta = {
    ...newVolumeMeta(1073741824, "volume-head-001.img"),
    dirty: true,
    parent: "volume-snap-s1.img",
  };
  const expected =
    `{"Size":1073741824,"Head":"volume-head-001.img","Dirty":true,"Rebuilding":false,"Error":"","Parent":"volume-snap-s1.img","SectorSize":512,"BackingFilePath":"","Encrypted":false}\n`;
  assert.equal(text(encodeVolumeMeta(meta)), expected);
  assert.deepEqual({ ...decodeVolumeMeta("volume.meta", bytes(expected)) }, { ...meta, drover: undefined });
});

Deno.test("volume.meta of older and newer versions is read; unknown keys and Drover's own survive rewriting", () => {
  const old = decodeVolumeMeta("m", bytes(`{"Size":4096,"Head":"volume-head-010.img","Labels":null}`));
  assert.equal(old.encrypted, false);
  assert.equal(old.sectorSize, 512);
  assert.deepEqual(old.unknown, { Labels: null });
  const line =
    `{"Size":4096,"Head":"volume-head-010.img","Dirty":false,"Rebuilding":true,"Error":"x","Parent":"","SectorSize":512,` +
    `"BackingFilePath":"/b","Encrypted":true,"Future":{"a":[1,null,"\\u003c"],"b":true},` +
    `"Drover":{"id":"r1","generation":7,"revision":2,"boot":"b","members":["r1","r2"],"later":1}}\n`;
  const meta = decodeVolumeMeta("m", bytes(line));
  const known = { id: "r1", generation: 7, revision: 2, boot: "b", members: ["r1", "r2"] };
  assert.deepEqual(meta.drover, { ...known, unknown: { later: 1 } });
  assert.equal(text(encodeVolumeMeta(meta)), line);
});

Deno.test("a disk record is written byte for byte as Longhorn writes it", () => {
  const record: DiskRecord = {
    ...newDiskRecord("volume-snap-s1.img", "", "2026-07-12T08:00:00Z"),
    userCreated: true,
    labels: new Map([["k", "v"]]),
  };
  const expected =
    `{"Name":"volume-snap-s1.img","Parent":"","Removed":false,"UserCreated":true,"Created":"2026-07-12T08:00:00Z","Labels":{"k":"v"}}\n`;
  assert.equal(text(encodeDiskRecord(record)), expected);
  assert.deepEqual(decodeDiskRecord("f", "volume-snap-s1.img", bytes(expected)), record);
  assert(text(encodeDiskRecord(newDiskRecord("n.img", "", ""))).includes(`"Labels":null`));
  assert.equal(recordTime(Date.UTC(2026, 6, 12, 8, 0, 0, 999)), "2026-07-12T08:00:00Z");
});

Deno.test("a disk record may hold its parent only, and a stale Name is ignored", () => {
  const restored = decodeDiskRecord("f", "volume-snap-a.img", bytes(`{"Parent":""}`));
  assert.deepEqual(restored, newDiskRecord("volume-snap-a.img", "", ""));
  const stale = decodeDiskRecord(
    "f",
    "volume-snap-b.img",
    bytes(`{"Name":"volume-head-003.img","Parent":"x.img"}`),
  );
  assert.equal(stale.name, "volume-snap-b.img");
});

Deno.test("a checksum record and its change time are written as Longhorn writes them", () => {
  const line =
    `{"method":"crc64","checksum":"00c0ffee00c0ffee","change_time":"2026-07-12 08:00:00.297975939 +0000 UTC",` +
    `"last_hashed_at":"2026-07-12T08:01:00Z","silently_corrupted":false}\n`;
  assert.equal(text(encodeChecksumRecord(decodeChecksumRecord("f", bytes(line)))), line);
  const second = BigInt(Date.UTC(2026, 6, 12, 8)) * 1_000_000n;
  assert.equal(changeTimeText(second + 297975939n), "2026-07-12 08:00:00.297975939 +0000 UTC");
  assert.equal(changeTimeText(second + 500000000n), "2026-07-12 08:00:00.5 +0000 UTC");
  assert.equal(changeTimeText(second), "2026-07-12 08:00:00 +0000 UTC");
  assert.equal(changeTimeText(-1n), "1969-12-31 23:59:59.999999999 +0000 UTC");
});

Deno.test("strings are escaped as Go escapes them, and map keys sorted by code point", () => {
  assert.equal(goString("a<b>&c"), `"a\\u003cb\\u003e\\u0026c"`);
  assert.equal(goString("\u2028\u2029"), `"\\u2028\\u2029"`);
  assert.equal(goString('\u0001\b\f\n\r\t"\\/\u007f'), `"\\u0001\\b\\f\\n\\r\\t\\"\\\\/\u007f"`);
  assert.equal(goString("\ud800x"), `"\ufffdx"`);
  assert.equal(
    goValue({ "\u{1f600}": 1, "\uffff": 2, b: 3, a: 4 }),
    `{"a":4,"b":3,"\uffff":2,"\u{1f600}":1}`,
  );
  const record = {
    ...newDiskRecord("n.img", "", ""),
    labels: new Map([["b", "2"], ["10", "1"], ["__proto__", "x"]]),
  };
  assert(text(encodeDiskRecord(record)).includes(`"Labels":{"10":"1","__proto__":"x","b":"2"}`));
  assert.deepEqual(decodeDiskRecord("f", "n.img", encodeDiskRecord(record)).labels?.get("__proto__"), "x");
});

Deno.test("what is written is read back, whatever the texts", () => {
  const name = fc.string({ unit: "grapheme", maxLength: 20 }).filter((s) => !/[/\0]/.test(s)).map(
    snapshotDiskName,
  );
  const string = fc.string({ unit: "grapheme" });
  fc.assert(fc.property(
    name,
    fc.record({ parent: name, removed: fc.boolean(), userCreated: fc.boolean(), created: string }),
    fc.option(fc.uniqueArray(fc.tuple(string, string), { selector: ([key]) => key })),
    (disk, fields, labels) => {
      const record: DiskRecord = {
        name: disk,
        ...fields,
        labels: labels ? new Map(labels) : null,
        unknown: {},
      };
      assert.deepEqual(decodeDiskRecord("f", disk, encodeDiskRecord(record)), record);
    },
  ));
});

Deno.test("a damaged file is refused with its name and what is wrong", () => {
  const cases: [string, RegExp][] = [
    ["", /not JSON/],
    ["[]", /not a JSON object/],
    ["null", /not a JSON object/],
    [`{"Size":"1"}`, /Size should be a number, found string/],
    [`{"Size":1e300,"Head":"h.img"}`, /not an integer/],
    [`{"Size":-512,"Head":"h.img"}`, /not an integer/],
    [`{"Size":1000,"Head":"h.img"}`, /not a multiple of 512/],
    [`{"Size":4503599627370496,"Head":"h.img"}`, /more than the largest volume/],
    [`{"Size":512,"Head":""}`, /Head is empty/],
    [`{"Size":512,"Head":"../h.img"}`, /must not leave the directory/],
    [`{"Size":512,"Head":"h.txt"}`, /does not end in .img/],
    [`{"Size":512,"Head":"${"x".repeat(300)}.img"}`, /too long/],
    [`{"Size":512,"Head":"h.img","Dirty":1}`, /Dirty should be a boolean/],
    [`{"Size":512,"Head":"h.img","SectorSize":1000}`, /not a multiple of SectorSize/],
    [`{"Size":512,"Head":"h.img","Drover":[]}`, /Drover is not a JSON object/],
    [`{"Size":512,"Head":"h.img","Drover":{"members":[1]}}`, /members should be a list of strings/],
    [`{"Size":512,"Head":"h.img","X":${"[".repeat(100)}${"]".repeat(100)}}`, /nested too deeply/],
    [`{"Size":512,"Head":"h.img","X":${"[".repeat(400000)}`, /not JSON|too deeply/],
  ];
  for (const [content, problem] of cases) {
    assert.throws(() => decodeVolumeMeta("/r/volume.meta", bytes(content)), (error: unknown) => {
      assert(error instanceof MetadataError && error.file === "/r/volume.meta", String(error));
      assert.match(error.message, problem);
      return true;
    });
  }
  assert.throws(() => decodeDiskRecord("f", "a.img", bytes(`{"Parent":"a/b.img"}`)), /must not leave/);
  assert.throws(
    () => decodeDiskRecord("f", "a.img", bytes(`{"Labels":{"a":1}}`)),
    /Labels.a should be a string/,
  );
});

Deno.test("reading never does worse than a typed error, whatever the bytes", () => {
  const near = fc.string({ maxLength: 60 }).map((s) => `{"Size":512,"Head":"h.img",${s}}`);
  fc.assert(fc.property(fc.oneof(fc.uint8Array(), fc.json().map(bytes), near.map(bytes)), (content) => {
    for (
      const decode of [() => decodeVolumeMeta("f", content), () => decodeDiskRecord("f", "a.img", content)]
    ) {
      try {
        decode();
      } catch (error) {
        assert(error instanceof MetadataError, String(error));
      }
    }
  }));
});

Deno.test("an emptied file is told from a damaged one", () => {
  assert(isEmptyMeta(new Uint8Array(0)) && isEmptyMeta(new Uint8Array(4096)) && isEmptyMeta(bytes("\n")));
  assert(!isEmptyMeta(bytes("{")));
});

Deno.test("names of heads, snapshots and half-written files are told apart", () => {
  assert.equal(headName(7), "volume-head-007.img");
  assert.equal(headName(12345), "volume-head-12345.img");
  assert.equal(headNumber("volume-head-010.img"), 10);
  assert.equal(headNumber("volume-head-010.img.meta"), undefined);
  assert.equal(headNumber("volume-snap-volume-head-010.img"), undefined);
  assert.equal(snapshotName("volume-snap-a.b.img"), "a.b");
  assert.equal(snapshotName("volume-head-000.img"), undefined);
  assert(
    isTemporary("volume.meta.tmp") && isTemporary("a.img.meta.tmp") && isTemporary("a.img.checksum..tmp"),
  );
  assert(!isTemporary("volume-snap-x.tmp.img") && !isTemporary("a.img.snap_tmp"));
  assert.equal(diskNameProblem("volume-snap-a.img"), undefined);
});
