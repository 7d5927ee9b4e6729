import assert from "node:assert/strict";
import fc from "fast-check";
import { peerTest } from "../../tests/support/conditional.ts";
import { run } from "../../tests/support/process.ts";
import { type TempDir, tempDir } from "../../tests/support/temp.ts";
import { type Loss, SECTOR_BYTES, VolatileCache } from "./volatile_cache.ts";
import { VolatileDisk } from "./volatile_disk.ts";

const SECTORS = 16;

function disk(directory: TempDir): string {
  const path = directory.join("disk");
  Deno.writeFileSync(path, new Uint8Array(SECTORS * SECTOR_BYTES));
  return path;
}

/** Each sector's first byte. */
function sectors(path: string): number[] {
  const bytes = Deno.readFileSync(path);
  return Array.from({ length: SECTORS }, (_, index) => bytes[index * SECTOR_BYTES] ?? -1);
}

const filled = (count: number, value: number) => new Uint8Array(count * SECTOR_BYTES).fill(value);

Deno.test("a cut takes back what was not flushed, and nothing else", () => {
  using directory = tempDir();
  const path = disk(directory);
  using cache = new VolatileCache(path);
  cache.write(0, filled(2, 1));
  cache.flush();
  cache.write(SECTOR_BYTES, filled(2, 2));
  cache.write(4 * SECTOR_BYTES, filled(1, 3), true);
  assert.deepEqual(sectors(path).slice(0, 5), [1, 2, 2, 0, 3]);
  assert.equal(cache.cut("all"), 2 * SECTOR_BYTES);
  assert.deepEqual(sectors(path).slice(0, 5), [1, 1, 0, 0, 3]);
});

Deno.test("after any cut a sector holds what was flushed last or something that was written since", () => {
  const step = fc.oneof(
    fc.record({ at: fc.nat(SECTORS - 1), count: fc.integer({ min: 1, max: 4 }) }),
    fc.constant("flush" as const),
  );
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 30 }),
      fc.constantFrom<Loss>("all", "none", "some"),
      (steps, loss) => {
        using directory = tempDir();
        const path = disk(directory), allowed = Array.from({ length: SECTORS }, () => [0]);
        using cache = new VolatileCache(path);
        let value = 0;
        for (const step of steps) {
          if (step === "flush") {
            cache.flush();
            for (const values of allowed) values.splice(0, values.length - 1);
            continue;
          }
          const count = Math.min(step.count, SECTORS - step.at);
          cache.write(step.at * SECTOR_BYTES, filled(count, ++value));
          for (let index = 0; index < count; index++) allowed[step.at + index]?.push(value);
        }
        cache.cut(loss);
        for (const [index, is] of sectors(path).entries()) {
          const may = allowed[index] ?? [];
          if (loss === "all") assert.equal(is, may[0]);
          else if (loss === "none") assert.equal(is, may.at(-1));
          else assert.ok(may.includes(is), `sector ${index} is ${is}, not of ${may}`);
        }
      },
    ),
    { numRuns: 60 },
  );
});

peerTest("QEMU reads what it wrote to the disk, and a flush of its makes it stay", {
  needs: ["qemu-io"],
}, async () => {
  using directory = tempDir();
  const path = disk(directory);
  await using served = new VolatileDisk(path, directory.join("socket"));
  const image = `driver=nbd,server.type=unix,server.path=${served.path}`;
  const commands = ["write -P 1 0 1k", "flush", "read -P 1 0 1k", "write -P 2 4k 512"];
  await run("qemu-io", ["--image-opts", ...commands.flatMap((text) => ["-c", text]), image]);
  assert.equal(served.problem, undefined);
  assert.equal(served.counts.writes, 2);
  assert.ok(served.counts.flushes >= 1);
  await served.cut("none");
  assert.deepEqual(sectors(path).slice(0, 9), [1, 1, 0, 0, 0, 0, 0, 0, 2]);
});
