import assert from "node:assert/strict";
import { tempDir } from "../../../tests/support/temp.ts";
import { checkBadPaths, checkContract, checkOddNames } from "./contract_test_kit.ts";
import { openDirectory } from "./directory.ts";

Deno.test("a directory keeps what a target promises, and nothing is left of what was removed", async () => {
  using dir = tempDir();
  await using target = await openDirectory(dir.path, "vfs:///x");
  await checkContract(target);
  await checkOddNames(target);
  await checkBadPaths(target);
  assert.deepEqual([...Deno.readDirSync(dir.path)], []);
});

Deno.test("what a crash left beside an object is not seen, and goes with its folder", async () => {
  using dir = tempDir();
  await using target = await openDirectory(dir.path, "vfs:///x");
  await target.write("v/blocks/one.blk", new Uint8Array(3));
  Deno.writeTextFileSync(dir.join("v/blocks/two.blk.tmp.0123456789abcdef"), "half");
  Deno.writeTextFileSync(dir.join("v/blocks/three.blk.tmp"), "half, by another program");
  assert.deepEqual(await target.children("v/blocks"), ["one.blk"]);
  const seen: string[] = [];
  for await (const { path } of target.list("v/")) seen.push(path);
  assert.deepEqual(seen, ["v/blocks/one.blk"]);
  await target.removeTree("v/");
  assert.deepEqual([...Deno.readDirSync(dir.path)], []);
});

Deno.test("a write that fails leaves the old content and no other file", async () => {
  using dir = tempDir();
  await using target = await openDirectory(dir.path, "vfs:///x");
  await target.write("a/record", new TextEncoder().encode("old"));
  const stop = new AbortController();
  stop.abort(new Error("enough"));
  await assert.rejects(target.write("a/record", new Uint8Array(10), stop.signal), /enough/);
  // A directory in the way of the rename, as the last thing that can go wrong.
  Deno.mkdirSync(dir.join("a/taken"));
  Deno.writeTextFileSync(dir.join("a/taken/x"), "");
  await assert.rejects(
    target.write("a/taken", new Uint8Array(10)),
    /vfs:\/\/\/x: write a\/taken: there is a directory/,
  );
  assert.equal(new TextDecoder().decode(await target.read("a/record")), "old");
  assert.deepEqual([...Deno.readDirSync(dir.join("a"))].map(({ name }) => name).sort(), ["record", "taken"]);
});

Deno.test("writers and removers of the same folder do not get into each other's way", async () => {
  using dir = tempDir();
  await using one = await openDirectory(dir.path, "vfs:///x");
  await using two = await openDirectory(dir.path, "vfs:///x");
  await Promise.all(Array.from({ length: 40 }, async (_, index) => {
    const [target, other] = index % 2 === 0 ? [one, two] : [two, one];
    await target.write(`deep/er/${index % 4}/${index}`, new Uint8Array([index]));
    await other.remove(`deep/er/${index % 4}/${index}`);
    await target.write(`kept/${index % 8}/${index}`, new Uint8Array([index]));
  }));
  assert.deepEqual(await one.children(""), ["kept"]);
  let count = 0;
  for await (const { path } of one.list("kept/")) {
    assert.deepEqual([...await two.read(path)], [Number(path.split("/")[2])]);
    count++;
  }
  assert.equal(count, 40);
});

Deno.test("a directory that is not there is refused, with what to do", async () => {
  using dir = tempDir();
  await assert.rejects(openDirectory(dir.join("none"), "vfs:///n"), /none is not there; create it first/);
  Deno.writeTextFileSync(dir.join("file"), "");
  await assert.rejects(openDirectory(dir.join("file"), "vfs:///n"), /file is not a directory/);
});
