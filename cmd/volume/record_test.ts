import assert from "node:assert/strict";
import fc from "fast-check";
import { tempDir } from "../../tests/support/temp.ts";
import {
  directoriesOf,
  listVolumes,
  parseRecord,
  placeReplicas,
  readRecord,
  readRecords,
  rebuildSettings,
  RecordError,
  type VolumeRecord,
  withRebuild,
  writeRecord,
} from "./record.ts";
import { InUseError, VolumeUse, whoUses } from "./use.ts";

function record(directories: readonly string[], count = 3): VolumeRecord {
  return {
    format: 1,
    name: "v1",
    bytes: 4096,
    created: "2026-01-01T00:00:00Z",
    state: "ready",
    revisionCounter: false,
    replicas: placeReplicas("v1", count, directories),
  };
}

Deno.test("copies are spread over the directories in turn", () => {
  const places = placeReplicas("v1", 5, ["/a", "/b"]);
  assert.deepEqual(places.map(({ directory }) => directory), [
    "/a/v1-r-1",
    "/b/v1-r-2",
    "/a/v1-r-3",
    "/b/v1-r-4",
    "/a/v1-r-5",
  ]);
  assert.deepEqual(directoriesOf(record(["/a", "/b"])), ["/a", "/b"]);
});

Deno.test("a record is found in any of its directories, and one that is away does not matter", () => {
  using directory = tempDir();
  const a = directory.join("a"), b = directory.join("b");
  Deno.mkdirSync(b);
  writeRecord(record([a, b]));
  assert.equal(readRecord("v1", [a]), undefined);
  assert.deepEqual(readRecord("v1", [a, b]), record([a, b]));
  assert.deepEqual(listVolumes([a, b]), ["v1"]);
});

Deno.test("two volumes of one name are told apart, and nobody guesses which is meant", () => {
  using directory = tempDir();
  const a = directory.join("a"), b = directory.join("b");
  for (const path of [a, b]) Deno.mkdirSync(path);
  const [one, two] = [{ ...record([a]), created: "2026-01-01" }, { ...record([b]), created: "2026-01-02" }];
  writeRecord(one);
  writeRecord(two);
  assert.throws(
    () => readRecord("v1", [a, b]),
    { name: "RecordError", message: `there are 2 volumes v1, in ${a} and ${b}; say which with --dir` },
  );
  assert.deepEqual([readRecord("v1", [a]), readRecord("v1", [b])], [one, two]);
  assert.deepEqual(readRecords("v1", [a, b]), [one, two]);
  // An older record of the same volume, in a directory that was away: the first one counts.
  writeRecord({ ...record([a, b]), created: "2026-01-01" });
  Deno.writeTextFileSync(`${b}/v1.volume.json`, JSON.stringify({ ...one, bytes: one.bytes * 2 }));
  assert.deepEqual(readRecord("v1", [a, b])?.replicas, record([a, b]).replicas);
});

Deno.test("how copies are filled is remembered, and what nobody chose leaves the record as it was", () => {
  using directory = tempDir();
  const plain = record([directory.path]);
  assert.equal(withRebuild(plain, {}), plain);
  assert.deepEqual(rebuildSettings(plain), { bytesPerSecond: 0, verify: false });
  const limited = withRebuild(withRebuild(plain, { bytesPerSecond: 1000 }), { verify: true });
  writeRecord(limited);
  assert.deepEqual(readRecord("v1", [directory.path]), limited);
  assert.deepEqual(rebuildSettings(limited), { bytesPerSecond: 1000, verify: true });
  assert.deepEqual(withRebuild(limited, { bytesPerSecond: 0, verify: false }), plain);
});

Deno.test("whatever a record's file says, it is understood whole or refused with its path", () => {
  const good = JSON.stringify(record(["/a"]));
  assert.equal(parseRecord("/a/v1.volume.json", good).name, "v1");
  const change = (changes: Record<string, unknown>) => JSON.stringify({ ...JSON.parse(good), ...changes });
  for (
    const text of [
      "",
      "null",
      "[]",
      change({ format: 2 }),
      change({ name: "v2" }),
      change({ bytes: -1 }),
      change({ bytes: "1" }),
      change({ state: "x" }),
      change({ replicas: [] }),
      change({ rebuild: 5 }),
      change({ rebuild: { bytesPerSecond: -1 } }),
      change({ rebuild: { bytesPerSecond: "1" } }),
      change({ replicas: [{ name: "../../etc", directory: "/a/../../etc" }] }),
      change({ replicas: [{ name: "v1-r-1", directory: "a/v1-r-1" }] }),
    ]
  ) {
    assert.throws(() => parseRecord("/a/v1.volume.json", text), (error) => {
      assert.ok(error instanceof RecordError);
      return error.message.startsWith("/a/v1.volume.json: ");
    });
  }
  fc.assert(fc.property(fc.json(), (text) => {
    assert.throws(() => parseRecord("/a/v1.volume.json", text), RecordError);
  }));
});

Deno.test("a volume has one user at a time, who can be reached; the lock goes with its holder", () => {
  using directory = tempDir();
  const mine = record([directory.path], 1);
  assert.equal(whoUses(mine), undefined);
  {
    using use = new VolumeUse(mine);
    assert.equal(whoUses(mine), "starting");
    use.announce({ pid: 7, enginePid: 8, control: "c", frontend: "nbd", endpoint: "there", replicas: [] });
    assert.deepEqual((whoUses(mine) as { pid: number }).pid, 7);
    assert.throws(() => new VolumeUse(mine), (error) => {
      assert.ok(error instanceof InUseError);
      assert.match(error.message, /volume v1 is being served already by process 7, at there/);
      return true;
    });
    assert.deepEqual((whoUses(mine) as { pid: number }).pid, 7, "a refused one changes nothing");
  }
  assert.equal(whoUses(mine), undefined);
});
