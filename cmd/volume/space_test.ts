import assert from "node:assert/strict";
import { type Space, SpaceWatch } from "./space.ts";

const MIB = 1024 * 1024, GIB = 1024 * MIB;

Deno.test("a disk that runs full is told once per step, and so is space that came back", () => {
  const said: string[] = [], spaces: Record<string, Space> = {};
  const watch = new SpaceWatch((directory) => {
    const space = spaces[directory];
    if (!space) throw new Error("gone");
    return space;
  }, (text) => said.push(text));
  let now = 0;
  const look = (free: number): string[] => {
    spaces["/a"] = { free, total: 10 * GIB };
    watch.look(["/a", "/gone"], now += 10_000);
    return said.splice(0);
  };
  assert.deepEqual(look(5 * GIB), []);
  assert.deepEqual(look(200 * MIB), ["warning: only 200 MiB are free on the disk of /a"]);
  assert.deepEqual(look(150 * MIB), []);
  assert.deepEqual(look(0), [
    "warning: no space is left on the disk of /a: writes to the volume may fail there",
  ]);
  assert.deepEqual(look(0), []);
  assert.deepEqual(look(GIB), ["there is space again on the disk of /a: 1 GiB are free"]);
});

Deno.test("it looks now and then only; large disks and small ones have their own measure", () => {
  const said: string[] = [];
  let looks = 0, space: Space = { free: 20 * GIB, total: 10_000 * GIB };
  const watch = new SpaceWatch(() => (looks++, space), (text) => said.push(text));
  for (let now = 0; now < 4_000; now += 1_000) watch.look(["/a"], now);
  assert.deepEqual([looks, said.length], [1, 0]);
  // Small as a whole: half of it free is not little.
  space = { free: 20 * MIB, total: 24 * MIB };
  watch.look(["/a"], 60_000);
  assert.deepEqual(said, []);
  space = { free: 5 * MIB, total: 24 * MIB };
  watch.look(["/a"], 120_000);
  assert.equal(said.length, 1);
});
