/**
 * The demonstration: it shows what it promises, and leaves nothing behind, wherever it is interrupted.
 */
import assert from "node:assert/strict";
import { listLoopDevices } from "../lib/host/loop_device.ts";
import { readMounts } from "../lib/host/mounts.ts";
import { type LoggedProcess, spawnDeno } from "./support/process.ts";
import { tempDir } from "./support/temp.ts";

/** Five programs start, twice, on a machine that may be busy. */
const STEP_MS = 60_000;

function demo(directory: string): LoggedProcess {
  return spawnDeno("tools/demo.ts", ["--dir", directory], { env: { NO_COLOR: "1" } });
}

/** What is left below a directory, processes that mention it included. */
function remains(directory: string): string[] {
  const processes = [...Deno.readDirSync("/proc")].filter(({ name }) => /^\d+$/.test(name)).filter(
    ({ name }) => {
      try {
        return Deno.readTextFileSync(`/proc/${name}/cmdline`).includes(directory);
      } catch {
        return false;
      }
    },
  );
  return [
    ...Deno.readDirSync(directory).map(({ name }) => name),
    ...processes.map(({ name }) => `process ${name}`),
    ...readMounts().map((mount) => mount.mountPoint).filter((path) => path.startsWith(directory)),
    ...listLoopDevices().map((device) => device.backingFile).filter((path) => path.startsWith(directory)),
  ];
}

Deno.test("the demonstration kills a copy under load, which gets what it missed, and finds everything again", async () => {
  using directory = tempDir();
  await using process = demo(directory.path);
  const { code } = await process.status;
  assert.equal(code, 0, process.output);
  for (
    const pattern of [
      /^ 1 {2}A volume of 512 MiB with 3 copies$/m,
      /kill -9 \d+/,
      /longest pause of all writes: \d+ ms around the kill, \d+ ms before; errors: 0/,
      /complete again [\d.]+ s after the kill, still under load: it got what it missed in [\d.]+ s/,
      /the volume is healthy: 3 of 3 copies have every write/,
      /started again: .*; 3 of 3 copies are in use/,
      /16,384 of 16,384 blocks hold what the load was told is written/,
      /^Done in .*; nothing is left behind/m,
    ]
  ) assert.match(process.output, pattern);
  if (!/No disk of the kernel's here/.test(process.output)) {
    assert.match(process.output, /fsck\.ext4 -fn: clean/);
    const [, good, all] = process.output.match(/([\d,]+) of ([\d,]+) files have their SHA-256/) ?? [];
    assert.ok(good !== undefined && good !== "0" && good === all, process.output);
  }
  assert.deepEqual(remains(directory.path), []);
});

for (const [when, pattern] of [["at its start", /^ 1 /m], ["under load", /kill -9/]] as const) {
  Deno.test(`interrupted ${when}, the demonstration leaves nothing behind`, async () => {
    using directory = tempDir();
    await using process = demo(directory.path);
    await process.waitForOutput(pattern, { timeoutMs: STEP_MS });
    process.signal("SIGINT");
    assert.equal((await process.status).code, 130, process.output);
    assert.match(process.output, /interrupted; taking everything away/);
    assert.deepEqual(remains(directory.path), []);
  });
}
