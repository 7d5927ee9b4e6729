import assert from "node:assert/strict";
import { peerTest } from "../../tests/support/conditional.ts";
import { run } from "../../tests/support/process.ts";
import { tempDir } from "../../tests/support/temp.ts";
import { InlineCodec } from "./codec.ts";
import { createBackup } from "./create.ts";
import {
  BackupInProgressError,
  BackupInputError,
  BlockError,
  NoSuchBackupError,
  RecordError,
} from "./errors.ts";
import { Level, setLogLevel } from "../log/log.ts";
import { backupPath, blocksFolder, locksFolder } from "./names.ts";
import { restoreBackup, restoreDelta } from "./restore.ts";
import { restoreToFile } from "./restore_file.ts";
import { NotFoundError, TargetError } from "./target/target.ts";
import { busyError, crashAt, MemoryStore } from "./target/memory.ts";
import { MemorySink, TestVolume } from "./test_kit.ts";
import { verifyBackups } from "./verify.ts";

setLogLevel(Level.ERROR);

const BLOCK = 65536;
const codec = new InlineCodec();
const FAST = { settleMs: 0, codec } as const;
const NAME = { volume: "v", backup: "b1", ...FAST } as const;

async function sample(blockBytes = BLOCK): Promise<{ volume: TestVolume; store: MemoryStore }> {
  const volume = new TestVolume(512), store = new MemoryStore();
  for (const unit of [0, 3, 100, 101, 102, 300, 511]) volume.write(unit, unit + 1);
  volume.snapshot("s1");
  const options = { volume: "v", snapshot: "s1", name: "b1", blockBytes, ...FAST };
  await createBackup(store.open(), volume.source("s1"), options);
  return { volume, store };
}

Deno.test("a restore to a place with other data zeros the rest, to a fresh one it writes blocks only", async () => {
  const { volume, store } = await sample();
  const used = new MemorySink(new Uint8Array(volume.bytes).fill(0xee));
  await restoreBackup(store.open(), used, { ...NAME, zeroRest: true });
  assert.deepEqual(used.content, volume.content("s1"));
  const fresh = new MemorySink(volume.bytes);
  const result = await restoreBackup(store.open(), fresh, NAME);
  assert.deepEqual(fresh.content, volume.content("s1"));
  assert.equal(fresh.written, result.writtenBlocks * BLOCK);
});

Deno.test("blocks of zeros are not downloaded", async () => {
  const volume = new TestVolume(64), store = new MemoryStore();
  for (let unit = 0; unit < 32; unit++) volume.write(unit, 0);
  volume.write(32, 1);
  volume.snapshot("s1");
  const options = { volume: "v", snapshot: "s1", name: "b1", blockBytes: BLOCK, ...FAST };
  await createBackup(store.open(), volume.source("s1"), options);
  const sink = new MemorySink(new Uint8Array(volume.bytes).fill(1));
  const result = await restoreBackup(store.open(), sink, { ...NAME, zeroRest: true });
  assert.deepEqual([result.downloadedBlocks, result.writtenBlocks], [1, 3]);
  assert.deepEqual(sink.content, volume.content("s1"));
});

Deno.test("a damaged or missing block stops the restore with its name, its place and its backup", async () => {
  const { volume, store } = await sample();
  const path = store.paths(blocksFolder("v"))[1] ?? "";
  const checksum = /([0-9a-f]{64})/.exec(path)?.[1] ?? "";
  const names = (error: unknown): true => {
    assert.ok(error instanceof BlockError, String(error));
    assert.equal(error.checksum, checksum);
    assert.match(
      error.message,
      new RegExp(`block ${checksum} at offset \\d+ of backup b1 of volume v: .*${path}`),
    );
    return true;
  };
  const good = store.objects.get(path)?.data ?? assert.fail();
  const attempt = (): Promise<unknown> => restoreBackup(store.open(), new MemorySink(volume.bytes), NAME);
  for (const at of [0, 20, good.length - 1]) {
    const bad = good.slice();
    bad[at] = (bad[at] ?? 0) ^ 1;
    store.put(path, bad);
    await assert.rejects(attempt(), names, `byte ${at}`);
  }
  store.put(path, good.subarray(0, good.length / 2));
  await assert.rejects(attempt(), names);
  store.put(path, "");
  await assert.rejects(attempt(), names);
  const report = await verifyBackups(store.open(), { volume: "v", ...FAST });
  assert.deepEqual(report.bad.map(({ checksum, backups }) => [checksum, backups]), [[checksum, ["b1"]]]);
  store.objects.delete(path);
  await assert.rejects(attempt(), names);
  await assert.rejects(attempt(), /is missing/);
  assert.match(
    (await verifyBackups(store.open(), { volume: "v", ...FAST })).bad[0]?.problem ?? "",
    /missing/,
  );
  assert.deepEqual(store.paths(locksFolder("v")), []);
  store.put(path, good);
  assert.deepEqual((await verifyBackups(store.open(), { volume: "v", ...FAST })).bad, []);
});

