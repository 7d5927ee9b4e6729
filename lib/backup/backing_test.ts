import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { tempDir } from "../../tests/support/temp.ts";
import { Level, setLogLevel } from "../log/log.ts";
import { createBackingImage } from "./backing_create.ts";
import { deleteBackingImage } from "./backing_images.ts";
import { restoreBackingImage } from "./backing_restore.ts";
import { InlineCodec } from "./codec.ts";
import { BackupInputError, BlockError, LockedError, NoSuchBackupError, RecordError } from "./errors.ts";
import { inspectBackingImage, listBackingImages } from "./images.ts";
import { Lock, LockKind } from "./lock.ts";
import { BACKING_LOCKS, backingBlocksFolder, backingImagePath, checksumOf, checksumOfPath } from "./names.ts";
import { DEFAULT_BLOCK_BYTES } from "./records.ts";
import type { BlockSource } from "./source.ts";
import { crashAt, CrashedError, MemoryStore } from "./target/memory.ts";

// A client that died cannot remove its lock, and says so.
setLogLevel(Level.ERROR);

const BLOCK = DEFAULT_BLOCK_BYTES, TAIL = 512;
const FAST = { settleMs: 0, codec: new InlineCodec(), concurrency: 1 } as const;

/** A file of whole blocks, each full of one number (0: a hole), and 512 bytes of 9 behind them. */
function file(...values: number[]): Uint8Array {
  const content = new Uint8Array(values.length * BLOCK + TAIL).fill(9);
  values.forEach((value, index) => content.fill(value, index * BLOCK, (index + 1) * BLOCK));
  return content;
}

function sourceOf(content: Uint8Array): BlockSource {
  const offsets = Array.from({ length: Math.ceil(content.length / BLOCK) }, (_, index) => index * BLOCK);
  return {
    bytes: content.length,
    read: (offset, into) => into.set(content.subarray(offset, offset + into.length)),
    changed: () => offsets.filter((at) => content[at] !== 0).map((offset) => ({ offset, length: BLOCK })),
    has: () => false,
    [Symbol.dispose]: () => {},
  };
}

function make(
  store: MemoryStore,
  name: string,
  content: Uint8Array,
  target = store.open(),
): Promise<unknown> {
  return createBackingImage(target, sourceOf(content), { ...FAST, name });
}

async function restored(store: MemoryStore, name: string): Promise<Uint8Array> {
  using dir = tempDir();
  const path = dir.join("image");
  await restoreBackingImage(store.open(), { ...FAST, name, path });
  assert.deepEqual([...Deno.readDirSync(dir.path)].map((entry) => entry.name), ["image"]);
  return Deno.readFileSync(path);
}

function blocksOf(store: MemoryStore): string[] {
  return store.paths(backingBlocksFolder()).map((path) => checksumOfPath(path) ?? path).sort();
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

Deno.test("a backing image's record and blocks are where and as Longhorn has them", async () => {
  const store = new MemoryStore(), content = file(1, 0);
  const secret = { name: "s", namespace: "ns" }, labels = { b: "2", a: "<" };
  await createBackingImage(store.open(), sourceOf(content), { ...FAST, name: "img", labels, secret });
  const whole = checksumOf(content.subarray(0, BLOCK)), tail = checksumOf(content.subarray(2 * BLOCK));
  const text = store.text("backupstore/backing-images/backing-images/img/backing-image.cfg") ?? "";
  const time = /"CompleteTime":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)"/.exec(text)?.[1];
  assert.ok(time !== undefined);
  const digest = createHash("sha512").update(content).digest("hex");
  assert.equal(
    text.replace(/"CreatedTime":"[^"]*"/, '"CreatedTime":""'),
    `{"Name":"img","Size":"${content.length}","BlockCount":"2","Checksum":"${digest}",` +
      `"Labels":{"a":"\\u003c","b":"2"},"CompressionMethod":"lz4","CreatedTime":"","CompleteTime":"${time}",` +
      `"Secret":"s","SecretNamespace":"ns","ProcessingBlocks":{"Blocks":{}},` +
      `"Blocks":[{"Offset":0,"BlockChecksum":"${whole}"},{"Offset":${2 * BLOCK},"BlockChecksum":"${tail}"}]}`,
  );
  for (const sum of [whole, tail]) {
    const path = `backupstore/backing-images/blocks/${sum.slice(0, 2)}/${sum.slice(2, 4)}/${sum}.blk`;
    assert.ok(store.objects.has(path), path);
  }
  assert.ok(same(await restored(store, "img"), content));
  assert.deepEqual(store.paths().filter((path) => path.endsWith(".lck")), [], "no lock is left");
});

Deno.test("a last block that was filled up with zeros is restored to the file's length", async () => {
  const store = new MemoryStore(), content = file(3), filled = new Uint8Array(2 * BLOCK);
  filled.set(content);
  await make(store, "img", filled);
  const record = await inspectBackingImage(store.open(), "img");
  const shorter = { Name: "img", Size: String(content.length), CompressionMethod: "lz4", CompleteTime: "T" };
  const Blocks = record.blocks.map(({ offset, checksum }) => ({ Offset: offset, BlockChecksum: checksum }));
  store.put(backingImagePath("img"), JSON.stringify({ ...shorter, Blocks }));
  assert.ok(same(await restored(store, "img"), content));
});

