/**
 * What every target has to keep, as one body of checks that the tests of each kind run.
 *
 * @module
 */
import assert from "node:assert/strict";
import { NotFoundError, type Target } from "./target.ts";

const encoder = new TextEncoder();

async function paths(target: Target, prefix: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { path } of target.list(prefix)) found.push(path);
  return found.sort();
}

/** Names that services encode, order or cut in odd ways. */
export const ODD_NAMES = [
  "plus+and space",
  "per%cent%2f",
  "am&per<sand>'\"",
  "ümläut-日本",
  "a=b;c,d@e:f!(g)*~$",
  "..a",
  "x#y?z",
];

/** Objects of all kinds are written, found, read, replaced and removed. Leaves the target empty. */
export async function checkContract(target: Target): Promise<void> {
  assert.equal(await target.head("a/b/one"), undefined);
  await assert.rejects(target.read("a/b/one"), NotFoundError);
  await target.remove("a/b/one");
  assert.deepEqual(await target.children(""), []);
  assert.deepEqual(await paths(target, ""), []);

  const before = Date.now();
  await target.write("a/b/one", encoder.encode("first"));
  await target.write("a/b/one", encoder.encode("second"));
  await target.write("a/b2/two", new Uint8Array(0));
  await target.write("a/three", crypto.getRandomValues(new Uint8Array(60_000)));
  assert.equal(new TextDecoder().decode(await target.read("a/b/one")), "second");
  assert.equal((await target.read("a/b2/two")).length, 0);
  const entry = await target.head("a/b/one");
  assert.equal(entry?.bytes, 6);
  assert.ok(Math.abs((entry?.modifiedMs ?? 0) - before) < 60_000, "the time of the change is known");
  assert.equal(await target.head("a/b"), undefined, "a folder is no object");

  assert.deepEqual(await paths(target, ""), ["a/b/one", "a/b2/two", "a/three"]);
  assert.deepEqual(await paths(target, "a/b"), ["a/b/one", "a/b2/two"], "prefixes are of characters");
  assert.deepEqual(await paths(target, "a/b/"), ["a/b/one"]);
  assert.deepEqual(await paths(target, "nothing/"), []);
  for await (const { path, bytes } of target.list("a/t")) {
    assert.deepEqual([path, bytes], ["a/three", 60_000]);
  }
  assert.deepEqual((await target.children("a")).sort(), ["b", "b2", "three"]);
  assert.deepEqual(await target.children("nothing"), []);

  await target.removeTree("a/b/");
  assert.deepEqual(await paths(target, ""), ["a/b2/two", "a/three"]);
  assert.deepEqual(
    (await target.children("a")).sort(),
    ["b2", "three"],
    "a folder goes with its last object",
  );
  await target.removeTree("");
  assert.deepEqual(await target.children(""), []);
}

/** Names with characters that mean something elsewhere come back as they went. Leaves the target empty. */
export async function checkOddNames(target: Target, names: readonly string[] = ODD_NAMES): Promise<void> {
  for (const name of names) await target.write(`odd/${name}/${name}`, encoder.encode(name));
  for (const name of names) {
    assert.equal(new TextDecoder().decode(await target.read(`odd/${name}/${name}`)), name);
    assert.deepEqual(await target.children(`odd/${name}`), [name]);
    assert.deepEqual(await paths(target, `odd/${name}/`), [`odd/${name}/${name}`]);
  }
  assert.deepEqual((await target.children("odd")).sort(), [...names].sort());
  for (const name of names) await target.remove(`odd/${name}/${name}`);
  assert.deepEqual(await target.children("odd"), []);
}

/** Paths that leave the target, or that stores understand in different ways, are refused by every call. */
export async function checkBadPaths(target: Target): Promise<void> {
  const bad = ["", "/a", "a//b", "a/../b", "..", "a/.", "a\nb", "a\0b", "x".repeat(1025)];
  for (const path of bad) {
    for (
      const call of [
        () => target.read(path),
        () => target.write(path, new Uint8Array(1)),
        () => target.remove(path),
      ]
    ) {
      await assert.rejects(async () => await call(), /not a path of a target/, JSON.stringify(path));
    }
    if (path === "") continue;
    await assert.rejects(target.removeTree(path), /not a path of a target/, JSON.stringify(path));
    await assert.rejects(target.children(path), /not a path of a target/, JSON.stringify(path));
  }
}