Deno.test("a body that was damaged on its way is read again", async () => {
  const { volume, store } = await sample();
  const seen = new Set<string>();
  const target = store.open({
    body: (path, data) => {
      if (!path.endsWith(".blk") || seen.has(path)) return data;
      seen.add(path);
      return data.subarray(0, -3);
    },
  });
  const sink = new MemorySink(volume.bytes);
  await restoreBackup(target, sink, NAME);
  assert.deepEqual(sink.content, volume.content("s1"));
  assert.ok(seen.size > 1);
});

Deno.test("a target that fails is an error of its own, and no block's fault", async () => {
  const { volume, store } = await sample();
  const target = store.open({
    before: (call) => {
      if (call.operation === "read" && call.path.endsWith(".blk")) throw busyError(call);
    },
  });
  const restore = restoreBackup(target, new MemorySink(volume.bytes), NAME);
  await assert.rejects(restore, (error) => error instanceof TargetError && !(error instanceof NotFoundError));
  await assert.rejects(verifyBackups(target, { volume: "v", ...FAST }), TargetError);
});

Deno.test("what is not a whole backup is not restored", async () => {
  const { volume, store } = await sample();
  const sink = new MemorySink(volume.bytes);
  const attempt = (backup: string, volumeName = "v"): Promise<unknown> =>
    restoreBackup(store.open(), sink, { ...NAME, volume: volumeName, backup });
  await assert.rejects(attempt("nope"), NoSuchBackupError);
  await assert.rejects(attempt("b1", "w"), NoSuchBackupError);
  const record = store.text(backupPath("v", "b1")) ?? "";
  store.put(
    backupPath("v", "b2"),
    record.replace('"b1"', '"b2"').replace(/"CreatedTime":"[^"]+"/, '"CreatedTime":""'),
  );
  await assert.rejects(attempt("b2"), BackupInProgressError);
  store.put(backupPath("v", "b3"), record);
  await assert.rejects(attempt("b3"), /is the record of backup b1/);
  store.put(backupPath("v", "b4"), record.replace('"b1"', '"b4"').replace('"Offset":0', '"Offset":4096'));
  await assert.rejects(attempt("b4"), RecordError);
  const old = record.replace('"b1"', '"b5"').replace('"FilePath":""', '"FilePath":"x"');
  store.put(backupPath("v", "b5"), old);
  await assert.rejects(attempt("b5"), /Longhorn/);
  await assert.rejects(restoreBackup(store.open(), new MemorySink(4096), NAME), BackupInputError);
  assert.equal(sink.written, 0);
  const verified = await verifyBackups(store.open(), { volume: "v", ...FAST });
  assert.deepEqual(verified.backups, ["b1"]);
  assert.deepEqual(verified.skipped.map(({ backup }) => backup), ["b2", "b3", "b4", "b5"]);
});

Deno.test("a restore can be stopped", async () => {
  const { volume, store } = await sample();
  const abort = new AbortController();
  const stopped = restoreBackup(store.open(), new MemorySink(volume.bytes), {
    ...NAME,
    concurrency: 1,
    signal: abort.signal,
    onProgress: () => abort.abort(new Error("enough")),
  });
  await assert.rejects(stopped, /enough/);
  assert.deepEqual(store.paths(locksFolder("v")), []);
});

Deno.test("a delta between backups of a volume that grew writes what differs", async () => {
  const { volume, store } = await sample();
  const grown = new TestVolume(1024);
  for (const unit of [0, 3, 100, 101, 102, 300, 511]) grown.write(unit, unit + 1);
  grown.snapshot("s1");
  grown.write(1000, 5);
  grown.snapshot("s2");
  const options = { volume: "v", snapshot: "s2", name: "b2", blockBytes: BLOCK, ...FAST };
  await createBackup(store.open(), grown.source("s2"), options);
  const sink = new MemorySink(grown.bytes);
  sink.content.set(volume.content("s1"));
  const result = await restoreDelta(store.open(), sink, { volume: "v", from: "b1", to: "b2", ...FAST });
  assert.equal(result.downloadedBlocks, 1);
  assert.deepEqual(sink.content, grown.content("s2"));
});

Deno.test("a raw file holds the volume, sparse, and has its name only when it is whole", async () => {
  const { volume, store } = await sample();
  using directory = tempDir();
  const path = directory.join("image");
  const calls = store.open();
  await restoreToFile(calls, { ...NAME, path, format: "raw" });
  assert.deepEqual(new Uint8Array(Deno.readFileSync(path)), volume.content("s1"));
  assert.ok((Deno.statSync(path).blocks ?? 0) * 512 < volume.bytes);
  assert.deepEqual([...Deno.readDirSync(directory.path)].map(({ name }) => name), ["image"]);
  await assert.rejects(restoreToFile(store.open(), { ...NAME, path, format: "raw" }), /exists/);
  for (let at = 1; at < calls.count; at++) {
    const other = directory.join(`other-${at}`);
    await assert.rejects(
      restoreToFile(store.open(crashAt(at, true)), { ...NAME, path: other, format: "raw" }),
    );
    const names = [...Deno.readDirSync(directory.path)].map(({ name }) => name);
    assert.equal(names.includes(`other-${at}`), false, `call ${at}`);
    store.clock = ((before) => () => before() + 400_000)(store.clock);
    await restoreToFile(store.open(), { ...NAME, path: other, format: "raw" });
    assert.deepEqual(new Uint8Array(Deno.readFileSync(other)), volume.content("s1"), `call ${at}`);
    const rest = [...Deno.readDirSync(directory.path)].filter(({ name }) => name.includes("partial"));
    assert.deepEqual(rest, [], `call ${at}`);
  }
});

