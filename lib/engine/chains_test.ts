import assert from "node:assert/strict";
import { type Chain, largestGroup, sameChain } from "./chains.ts";

function chain(disks: readonly string[], others: Readonly<Record<string, boolean>> = {}): Chain {
  return {
    chain: disks,
    disks: new Map([...disks.map((d): [string, boolean] => [d, false]), ...Object.entries(others)]),
  };
}

Deno.test("heads may have any name; snapshots must be the same, in the chain and not only on the disk", () => {
  assert.ok(sameChain(chain(["h1", "s2", "s1"]), chain(["h7", "s2", "s1"])));
  assert.ok(!sameChain(chain(["h1", "s2", "s1"]), chain(["h1", "s1"])), "a snapshot was missed");
  assert.ok(!sameChain(chain(["h1", "s2", "s1"]), chain(["h2", "s1"], { s2: false })), "one was reverted");
});

Deno.test("a removed snapshot that is folded away on one copy only makes no difference", () => {
  const unpurged = chain(["h", "s2", "s1"], { s1: true });
  assert.ok(sameChain(unpurged, chain(["h", "s2"])));
  assert.ok(
    !sameChain(unpurged, chain(["h", "s1"], { s1: true, s2: true })),
    "that one is still there, beside the chain",
  );
});

Deno.test("the larger group wins", () => {
  const a = chain(["h", "s1"]), b = chain(["h", "s2", "s1"]), c = chain(["h2", "s2", "s1"]);
  assert.deepEqual(largestGroup([a, b, c]), [b, c]);
  assert.deepEqual(largestGroup([a, b]), [a]);
});
