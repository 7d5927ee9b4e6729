import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import zlib from "node:zlib";
import fc from "fast-check";
import { peerTest } from "../../tests/support/conditional.ts";
import { run } from "../../tests/support/process.ts";
import { tempDir } from "../../tests/support/temp.ts";
import { Errno, IoError } from "../io/errno.ts";
import type { Io } from "../io/io.ts";
import { openIo } from "../io/open.ts";
import { openBacking } from "./backing.ts";
import { BackingFileError } from "./errors.ts";
import { zstdFrameBytes } from "./qcow2_compressed.ts";
import { DiskMemory } from "./memory.ts";
import { ReplicaDisk } from "./replica_disk.ts";
import { Awaited, BLOCK, block, diskTest, put } from "./test_kit.ts";

const MIB = 1024 * 1024;
/** Neither a multiple of a block nor of any cluster but the smallest. */
const IMAGE_BYTES = 5 * MIB + 3 * 512;

/** Patches of data, zeros and nothing, of all lengths. */
function content(bytes: number): Uint8Array {
  const result = new Uint8Array(bytes);
  let state = 12345;
  const next = (limit: number) => (state = (state * 1103515245 + 12345) % 2 ** 31) % limit;
  for (let at = 0; at < bytes;) {
    const length = next(5) === 0 ? next(2 * MIB) : next(20000),
      end = Math.min(bytes, at + length),
      kind = next(4);
    for (let i = at; i < end && kind > 1; i++) result[i] = kind === 2 ? (i * 7 + (i >> 9)) & 255 : next(256);
    at = end;
  }
  return result;
}

function same(found: Uint8Array | number, expected: Uint8Array, what: string): void {
  assert(typeof found !== "number", `${what}: ${found}`);
  if (Buffer.compare(found, expected) === 0) return;
  assert.fail(`${what}: differs at ${found.findIndex((byte, i) => byte !== expected[i])}`);
}

/** Reads everything in steps that are neither aligned nor alike. */
function compare(disk: Awaited, model: Uint8Array): void {
  const steps = [MIB, 4096, 70001, 512, 262144, 33];
  for (let at = 0, n = 0; at < model.length; n++) {
    const length = Math.min(steps[n % steps.length], model.length - at);
    same(disk.read(at, length), model.subarray(at, at + length), `${length} bytes at ${at}`);
    at += length;
  }
}

/** A volume on an image behaves like one on the same bytes in a raw file: reads, writes over it, unmaps, reopening. */
function exercise(
  io: Io,
  directory: string,
  image: string,
  data: Uint8Array,
  memory: DiskMemory,
  at: number,
): void {
  const size = Math.ceil(data.length / MIB) * MIB + MIB, model = new Uint8Array(size);
  model.set(data);
  ReplicaDisk.create(io, directory, { size, backingFile: image });
  let disk = ReplicaDisk.open(io, directory, { memory }), awaited = new Awaited(io, disk, at);
  compare(awaited, model);
  for (const [offset, length] of [[100, 50], [65000, 9000], [data.length - 700, 1400], [3 * MIB + 1, 1]]) {
    const bytes = new Uint8Array(length).fill(0xa5);
    assert.equal(awaited.write(offset, bytes), length);
    model.set(bytes, offset);
  }
  for (const [offset, length] of [[0, MIB], [4 * MIB + 4096, 20480], [data.length - 8192, 16384]]) {
    const from = Math.ceil(offset / BLOCK) * BLOCK, to = Math.floor((offset + length) / BLOCK) * BLOCK;
    assert(awaited.unmap(offset, length) >= 0);
    model.fill(0, from, to);
  }
  compare(awaited, model);
  disk.changes.snapshot("s", { userCreated: true, created: "2026-01-01T00:00:00Z", labels: new Map() });
  assert.equal(awaited.write(2 * MIB + 5, block(0x5a)), BLOCK);
  model.fill(0x5a, 2 * MIB + 5, 2 * MIB + 5 + BLOCK);
  compare(awaited, model);
  disk.close();
  disk = ReplicaDisk.open(io, directory, { memory });
  awaited = new Awaited(io, disk, at);
  compare(awaited, model);
  disk.close();
}

/** What qemu-img can make, as options of `convert`. */
const KINDS: readonly (readonly string[])[] = [
  ["-o", "cluster_size=65536"],
  ["-o", "compat=0.10,cluster_size=4096"],
  ["-o", "cluster_size=512"],
  ["-o", "cluster_size=2M,preallocation=metadata"],
  ["-c", "-o", "cluster_size=65536"],
  ["-c", "-o", "compat=0.10,cluster_size=512"],
  ["-c", "-o", "compression_type=zstd,cluster_size=32768"],
  ["-c", "-o", "compression_type=zstd,cluster_size=2M"],
];

