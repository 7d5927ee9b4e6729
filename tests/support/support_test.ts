import assert from "node:assert/strict";
import { peerTest } from "./conditional.ts";
import { loopImage } from "./loop_image.ts";
import { findProgram, missing } from "./needs.ts";
import { freePortRange } from "./ports.ts";
import { run, runAnyway, spawnLogged } from "./process.ts";
import { tempDir } from "./temp.ts";
import { waitFor } from "./wait.ts";

Deno.test("a temporary directory is gone after its scope", () => {
  let path: string;
  {
    using directory = tempDir();
    path = directory.path;
    Deno.writeTextFileSync(directory.join("a"), "x");
  }
  assert.throws(() => Deno.statSync(path), Deno.errors.NotFound);
});

Deno.test("free ports in a row can be listened on", () => {
  const base = freePortRange(3);
  const listeners = [0, 1, 2].map((index) => Deno.listen({ hostname: "127.0.0.1", port: base + index }));
  for (const listener of listeners) listener.close();
  assert.equal(listeners.length, 3);
});

Deno.test("waitFor returns what it found and names what it did not find", async () => {
  let looks = 0;
  assert.equal(await waitFor(() => ++looks === 3 ? "found" : null, { everyMs: 1 }), "found");
  await assert.rejects(
    waitFor(() => {
      throw new Error("not yet");
    }, { what: "the moon", timeoutMs: 1, everyMs: 1 }),
    (error: Error) => error.message.includes("the moon") && (error.cause as Error).message === "not yet",
  );
});

Deno.test("a logged process collects both outputs and is stopped with its scope", async () => {
  let ended: Promise<Deno.CommandStatus>;
  {
    await using child = spawnLogged("sh", ["-c", "echo out; echo err >&2; exec sleep 1000"]);
    ended = child.status;
    await child.waitForOutput(/out/);
    await child.waitForOutput(/err/);
    assert.equal(child.running, true);
  }
  assert.equal((await ended).signal, "SIGTERM");
});

Deno.test("waiting for the output of a process that ends without it fails with what it said", async () => {
  await using child = spawnLogged("sh", ["-c", "echo goodbye; exit 3"]);
  await assert.rejects(child.waitForOutput(/hello/), /goodbye/);
  assert.equal((await child.status).code, 3);
});

Deno.test("a failing program's output is in the error", async () => {
  await assert.rejects(run("sh", ["-c", "echo why >&2; exit 4"]), /exit code 4\nwhy/);
  assert.equal((await runAnyway("sh", ["-c", "exit 4"])).code, 4);
});

Deno.test("a missing program is missing, with the package that has it", () => {
  assert.equal(missing("sh"), null);
  assert.equal(findProgram("no-such-program"), null);
  assert.equal(missing("no-such-program"), "no-such-program is missing");
});

peerTest("a loop image is an ext4 file system that goes away", { needs: ["loop", "mkfs.ext4"] }, async () => {
  let path: string, device: string;
  {
    await using image = await loopImage({ bytes: 64 * 1024 * 1024 });
    ({ path, device } = image);
    await Deno.writeTextFile(`${path}/file`, "x");
    const mounts = await Deno.readTextFile("/proc/self/mounts");
    assert.ok(mounts.includes(`${device} ${path} ext4`));
  }
  await assert.rejects(Deno.stat(path), Deno.errors.NotFound);
  await waitFor(async () => (await runAnyway("losetup", [device])).code !== 0, { what: `${device} to go` });
});
