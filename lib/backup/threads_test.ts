/**
 * Backups and restores with threads: memory that goes from thread to thread and is used again holds what it should, and
 * there is no more of it than was asked for.
 *
 * @module
 */
import assert from "node:assert/strict";
import { CodecPool } from "./codec_pool.ts";
import { createBackup } from "./create.ts";
import { COMPRESSIONS } from "./records.ts";
import { restoreBackup } from "./restore.ts";
import { type BlockSource, SOURCE_UNIT } from "./source.ts";
import { MemoryStore } from "./target/memory.ts";
import type { Target } from "./target/target.ts";
import { MemorySink } from "./test_kit.ts";
import { verifyBackups } from "./verify.ts";

function sourceOf(content: Uint8Array, onRead: () => void = () => {}): BlockSource {
  return {
    bytes: content.length,
    read: (offset, into) => {
      onRead();
      into.set(content.subarray(offset, offset + into.length));
    },
    changed: () => [{ offset: 0, length: content.length }],
    has: () => false,
    [Symbol.dispose]: () => {},
  };
}

/** Noise, one text again and again, zeros, and equal blocks, some of which follow each other closely. */
function mixed(units: number): Uint8Array {
  const content = new Uint8Array(units * SOURCE_UNIT);
  const noise = crypto.getRandomValues(new Uint8Array(SOURCE_UNIT));
  for (let unit = 0; unit < units; unit++) {
    const part = content.subarray(unit * SOURCE_UNIT, (unit + 1) * SOURCE_UNIT);
    if (unit % 4 === 0) crypto.getRandomValues(part);
    if (unit % 4 === 1) new TextEncoder().encodeInto(`unit ${unit} `.repeat(300), part);
    if (unit % 4 === 2 && unit % 8 === 2) part.set(noise);
  }
  return content;
}

Deno.test("every compression and block size goes through threads and comes back whole", async () => {
  using codec = new CodecPool(2);
  const content = mixed(400);
  for (const compression of COMPRESSIONS) {
    for (const blockBytes of [SOURCE_UNIT, 5 * SOURCE_UNIT, 128 * SOURCE_UNIT]) {
      const store = new MemoryStore(), volume = `${compression}-${blockBytes}`;
      const common = { volume, settleMs: 0, codec, concurrency: 8 } as const;
      await createBackup(store.open(), sourceOf(content), {
        ...common,
        snapshot: "s",
        name: "b",
        blockBytes,
        compression,
      });
      const sink = new MemorySink(new Uint8Array(content.length).fill(1));
      await restoreBackup(store.open(), sink, { ...common, backup: "b", zeroRest: true });
      assert.ok(sink.content.every((byte, index) => byte === content[index]), volume);
      assert.deepEqual((await verifyBackups(store.open(), common)).bad, [], volume);
    }
  }
});

/** A target whose blocks are told of when they begin to come and when they are stored. */
function watched(inner: Target, onRead: () => void, onWritten: () => void): Target {
  return {
    url: inner.url,
    list: (prefix) => inner.list(prefix),
    children: (folder) => inner.children(folder),
    head: (path) => inner.head(path),
    read: (path, signal) => {
      if (path.endsWith(".blk")) onRead();
      return inner.read(path, signal);
    },
    write: async (path, data, signal) => {
      await inner.write(path, data, signal);
      if (path.endsWith(".blk")) onWritten();
    },
    remove: (path) => inner.remove(path),
    removeTree: (prefix) => inner.removeTree(prefix),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

Deno.test("no more blocks are in memory than are to be under way", async () => {
  using codec = new CodecPool(2);
  const content = crypto.getRandomValues(new Uint8Array(16 * SOURCE_UNIT)), store = new MemoryStore();
  const lanes = 3;
  let underWay = 0, most = 0, all = 0;
  const begin = (): void => {
    all++;
    most = Math.max(most, ++underWay);
  };
  const end = (): void => void underWay--;
  const common = { volume: "v", settleMs: 0, codec, concurrency: lanes } as const;
  const options = { ...common, snapshot: "s", name: "b", blockBytes: SOURCE_UNIT };
  await createBackup(watched(store.open(), () => {}, end), sourceOf(content, begin), options);
  assert.deepEqual([underWay, most, all], [0, lanes, 16]);
  [most, all] = [0, 0];
  const sink = new MemorySink(content.length), write = sink.write.bind(sink);
  sink.write = async (offset, data) => {
    await new Promise((resolve) => setTimeout(resolve, 1));
    await write(offset, data);
    end();
  };
  await restoreBackup(watched(store.open(), begin, () => {}), sink, { ...common, backup: "b" });
  assert.deepEqual([underWay, most, all], [0, lanes, 16]);
  assert.deepEqual(sink.content, content);
});
