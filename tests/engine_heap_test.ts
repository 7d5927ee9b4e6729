import assert from "node:assert/strict";
import type { HeapReport } from "./engine_heap.ts";
import { run } from "./support/process.ts";
import { inRepository } from "./support/repository.ts";
import { tempDir } from "./support/temp.ts";

/** What the runtime itself moves by, bytes: code that is compiled late, statistics. A million objects are far more. */
const NOISE_BYTES = 300_000;

/** @param garbage most bytes per request that may be left to the collector */
async function assertQuiet(kind: string, requests: number, garbage: number): Promise<void> {
  using directory = tempDir("h-");
  const flags = "--v8-flags=--expose-gc,--min-semi-space-size=64,--max-semi-space-size=64";
  const { stdout } = await run(Deno.execPath(), [
    "run",
    "-A",
    "--no-check",
    flags,
    inRepository("tests/engine_heap.ts"),
    kind,
    String(requests),
    directory.path,
  ]);
  const report = JSON.parse(stdout) as HeapReport;
  const each = (report.retained / requests).toFixed(3);
  assert.ok(
    report.retained < NOISE_BYTES,
    `${requests} requests keep ${report.retained} bytes: ${each} bytes per request`,
  );
  assert.ok(
    report.garbagePerRequest < garbage,
    `each request leaves ${report.garbagePerRequest.toFixed(1)} bytes to the collector`,
  );
}

Deno.test("a million requests through frontend, volume, links and data services leave the heap as it was", async () => {
  await assertQuiet("memory", 1_000_000, 16);
});

Deno.test("so do requests to replica directories on a disk", async () => {
  // A bigint per file operation over poll(2), and code that is not compiled yet.
  await assertQuiet("disk", 100_000, 80);
});
