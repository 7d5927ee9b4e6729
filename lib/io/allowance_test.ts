import assert from "node:assert/strict";
import { Allowance } from "./allowance.ts";

Deno.test("what was taken is earned after its time, also after long idleness", () => {
  let now = 0;
  const allowance = new Allowance(() => now);
  allowance.limit = 1000;
  now = 60_000;
  allowance.take(1100);
  // A tenth of a second's worth was saved, not a minute's.
  let waited = 0;
  for (let pause = allowance.pause(); pause > 0; pause = allowance.pause()) {
    assert.ok(pause <= 200, "a new limit is seen soon");
    now += pause;
    waited += pause;
  }
  assert.equal(waited, 1000);
});

Deno.test("a limit that is taken away lets everything go, one that comes counts from now on", () => {
  let now = 0;
  const allowance = new Allowance(() => now);
  allowance.take(1_000_000);
  assert.equal(allowance.pause(), 0);
  allowance.limit = 1000;
  assert.deepEqual([allowance.limit, allowance.pause()], [1000, 0]);
  allowance.take(500);
  assert.equal(allowance.pause(), 200);
  now += 200;
  assert.equal(allowance.pause(), 200);
  allowance.limit = 0;
  assert.equal(allowance.pause(), 0);
});
