import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { peerTest } from "../../tests/support/conditional.ts";
import { run } from "../../tests/support/process.ts";
import { tempDir } from "../../tests/support/temp.ts";
import { CodecError } from "./errors.ts";
import { decodeLz4, encodeLz4, isLz4, loadLz4 } from "./lz4_frame.ts";

await loadLz4();

const MIB = 1024 * 1024;

/** Half of it compresses. */
function sample(bytes: number, seed = 1): Uint8Array {
  const data = new Uint8Array(bytes);
  let state = seed;
  for (let i = 0; i < bytes; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    data[i] = (i >> 9) % 2 === 0 ? state >>> 24 : 7;
  }
  return data;
}

Deno.test("whatever is put into an LZ4 frame comes out of it", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.uint8Array({ maxLength: 40 }), fc.nat({ max: 300 })), { maxLength: 20 }),
      (pieces) => {
        const data = new Uint8Array(pieces.flatMap(([bytes, times]) => Array(times).fill([...bytes]).flat()));
        const frame = encodeLz4(data);
        assert.ok(isLz4(frame));
        assert.deepEqual(decodeLz4(frame, new Uint8Array(data.length)), data);
      },
    ),
    { numRuns: 100 },
  );
  for (const bytes of [0, 1, 4 * MIB, 4 * MIB + 5]) {
    const data = sample(bytes);
    assert.ok(same(decodeLz4(encodeLz4(data), new Uint8Array(bytes)), data), `${bytes} bytes`);
  }
});

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

Deno.test("a damaged or cut LZ4 frame is an error or the same content, never another", () => {
  const data = sample(3000);
  const frame = encodeLz4(data);
  for (let cut = 0; cut < frame.length; cut++) {
    assert.throws(
      () => decodeLz4(frame.subarray(0, cut), new Uint8Array(data.length)),
      CodecError,
      `cut at ${cut}`,
    );
  }
  fc.assert(fc.property(fc.nat({ max: frame.length - 1 }), fc.integer({ min: 1, max: 255 }), (at, flip) => {
    const bad = frame.slice();
    bad[at] = (bad[at] ?? 0) ^ flip;
    try {
      assert.equal(decodeLz4(bad, new Uint8Array(data.length)).length, data.length);
    } catch (error) {
      assert.ok(error instanceof CodecError, String(error));
    }
  }));
});

Deno.test("an LZ4 frame that holds more than allowed is refused before it is held", () => {
  assert.throws(() => decodeLz4(encodeLz4(new Uint8Array(MIB)), new Uint8Array(4096)), /more than it should/);
});

Deno.test("arbitrary bytes behind the magic do no harm", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (tail) => {
    assert.throws(
      () => decodeLz4(new Uint8Array([4, 0x22, 0x4d, 0x18, ...tail]), new Uint8Array(1000)),
      CodecError,
    );
  }));
});

peerTest("the lz4 program reads our frames", { needs: ["lz4"] }, async () => {
  using directory = tempDir();
  for (const bytes of [0, 1, 2 * MIB, 4 * MIB + 1]) {
    Deno.writeFileSync(directory.join("a.lz4"), encodeLz4(sample(bytes)));
    await run("lz4", ["-d", "-f", "-q", directory.join("a.lz4"), directory.join("a")]);
    assert.ok(same(Deno.readFileSync(directory.join("a")), sample(bytes)), `${bytes} bytes`);
  }
});

peerTest("frames of the lz4 program are read, of all kinds", { needs: ["lz4"] }, async () => {
  using directory = tempDir();
  const data = sample(700_000);
  Deno.writeFileSync(directory.join("a"), data);
  const kinds = [["-1"], ["-9", "-BD"], ["-B4", "-BD"], ["-B4", "-BX"], ["--content-size"], [
    "--no-frame-crc",
  ]];
  for (const kind of kinds) {
    await run("lz4", ["-f", "-q", ...kind, directory.join("a"), directory.join("b")]);
    assert.ok(
      same(decodeLz4(Deno.readFileSync(directory.join("b")), new Uint8Array(2 * MIB)), data),
      kind.join(" "),
    );
  }
  const frame = Deno.readFileSync(directory.join("b"));
  const skip = new Uint8Array([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
  const twice = Buffer.concat([frame, skip, frame]);
  assert.ok(same(decodeLz4(twice, new Uint8Array(4 * MIB)), Buffer.concat([data, data])));
});

Deno.test("a frame of the library that Longhorn uses is read", () => {
  const frame =
    "BCJNGGRwuUIAAAD/HGFsbCB3b3JrIGFuZCBubyBwbGF5IG1ha2VzIGphY2sgYSBkdWxsIGJveSArAFoBgQAAgQCwYSBkdWxsIGJveSAA" +
    "AAAAY+S4SA==";
  const data = decodeLz4(Uint8Array.from(atob(frame), (char) => char.charCodeAt(0)), new Uint8Array(1000));
  assert.equal(new TextDecoder().decode(data), "all work and no play makes jack a dull boy ".repeat(4));
});
