import assert from "node:assert/strict";
import {
  fileIn,
  listMountPoints,
  makeMountPoint,
  mountPointOf,
  placeDirectory,
  removeMountPoint,
} from "./place.ts";
import { tempDir } from "../../../tests/support/temp.ts";

Deno.test("mount points of a volume are numbered, listed and removed with their directory", () => {
  using directory = tempDir();
  const place = { run: directory.path, name: "vol-1" };
  assert.deepEqual(listMountPoints(place), []);
  const first = makeMountPoint(place), second = makeMountPoint(place);
  assert.deepEqual(listMountPoints(place), [first, second]);
  assert.equal((Deno.statSync(first).mode ?? 0) & 0o777, 0o700);
  removeMountPoint(place, first);
  assert.equal(makeMountPoint(place), first, "a free number is used again");
  removeMountPoint(place, first);
  removeMountPoint(place, second);
  removeMountPoint(place, second);
  assert.deepEqual([...Deno.readDirSync(directory.join("loop"))], []);
});

Deno.test("a mount point with something in it is not removed", () => {
  using directory = tempDir();
  const place = { run: directory.path, name: "v" };
  const mountPoint = makeMountPoint(place);
  Deno.writeTextFileSync(`${mountPoint}/precious`, "");
  assert.throws(() => removeMountPoint(place, mountPoint));
  assert.equal(Deno.statSync(`${mountPoint}/precious`).isFile, true);
});

Deno.test("a backing file belongs to a volume only by its exact path", () => {
  const place = { run: "/run/drover", name: "a" };
  assert.equal(mountPointOf(place, fileIn("/run/drover/loop/a/3")), "/run/drover/loop/a/3");
  for (
    const other of [
      "/run/drover/loop/ab/3/volume",
      "/run/drover/loop/a/3/volume2",
      "/run/drover/loop/a/b/volume",
      "/run/drover/loop/a/../a/3/volume",
      "/x/run/drover/loop/a/3/volume",
      "/volume",
    ]
  ) assert.equal(mountPointOf(place, other), null);
});

Deno.test("names and run directories that would lead elsewhere are refused", () => {
  for (const name of ["", ".", "..", "a/b", "../x", "a\0", "-a", "ä", "x".repeat(256)]) {
    assert.throws(() => placeDirectory({ run: "/run", name }), /cannot name a directory/);
  }
  for (const run of ["", "run", "/", "/run/", "/a\0b"]) {
    assert.throws(() => placeDirectory({ run, name: "a" }), /not an absolute path/);
  }
});