Deno.test("a file goes on where its journal says, and only for the same backup and format", async () => {
  const { volume, store } = await sample();
  using directory = tempDir();
  const path = directory.join("image");
  const options = { ...NAME, path, format: "raw", concurrency: 1, journalEveryBytes: BLOCK } as const;
  const abort = new AbortController();
  let steps = 0;
  const cut = restoreToFile(store.open(), {
    ...options,
    signal: abort.signal,
    onProgress: () => ++steps === 3 && abort.abort(new Error("cut")),
  });
  await assert.rejects(cut, /cut/);
  assert.ok(Deno.statSync(`${path}.partial.json`).isFile);
  const result = await restoreToFile(store.open(), options);
  assert.ok(result.resumedBlocks > 0);
  assert.deepEqual(new Uint8Array(Deno.readFileSync(path)), volume.content("s1"));
  Deno.writeTextFileSync(`${directory.join("second")}.partial.json`, '{"Restore":"raw another","Done":3}');
  Deno.writeTextFileSync(`${directory.join("second")}.partial`, "junk");
  const second = await restoreToFile(store.open(), { ...options, path: directory.join("second") });
  assert.equal(second.resumedBlocks, 0);
  assert.deepEqual(new Uint8Array(Deno.readFileSync(directory.join("second"))), volume.content("s1"));
});

peerTest("qemu-img finds a qcow2 file sound and equal to the raw one", { needs: ["qemu-img"] }, async () => {
  using directory = tempDir();
  for (const blockBytes of [4096, 8192, 65536, 2 * 1024 * 1024]) {
    const { volume, store } = await sample(blockBytes);
    const raw = directory.join("raw"), image = directory.join("qcow2");
    Deno.writeFileSync(raw, volume.content("s1"));
    await restoreToFile(store.open(), { ...NAME, path: image, format: "qcow2" });
    await run("qemu-img", ["check", "-f", "qcow2", image]);
    await run("qemu-img", ["compare", "-f", "raw", "-F", "qcow2", raw, image]);
    Deno.removeSync(image);
  }
});

peerTest("a file of a volume that ends within a block ends there too", { needs: ["qemu-img"] }, async () => {
  using directory = tempDir();
  const raw = directory.join("raw"), image = directory.join("qcow2");
  const volume = new TestVolume(21), store = new MemoryStore();
  for (const unit of [2, 20]) volume.write(unit, unit);
  volume.snapshot("s1");
  const options = { volume: "v", snapshot: "s1", name: "b1", blockBytes: BLOCK, ...FAST };
  await createBackup(store.open(), volume.source("s1"), options);
  await restoreToFile(store.open(), { ...NAME, path: raw, format: "raw" });
  assert.deepEqual(new Uint8Array(Deno.readFileSync(raw)), volume.content("s1"));
  await restoreToFile(store.open(), { ...NAME, path: image, format: "qcow2" });
  await run("qemu-img", ["check", "-f", "qcow2", image]);
  await run("qemu-img", ["compare", "-s", "-f", "raw", "-F", "qcow2", raw, image]);
});

peerTest("a qcow2 file of a large volume has all its tables", { needs: ["qemu-img"] }, async () => {
  using directory = tempDir();
  const path = directory.join("image");
  const bytes = 3 * 1024 ** 4, blockBytes = 2 * 1024 * 1024;
  const offsets = [0, 512 * 1024 ** 3 - blockBytes, 512 * 1024 ** 3, bytes - blockBytes];
  const store = new MemoryStore();
  const source = {
    bytes,
    read: (offset: number, into: Uint8Array) => void into.fill(offsets.indexOf(offset) + 1),
    changed: () => offsets.map((offset) => ({ offset, length: 4096 })),
    has: () => false,
    [Symbol.dispose]: () => {},
  };
  await createBackup(store.open(), source, { volume: "v", snapshot: "s", name: "b1", blockBytes, ...FAST });
  await restoreToFile(store.open(), { ...NAME, path, format: "qcow2" });
  await run("qemu-img", ["check", "-f", "qcow2", path]);
  const { stdout } = await run("qemu-img", ["map", "--output", "json", "-f", "qcow2", path]);
  const map: unknown = JSON.parse(stdout);
  const data = (map as { start: number; data: boolean }[]).filter((part) => part.data).map(({ start }) =>
    start
  );
  assert.deepEqual(data, [0, offsets[1], offsets[3]]);
});