for (const world of ["uring", "poll"] as const) {
  const kinds = world === "uring" ? KINDS : KINDS.slice(0, 1);
  peerTest(
    `${world}: a volume on images that qemu-img made reads as on raw ones`,
    { needs: ["qemu-img"] },
    async () => {
      using top = tempDir();
      using io = openIo({ arenaBytes: 64 * MIB, world });
      const data = content(IMAGE_BYTES), at = io.arena.reserve(2 * MIB, BLOCK), memory = new DiskMemory(io);
      Deno.writeFileSync(top.join("raw"), data);
      for (const [index, options] of kinds.entries()) {
        const image = top.join(`image-${index}`);
        await run("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", ...options, top.join("raw"), image]);
        // Zero clusters with and without space of their own, over data.
        await run("qemu-io", ["-f", "qcow2", "-c", "write -z 1M 128k", "-c", "write -zu 3M 1M", image]);
        const model = data.slice().fill(0, MIB, MIB + 131072).fill(0, 3 * MIB, 4 * MIB);
        exercise(io, top.join(`r-${index}`), image, model, memory, at);
      }
    },
  );
}

/** Size of a cluster of the images below, and where their parts are. */
const CLUSTER = 4096, L1 = CLUSTER, L2 = 2 * CLUSTER, DATA = 3 * CLUSTER, PACKED = 4 * CLUSTER;

/** An image made by hand: cluster 0 stored, 1 compressed, 2 zeros over data, the others nothing. */
function handmade(change: (bytes: Uint8Array<ArrayBuffer>, view: DataView) => void = () => {}): Uint8Array {
  const bytes = new Uint8Array(5 * CLUSTER), view = new DataView(bytes.buffer);
  view.setUint32(0, 0x514649fb);
  view.setUint32(4, 3);
  view.setUint32(20, 12);
  view.setUint32(28, 16 * CLUSTER);
  view.setUint32(36, 1);
  view.setUint32(44, L1);
  view.setUint32(96, 4);
  view.setUint32(100, 104);
  view.setUint32(L1, 0x80000000);
  view.setUint32(L1 + 4, L2);
  view.setUint32(L2, 0x80000000);
  view.setUint32(L2 + 4, DATA);
  view.setUint32(L2 + 8, 0x40000000);
  view.setUint32(L2 + 12, PACKED + 17);
  view.setUint32(L2 + 20, DATA | 1);
  bytes.fill(0x11, DATA, DATA + CLUSTER);
  bytes.set(zlib.deflateRawSync(new Uint8Array(CLUSTER).fill(0x22)), PACKED + 17);
  change(bytes, view);
  return bytes;
}

diskTest("an image made by hand reads as its tables say, also without a loop", (io, top) => {
  put(io.files, `${top}/image`, handmade());
  const backing = openBacking(io.files, `${top}/image`, true, MIB);
  assert.equal(backing.size, 16 * CLUSTER);
  const all = new Uint8Array(17 * CLUSTER).fill(0xee);
  backing.image!.read(0, all);
  const expected = new Uint8Array(17 * CLUSTER).fill(0x11, 0, CLUSTER).fill(0x22, CLUSTER, 2 * CLUSTER);
  same(all, expected, "image");
  io.files.close(backing.fd);
});

const set32 = (at: number, value: number) => (_: Uint8Array, view: DataView) => view.setUint32(at, value);

diskTest("what this reader cannot read is refused with the way out", (io, top) => {
  const cases: readonly [RegExp, (bytes: Uint8Array<ArrayBuffer>, view: DataView) => void][] = [
    [/qcow version 1 is not supported: copy it/, set32(4, 1)],
    [/stands on another image: copy it into one plain image/, set32(12, 200)],
    [/stands on another image/, set32(8, 0x80000000)],
    [/encrypted/, set32(32, 2)],
    [/2\^8 bytes are no valid size of a cluster/, set32(20, 8)],
    [/2\^22 bytes are no valid size/, set32(20, 22)],
    [/is not a multiple of 512/, set32(28, 4097)],
    [/larger than any volume/, set32(24, 0x7fffffff)],
    [/first table is too short for its size/, set32(24, 1)],
    [/first table is not where the header says/, set32(44, 4096 * 100)],
    [/first table is not where the header says/, set32(44, 4097)],
    [/header is too short/, set32(100, 72)],
    [/marked as corrupt/, set32(76, 2)],
    [/data is in another file/, set32(76, 4)],
    [/subclusters/, set32(76, 16)],
    [/features nobody knows of/, set32(76, 32)],
    [/features nobody knows of/, set32(72, 1)],
    [/compression 2 is not supported/, (bytes, view) => {
      view.setUint32(76, 8);
      view.setUint32(100, 112);
      bytes[104] = 2;
    }],
    [/entry 0 of its first table is none/, set32(L1, 0xff000000)],
    [/entry 0 of its first table is none/, set32(L1 + 4, L2 + 512)],
    [/entry 0 of its first table leads out of the file/, set32(L1 + 4, 5 * CLUSTER)],
  ];
  for (const [message, change] of cases) {
    put(io.files, `${top}/image`, handmade(change));
    assert.throws(() => openBacking(io.files, `${top}/image`, true, 2 ** 40), (error: unknown) => {
      assert(error instanceof BackingFileError, String(error));
      assert.match(error.message, message);
      assert(error.message.includes(`${top}/image`));
      return true;
    });
  }
  put(io.files, `${top}/image`, handmade().subarray(0, 60));
  assert.throws(() => openBacking(io.files, `${top}/image`, true, MIB), /header is cut off after 60 bytes/);
  put(io.files, `${top}/image`, handmade());
  assert.throws(
    () => openBacking(io.files, `${top}/image`, true, 4096),
    /larger \(65536 bytes\) than the volume/,
  );
});

