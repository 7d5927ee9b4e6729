import assert from "node:assert/strict";
import { tempDir } from "../../tests/support/temp.ts";
import type { SnapshotInfo } from "../../lib/client/snapshots.ts";
import { FilesLibc } from "../../lib/io/files_libc.ts";
import { freedByRemoval, overlap, treeOf } from "./tree.ts";

function disk(
  name: string,
  parent: string,
  children: string[],
  more: Partial<SnapshotInfo> = {},
): SnapshotInfo {
  return {
    name,
    parent,
    children: Object.fromEntries(children.map((child) => [child, true])),
    removed: false,
    usercreated: true,
    created: `2026-01-01T00:00:0${name.length}Z`,
    size: "4096",
    labels: {},
    ...more,
  };
}

function drawn(...disks: SnapshotInfo[]): string[] {
  return treeOf(Object.fromEntries(disks.map((one) => [one.name, one])))
    .map(({ prefix, info }) => prefix + info.name);
}

Deno.test("a chain is drawn straight down, branches beside the line to the head", () => {
  assert.deepEqual(
    drawn(disk("volume-head", "b", []), disk("b", "a", ["volume-head"]), disk("a", "", ["b"])),
    [
      "a",
      "b",
      "volume-head",
    ],
  );
  assert.deepEqual(
    drawn(
      disk("volume-head", "d", []),
      disk("d", "a", ["volume-head"]),
      disk("b", "a", ["cc"]),
      disk("cc", "b", []),
      disk("a", "", ["b", "d"]),
    ),
    ["a", "├─ b", "│  cc", "└─ d", "   volume-head"],
  );
  assert.deepEqual(drawn(disk("lost", "nobody", [])), ["lost"], "also without its parent");
  assert.deepEqual(drawn(), []);
});

Deno.test("records that go round in a circle end", () => {
  assert.deepEqual(drawn(disk("a", "b", ["b"]), disk("b", "a", ["a"])), []);
});

Deno.test("what two lists of extents share is counted once", () => {
  const extents = (...pairs: [number, number][]) =>
    pairs.map(([offset, length]) => ({ offset, length, unwritten: false }));
  assert.equal(overlap(extents([0, 10], [20, 10]), extents([5, 20])), 10);
  assert.equal(overlap(extents([0, 10]), extents([10, 10])), 0);
  assert.equal(overlap(extents(), extents([0, 1])), 0);
});

Deno.test("removal frees what the only child has, too; all of a leaf; nothing of a fork", () => {
  using directory = tempDir();
  const files = new FilesLibc();
  const write = (name: string, ...blocks: number[]) => {
    const fd = files.open(directory.join(name), { write: true, create: 0o600 });
    files.truncate(fd, 1024 * 1024);
    for (const n of blocks) files.writeAt(fd, new Uint8Array(4096).fill(1), n * 4096);
    files.sync(fd);
    files.close(fd);
  };
  write("volume-snap-a.img", 0, 1, 2);
  write("volume-head-001.img", 1, 2, 9);
  const freed = (info: SnapshotInfo) => freedByRemoval(files, directory.path, "volume-head-001.img", info);
  assert.equal(freed(disk("a", "", ["volume-head"])), 2 * 4096);
  assert.equal(freed(disk("a", "", [], { size: "12288" })), 12288);
  assert.equal(freed(disk("a", "", ["volume-head", "b"])), 0);
  assert.equal(freed(disk("volume-head", "a", [])), 0);
  assert.throws(() => freed(disk("x", "", ["volume-head"])), /ENOENT/);
});
