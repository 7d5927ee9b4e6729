import assert from "node:assert/strict";
import { Level, setLogLevel } from "../log/log.ts";
import { LockedError, LockLostError } from "./errors.ts";
import { pause } from "./lanes.ts";
import { Lock, LockKind } from "./lock.ts";
import { locksFolder } from "./names.ts";
import { busyError, type MemoryFaults, MemoryStore } from "./target/memory.ts";

setLogLevel(Level.ERROR);

const FAST = { settleMs: 0 };

function put(store: MemoryStore, name: string, type: number, acquired: boolean, ageMs: number): string {
  const path = `${locksFolder("v")}${name}.lck`;
  const text = JSON.stringify({ Name: name, Type: type, Acquired: acquired });
  store.objects.set(path, { data: new TextEncoder().encode(text), modifiedMs: store.clock() - ageMs });
  return path;
}

Deno.test("a lock's file is as Longhorn's, and goes with the lock", async () => {
  const store = new MemoryStore();
  {
    await using _lock = await Lock.acquire(store.open(), "v", LockKind.USE, FAST);
    const paths = store.paths();
    assert.equal(paths.length, 1);
    const name = /\/(lock-[0-9a-f]{16})\.lck$/.exec(paths[0] ?? "")?.[1];
    assert.equal(store.text(paths[0] ?? ""), `{"Name":"${name}","Type":1,"Acquired":true}`);
  }
  assert.deepEqual(store.paths(), []);
});

Deno.test("locks of one kind are shared, those of the other kind exclude", async () => {
  const store = new MemoryStore();
  {
    await using _one = await Lock.acquire(store.open(), "v", LockKind.USE, FAST);
    await using _two = await Lock.acquire(store.open(), "v", LockKind.USE, FAST);
    await assert.rejects(Lock.acquire(store.open(), "v", LockKind.REMOVE, FAST), (error) => {
      assert.ok(error instanceof LockedError);
      assert.match(error.message, /volume v .* a backup or restore \(lock-/);
      return true;
    });
    await using _other = await Lock.acquire(store.open(), "w", LockKind.REMOVE, FAST);
    assert.equal(store.paths().length, 3, "the refused one left nothing");
  }
  await using _remove = await Lock.acquire(store.open(), "v", LockKind.REMOVE, FAST);
  await assert.rejects(Lock.acquire(store.open(), "v", LockKind.USE, FAST), LockedError);
});

Deno.test("the older of two that are not acquired yet wins, then the smaller name", async () => {
  const store = new MemoryStore(() => 1_000_000);
  const older = put(store, "lock-zz", 2, false, 10);
  await assert.rejects(Lock.acquire(store.open(), "v", LockKind.USE, FAST), LockedError);
  store.objects.delete(older);
  const same = put(store, "lock-00000000", 2, false, 0);
  await assert.rejects(Lock.acquire(store.open(), "v", LockKind.USE, FAST), LockedError);
  store.objects.delete(same);
  put(store, "lock-zz", 2, false, 0);
  await using lock = await Lock.acquire(store.open(), "v", LockKind.USE, FAST);
  put(store, "lock-yy", 2, false, -5);
  await lock.assertAlone();
  put(store, "lock-xx", 2, true, 5);
  await assert.rejects(lock.assertAlone(), LockedError);
});

Deno.test("a lock expires by the target's clock, whatever this machine's clock says", async () => {
  for (const skewMs of [-86_400_000, 0, 86_400_000]) {
    const store = new MemoryStore(() => Date.now() + skewMs);
    put(store, "lock-1", 2, true, 149_000);
    await assert.rejects(Lock.acquire(store.open(), "v", LockKind.USE, FAST), LockedError, `${skewMs}`);
    put(store, "lock-1", 2, true, 151_000);
    await using lock = await Lock.acquire(store.open(), "v", LockKind.USE, FAST);
    assert.ok(Math.abs(lock.targetTimeMs - store.clock()) < 60_000);
  }
});

Deno.test("a lock that cannot be read is in the way until it expires", async () => {
  const store = new MemoryStore();
  const path = `${locksFolder("v")}lock-1.lck`;
  store.put(path, "");
  await assert.rejects(Lock.acquire(store.open(), "v", LockKind.USE, FAST), /cannot be read/);
  store.objects.set(path, { data: new Uint8Array(), modifiedMs: Date.now() - 151_000 });
  await using _lock = await Lock.acquire(store.open(), "v", LockKind.USE, FAST);
});

Deno.test("a use and a removal are never held together on a target whose listings lag behind", async () => {
  // As 0.5 s, 2 s and a lag of 1 s, but quicker.
  const useMs = 10, removeMs = 40, lagMs = 20;
  for (let apartMs = -50; apartMs <= 50; apartMs += 10) {
    // A listing that shows locks only some time after they were made.
    const store = new MemoryStore(), madeAt = new Map<string, number>();
    const lagging: MemoryFaults = {
      after: ({ operation, path }) => {
        if (operation === "write" && !madeAt.has(path)) madeAt.set(path, performance.now());
      },
      shown: ({ path }) => performance.now() - (madeAt.get(path) ?? 0) >= lagMs,
    };
    const acquire = async (kind: LockKind, waitMs: number, settleMs: number): Promise<Lock> => {
      await pause(waitMs);
      return await Lock.acquire(store.open(lagging), "v", kind, { settleMs });
    };
    const both = await Promise.allSettled([
      acquire(LockKind.USE, Math.max(0, apartMs), useMs),
      acquire(LockKind.REMOVE, Math.max(0, -apartMs), removeMs),
    ]);
    const held = both.filter((end) => end.status === "fulfilled");
    assert.equal(held.length, 1, `the use ${apartMs} ms after the removal`);
    for (const { value } of held) await value.release();
  }
});

Deno.test("an abort while waiting for a lock takes its file away", async () => {
  const store = new MemoryStore(), abort = new AbortController();
  const waiting = Lock.acquire(store.open(), "v", LockKind.USE, { settleMs: 60_000, signal: abort.signal });
  setTimeout(() => abort.abort(new Error("no more")), 1);
  await assert.rejects(waiting, /no more/);
  assert.deepEqual(store.paths(), []);
});

Deno.test("a lock is written again every minute, and is lost when that fails for too long", async () => {
  const realNow = performance.now, realInterval = globalThis.setInterval;
  let late = 0, tick: (() => void) | undefined;
  performance.now = () => realNow.call(performance) + late;
  globalThis.setInterval = ((callback: () => void, ms: number) => {
    tick = callback;
    assert.equal(ms, 60_000);
    return realInterval(() => {}, 1e6);
  }) as unknown as typeof setInterval;
  try {
    const store = new MemoryStore(() => Date.now() + late);
    let broken = false;
    const target = store.open({
      before: (call) => {
        if (broken && call.operation === "write") throw busyError(call);
      },
    });
    await using lock = await Lock.acquire(target, "v", LockKind.REMOVE, FAST);
    const modified = (): number => store.objects.get(store.paths()[0] ?? "")?.modifiedMs ?? 0;
    const before = modified();
    late += 60_000;
    tick?.();
    await new Promise((resolve) => setTimeout(resolve, 1));
    assert.ok(modified() >= before + 60_000);
    broken = true;
    for (const beyond of [false, true]) {
      late += beyond ? 61_000 : 59_000;
      tick?.();
      await new Promise((resolve) => setTimeout(resolve, 1));
      if (beyond) assert.throws(() => lock.assertHeld(), LockLostError);
      else lock.assertHeld();
    }
  } finally {
    performance.now = realNow;
    globalThis.setInterval = realInterval;
  }
});