diskTest("a broken table or cluster is an I/O error where it is needed, and only there", (io, top) => {
  const cases: readonly ((bytes: Uint8Array<ArrayBuffer>, view: DataView) => void)[] = [
    set32(L2 + 12, 0x7ffff000),
    set32(L2 + 8, 0x5fffffff),
    (bytes) => bytes.fill(0xff, PACKED + 17),
    (bytes) => bytes.set(zlib.deflateRawSync(new Uint8Array(100)), PACKED + 17),
    (bytes) => bytes.set(zlib.deflateRawSync(new Uint8Array(2 * CLUSTER)), PACKED + 17),
    set32(L2 + 8, 0x01000000),
    (_, view) => view.setBigUint64(L2 + 8, BigInt(DATA | 2)),
    (_, view) => view.setBigUint64(L2 + 8, BigInt(DATA + 512)),
    (_, view) => view.setBigUint64(L2 + 8, BigInt(100 * CLUSTER)),
  ];
  const memory = new DiskMemory(io), at = io.arena.reserve(2 * MIB, BLOCK);
  cases.forEach((change, index) => {
    const image = `${top}/image-${index}`, directory = `${top}/r-${index}`;
    put(io.files, image, handmade(change));
    ReplicaDisk.create(io, directory, { size: MIB, backingFile: image });
    const disk = ReplicaDisk.open(io, directory, { memory }), awaited = new Awaited(io, disk, at);
    same(awaited.read(0, CLUSTER), new Uint8Array(CLUSTER).fill(0x11), "the whole cluster");
    assert.equal(awaited.read(CLUSTER, CLUSTER), -Errno.EIO, `case ${index}`);
    assert.equal(awaited.read(0, 16 * CLUSTER), -Errno.EIO);
    same(awaited.read(2 * CLUSTER, CLUSTER), new Uint8Array(CLUSTER), "zeros");
    assert.equal(awaited.write(CLUSTER, block(3)), BLOCK, "a whole block needs nothing below");
    same(awaited.read(CLUSTER, BLOCK), block(3), "written");
    assert.equal(disk.fault, "");
    disk.close();
  });
});

diskTest("whatever the bytes of an image are, it is refused, or read, or an I/O error", (io, top) => {
  const positions = fc.oneof(fc.nat(111), fc.nat(16).map((n) => L1 + n), fc.nat(160).map((n) => L2 + n));
  const changes = fc.array(fc.tuple(positions, fc.nat(255)), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(changes, (list) => {
      const bytes = handmade((all) => list.forEach(([at, value]) => all[at] = value));
      put(io.files, `${top}/image`, bytes);
      let backing;
      try {
        backing = openBacking(io.files, `${top}/image`, false, 2 ** 40);
      } catch (error) {
        assert(error instanceof BackingFileError, String(error));
        return;
      }
      try {
        backing.image?.read(0, new Uint8Array(17 * CLUSTER));
      } catch (error) {
        assert(error instanceof IoError && error.errno === Errno.EIO, String(error));
      } finally {
        io.files.close(backing.fd);
      }
    }),
    { numRuns: 300 },
  );
});

Deno.test("the end of a zstd frame is found, whatever follows it", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 3000 }), fc.nat(600), fc.boolean(), (data, rest, checksum) => {
      const params = { [zlib.constants.ZSTD_c_checksumFlag]: checksum ? 1 : 0 };
      const frame = zlib.zstdCompressSync(data, { params }),
        all = new Uint8Array(frame.length + rest).fill(0x41);
      all.set(frame);
      assert.equal(zstdFrameBytes(all), frame.length);
      assert.equal(zstdFrameBytes(all.subarray(0, frame.length - 1)), -1);
    }),
  );
  assert.equal(zstdFrameBytes(new Uint8Array(20)), -1);
});
