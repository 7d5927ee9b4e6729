import assert from "node:assert/strict";
import { createBackup } from "../backup/mod.ts";
import { MemorySink, TestVolume } from "../backup/test_kit.ts";
import { MemoryStore, type MemoryTarget } from "../backup/target/memory.ts";
import { tempDir } from "../../tests/support/temp.ts";
import { Follower, readFollowState } from "./follower.ts";

const UNITS = 64, BLOCK = 16 * 4096;
const QUICK = { settleMs: 0 };

async function backUp(target: MemoryTarget, volume: TestVolume, snapshot: string): Promise<void> {
  volume.snapshot(snapshot);
  using source = volume.source(snapshot);
  await createBackup(target, source, {
    volume: "v",
    snapshot,
    name: snapshot,
    blockBytes: BLOCK,
    settleMs: 0,
  });
}

Deno.test("a stand-by volume goes from backup to backup with what changed, also backwards", async () => {
  using dir = tempDir();
  const target = new MemoryStore().open(),
    volume = new TestVolume(UNITS),
    sink = new MemorySink(UNITS * 4096);
  sink.content.fill(9);
  for (let unit = 0; unit < UNITS; unit += 2) volume.write(unit, unit + 1);
  await backUp(target, volume, "a");
  volume.write(3, 77);
  await backUp(target, volume, "b");
  using follower = new Follower(dir.join("f"), sink);
  const to = (backup: string) => follower.bringTo(target, "v", backup, QUICK);
  assert.equal(await to("a"), "full");
  assert.deepEqual(sink.content, volume.content("a"), "what was there before is gone");
  assert.equal(await to("a"), "nothing");
  const before = sink.written;
  assert.equal(await to("b"), "incremental");
  assert.deepEqual(sink.content, volume.content("b"));
  assert.equal(sink.written - before, BLOCK, "one block was written");
  assert.equal(await to("a"), "incremental");
  assert.deepEqual(sink.content, volume.content("a"));
  assert.throws(() => new Follower(dir.join("f"), sink), /another process keeps this volume current/);
  await assert.rejects(follower.bringTo(target, "other", "a"), /this volume follows v on/);
});

Deno.test("a target that fails in the middle leaves the stand-by volume as it was; a crash while writing is made good", async () => {
  using dir = tempDir();
  const target = new MemoryStore().open(),
    volume = new TestVolume(UNITS),
    sink = new MemorySink(UNITS * 4096);
  volume.write(0, 1);
  volume.write(40, 1);
  await backUp(target, volume, "a");
  volume.write(1, 2);
  volume.write(41, 2);
  await backUp(target, volume, "b");
  {
    using follower = new Follower(dir.join("f"), sink);
    await follower.bringTo(target, "v", "a", QUICK);
    const stop = new AbortController();
    let seen = 0;
    const onProgress = (): void => void (++seen === 1 && stop.abort(new Error("cut")));
    const cut = { ...QUICK, concurrency: 1, signal: stop.signal, onProgress };
    await assert.rejects(follower.bringTo(target, "v", "b", cut), /cut/);
    assert.deepEqual(sink.content, volume.content("a"));
    assert.equal(readFollowState(dir.join("f"))?.backup, "a");
  }
  // The volume fails at its first write: some of it may be new, and the note says so.
  const failing = Object.assign(new MemorySink(sink.content), {
    write: () => Promise.reject(new Error("no disk")),
  });
  {
    using follower = new Follower(dir.join("f"), failing);
    await assert.rejects(follower.bringTo(target, "v", "b", QUICK), /no disk/);
    assert.deepEqual([readFollowState(dir.join("f"))?.backup, readFollowState(dir.join("f"))?.delta], [
      "a",
      "b",
    ]);
  }
  using follower = new Follower(dir.join("f"), sink);
  // Without the target.
  assert.equal((await follower.settle())?.backup, "b");
  assert.deepEqual(sink.content, volume.content("b"));
  follower.forget();
  assert.equal(readFollowState(dir.join("f")), undefined);
});