Deno.test("images share blocks, and one that goes leaves those that others need", async () => {
  const store = new MemoryStore();
  await make(store, "one", file(1, 2));
  const before = blocksOf(store);
  await make(store, "two", file(1, 5));
  assert.equal(blocksOf(store).length, before.length + 1, "only one block is new");
  const { state, removedBlocks } = await deleteBackingImage(store.open(), "one", FAST);
  assert.deepEqual([state, removedBlocks], ["done", 1]);
  assert.ok(same(await restored(store, "two"), file(1, 5)));
});

Deno.test("a name has one content; the same again is nothing to do", async () => {
  const store = new MemoryStore(), content = file(1);
  await make(store, "img", content);
  const again = await createBackingImage(store.open(), sourceOf(content), { ...FAST, name: "img" });
  assert.equal(again.uploadedBlocks, 0);
  await assert.rejects(make(store, "img", file(2)), BackupInputError);
  const wrong = { ...FAST, name: "other", checksum: "00" };
  await assert.rejects(createBackingImage(store.open(), sourceOf(content), wrong), /SHA-512 is/);
  await assert.rejects(make(store, "../x", content), /cannot be the name of a backing image/);
  assert.deepEqual(await listBackingImages(store.open()), ["img"]);
});

Deno.test("a client that dies at any call leaves nothing that looks whole, and the next one goes on", async () => {
  const content = new Uint8Array(1000).fill(7);
  for (const effect of [false, true]) {
    for (let at = 0;; at++) {
      let now = Date.now();
      const store = new MemoryStore(() => now);
      const died = await make(store, "img", content, store.open(crashAt(at, effect))).then(
        () => false,
        (error) => {
          assert.ok(error instanceof CrashedError, `${error}`);
          return true;
        },
      );
      const record = await inspectBackingImage(store.open(), "img").catch(() => undefined);
      if (record !== undefined && record.completeTime !== "") {
        assert.ok(same(await restored(store, "img"), content), `whole after ${at}`);
      } else {
        await assert.rejects(restored(store, "img"), /in progress|no backing image/);
        // Its lock expires.
        now += 400_000;
        await make(store, "img", content);
        assert.ok(same(await restored(store, "img"), content), `gone on after ${at}`);
      }
      if (!died) break;
    }
  }
});

Deno.test("a damaged or missing block, or a record that is not true, restores to no file", async () => {
  using dir = tempDir();
  const path = dir.join("image"), store = new MemoryStore(), content = file(1, 2);
  await make(store, "img", content);
  const [victim = ""] = store.paths(backingBlocksFolder());
  const block = store.objects.get(victim);
  assert.ok(block);
  const restore = (): Promise<unknown> => restoreBackingImage(store.open(), { ...FAST, name: "img", path });
  const fails = async (expected: RegExp, kind: new (...given: never[]) => Error): Promise<void> => {
    await assert.rejects(restore(), (error: Error) => {
      assert.ok(error instanceof kind, `${error}`);
      assert.match(error.message, expected);
      return true;
    });
    assert.throws(() => Deno.statSync(path), Deno.errors.NotFound);
  };
  store.put(victim, new Uint8Array(100));
  await fails(new RegExp(`block ${checksumOfPath(victim)} at offset \\d+ of backup img`), BlockError);
  store.objects.delete(victim);
  await fails(/is missing/, BlockError);
  store.put(victim, block.data);
  const text = store.text(backingImagePath("img")) ?? "";
  store.put(backingImagePath("img"), text.replace(/"Checksum":"[^"]*"/, `"Checksum":"${"0".repeat(128)}"`));
  await fails(/says that the image's SHA-512 is 0+, and its blocks make/, RecordError);
  store.put(backingImagePath("img"), text.replace(`"Offset":${BLOCK}`, `"Offset":${BLOCK + 1}`));
  await fails(/has no place in a file/, RecordError);
  store.put(backingImagePath("img"), text);
  await restore();
  assert.ok(same(Deno.readFileSync(path), content));
  await assert.rejects(restore(), /exists: remove it first/);
});

Deno.test("nothing is made or restored while images are removed; one that was removed meanwhile is not complete", async () => {
  const store = new MemoryStore(), content = file(1);
  await make(store, "img", content);
  {
    await using _held = await Lock.acquire(store.open(), BACKING_LOCKS, LockKind.REMOVE, { settleMs: 0 });
    await assert.rejects(make(store, "other", content), LockedError);
    await assert.rejects(restored(store, "img"), LockedError);
  }
  const source = sourceOf(file(4, 5));
  let reads = 0;
  const meddled: BlockSource = {
    ...source,
    async read(offset, into) {
      await source.read(offset, into);
      if (offset === BLOCK && ++reads === 1) await deleteBackingImage(store.open(), "new", FAST);
    },
  };
  await assert.rejects(
    createBackingImage(store.open(), meddled, { ...FAST, name: "new" }),
    NoSuchBackupError,
  );
  assert.deepEqual(await listBackingImages(store.open()), ["img"]);
});
