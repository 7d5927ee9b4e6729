import assert from "node:assert/strict";
import { lockFile, pathInRoot } from "./file_lock.ts";
import { HostError } from "./retry.ts";
import { peerTest } from "../../tests/support/conditional.ts";
import { runAnyway } from "../../tests/support/process.ts";
import { tempDir } from "../../tests/support/temp.ts";

Deno.test("a lock keeps others out until it is released", async () => {
  using directory = tempDir();
  const path = directory.join("lock");
  {
    using _lock = await lockFile(path, 0);
    await assert.rejects(lockFile(path, 0), (error) => {
      assert.ok(error instanceof HostError);
      assert.match(error.message, /is locked by another process/);
      return true;
    });
  }
  using _again = await lockFile(path, 0);
});

Deno.test("who waits gets the lock when it is released", async () => {
  using directory = tempDir();
  const first = await lockFile(directory.join("lock"), 0);
  const waiting = lockFile(directory.join("lock"), 60_000);
  first[Symbol.dispose]();
  using _second = await waiting;
});

peerTest("flock(1) takes part in it", { needs: ["flock"] }, async () => {
  using directory = tempDir();
  using _lock = await lockFile(directory.join("lock"), 0);
  assert.equal((await runAnyway("flock", ["-n", directory.join("lock"), "true"])).code, 1);
});

Deno.test("paths are followed as a process with another root would", () => {
  using directory = tempDir();
  const { path } = directory;
  Deno.mkdirSync(`${path}/run/a`, { recursive: true });
  Deno.mkdirSync(`${path}/var`);
  Deno.symlinkSync("/run", `${path}/var/run`);
  Deno.symlinkSync("../run/a", `${path}/run/b`);
  Deno.symlinkSync("circle", `${path}/circle`);
  assert.equal(pathInRoot(path, "/var/run/x.lock"), `${path}/run/x.lock`);
  assert.equal(pathInRoot(path, "/var/run/b/c"), `${path}/run/a/c`);
  assert.equal(pathInRoot(path, "/../../etc"), `${path}/etc`);
  assert.equal(pathInRoot("", "/no/such/thing"), "/no/such/thing");
  assert.throws(() => pathInRoot(path, "/circle"), /too many symbolic links/);
});
