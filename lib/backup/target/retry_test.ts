import assert from "node:assert/strict";
import fc from "fast-check";
import { DEFAULT_RETRY, pauseMs, withRetries } from "./retry.ts";
import { TargetError } from "./target.ts";

const QUICK = { retries: 3, firstPauseMs: 1, maxPauseMs: 2 };

function failure(retryable: boolean): TargetError {
  return new TargetError("no", { operation: "read", path: "a", url: "memory://", retryable });
}

Deno.test("pauses are random, grow up to a bound, and are as long as the other side wishes within it", () => {
  fc.assert(fc.property(
    fc.nat(20),
    fc.nat(1e6),
    fc.double({ min: 0, max: 1, noNaN: true }),
    (failed, wished, random) => {
      const { firstPauseMs, maxPauseMs } = DEFAULT_RETRY,
        bound = Math.min(maxPauseMs, firstPauseMs * 2 ** failed);
      const length = pauseMs(failed, 0, DEFAULT_RETRY, random);
      assert.ok(length >= bound / 2 && length <= bound);
      const asked = pauseMs(failed, wished, DEFAULT_RETRY, random);
      assert.ok(asked >= Math.min(wished, maxPauseMs) && asked <= maxPauseMs);
    },
  ));
  assert.notEqual(pauseMs(3, 0, DEFAULT_RETRY, 0.2), pauseMs(3, 0, DEFAULT_RETRY, 0.3));
});

Deno.test("only what may go away by itself is tried again, and not for ever", async () => {
  const tries = async (error: Error, succeedAt = Infinity): Promise<number> => {
    let made = 0;
    const attempt = (): Promise<void> => ++made > succeedAt ? Promise.resolve() : Promise.reject(error);
    await withRetries(attempt, undefined, QUICK).catch((reason) => assert.equal(reason, error));
    return made;
  };
  assert.equal(await tries(failure(true)), 4);
  assert.equal(await tries(failure(true), 2), 3);
  assert.equal(await tries(failure(false)), 1);
  assert.equal(await tries(new TypeError("a bug")), 1);
});

Deno.test("an abort ends a pause at once", async () => {
  const stop = new AbortController(), reason = new Error("enough");
  const options = { ...QUICK, firstPauseMs: 3_600_000, maxPauseMs: 3_600_000 };
  const waiting = withRetries(() => Promise.reject(failure(true)), stop.signal, options);
  setTimeout(() => stop.abort(reason), 1);
  await assert.rejects(waiting, reason);
});
