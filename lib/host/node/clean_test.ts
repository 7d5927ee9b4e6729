import assert from "node:assert/strict";
import { type CleaningOwner, cleanNode } from "./clean.ts";
import type { Finding } from "./finding.ts";

/** A node with findings by what they say; each repair takes its finding away and may bring others. */
function node(repairs: Record<string, (now: Map<string, Finding>) => void>, agree = () => true) {
  const now = new Map<string, Finding>(), said: string[] = [];
  const add = (what: string) => {
    const repair = () => Promise.resolve().then(() => repairs[what]?.(now));
    const base = { severity: "left-over", subject: "s", what, todo: "" } as const;
    now.set(what, what in repairs ? { ...base, repair } : base);
  };
  const owner: CleaningOwner = {
    look: () => Promise.resolve([...now.values()]),
    leftAlone: (findings) => said.push(...findings.map(({ what }) => `left ${what}`)),
    agree,
    cleaned: ({ what }) => said.push(`cleaned ${what}`),
    failed: ({ what }, reason) => said.push(`failed ${what}: ${reason}`),
  };
  return { now, said, add, owner };
}

Deno.test("what a repair brings to light is repaired too", async () => {
  const { now, said, add, owner } = node({
    session: (now) => {
      now.delete("session");
      add("name");
    },
    name: (now) => void now.delete("name"),
  });
  add("session");
  add("somebody's");
  assert.deepEqual(await cleanNode(owner), { tried: 2, failures: 0 });
  assert.deepEqual(said, ["left somebody's", "cleaned session", "cleaned name"]);
  assert.deepEqual([...now.keys()], ["somebody's"]);
});

Deno.test("what cannot be repaired, or is still there after it, is tried once", async () => {
  const { said, add, owner } = node({
    stubborn: () => {},
    bad: () => {
      throw new Error("no");
    },
  });
  add("stubborn");
  add("bad");
  assert.deepEqual(await cleanNode(owner), { tried: 2, failures: 1 });
  assert.deepEqual(said, ["cleaned stubborn", "failed bad: no"]);
});

Deno.test("without agreement nothing is touched", async () => {
  const { now, said, add, owner } = node({ session: (now) => void now.clear() }, () => false);
  add("session");
  assert.deepEqual(await cleanNode(owner), { tried: 0, failures: 0 });
  assert.deepEqual([said, now.size], [[], 1]);
});
