/**
 * `drover snapshot` and the commands that change a running volume, with real processes.
 */
import assert from "node:assert/strict";
import type { SnapshotReport } from "../cmd/snapshot/show.ts";
import { drover, serveVolume, verifyPattern, volumeReport, writePattern } from "./cli_kit.ts";
import { tempDir } from "./support/temp.ts";

const MiB = 1024 * 1024;

Deno.test("snapshots are made, listed, gone back to, hashed, removed and purged; the volume grows", async () => {
  using directory = tempDir();
  const dir = directory.path, state = directory.join("state"), other = directory.join("other");
  const run = async (...args: string[]) => await drover(...args, "--dir", dir);
  const ok = async (...args: string[]) => {
    const { code, stdout, stderr } = await run(...args);
    assert.equal(code, 0, `${args.join(" ")}: ${stdout}${stderr}`);
    return stdout;
  };
  const refused = async (code: number, pattern: RegExp, ...args: string[]) => {
    const result = await run(...args);
    assert.equal(result.code, code, result.stdout + result.stderr);
    assert.match(result.stderr, pattern);
  };
  const tree = async (): Promise<SnapshotReport[]> =>
    JSON.parse(await ok("snapshot", "info", "v1", "-o", "json"));
  const socket = ["--frontend", "socket", "--listen", `unix:${directory.join("s")}`];
  {
    await using volume = await serveVolume("v1", dir, ["--size", "64m", ...socket]);
    const place = `unix:${volume.endpoint}`;
    assert.match(await ok("snapshot", "ls", "v1"), /^volume v1 has no snapshots of users; make one with/);
    await writePattern(place, 8 * MiB, state);
    assert.equal(await ok("snapshot", "create", "v1", "one", "--label", "by=test"), "one\n");
    await writePattern(place, 4 * MiB, other);
    assert.match(await ok("snapshot", "ls", "v1"), /^one +\S+ +8 MiB +user +by=test$/m);
    const [one, head] = await tree();
    assert.deepEqual([one?.name, one?.kind, head?.name, head?.kind], ["one", "user", "volume-head", "head"]);
    assert.equal(one?.freedByRemovalBytes, head?.allocatedBytes, "what the head has over it");
    assert.match(await ok("snapshot", "hash", "v1", "one"), /^v1-r-3 +[0-9a-f]{16} +ok$/m);

    await refused(1, /volume v1 has no snapshot two; there is: one$/m, "snapshot", "revert", "v1", "two");
    await refused(2, /nobody is there to ask; --yes does it without/, "snapshot", "revert", "v1", "one");
    await ok("snapshot", "revert", "v1", "one", "--yes");
    await verifyPattern(place, 8 * MiB, state);

    await ok("snapshot", "create", "v1", "two");
    await refused(2, /rm two: nobody is there to ask/, "snapshot", "rm", "v1", "two");
    assert.match(
      await ok("snapshot", "rm", "v1", "two", "--yes"),
      /^two removed\nits space is given back by/,
    );
    assert.equal((await tree()).find(({ name }) => name === "two")?.kind, "removed");
    assert.match(
      await ok("snapshot", "purge", "v1"),
      / freed in each copy\ntwo stays until a purge after the next/,
    );
    await verifyPattern(place, 8 * MiB, state);

    await refused(2, /volumes do not shrink/, "volume", "expand", "v1", "--size", "1m");
    assert.equal(await ok("volume", "expand", "v1", "--size", "+64m"), "volume v1 has 128 MiB now\n");
    const grown = await ok("volume", "expand", "v1", "--size", "+64m", "-o", "json");
    assert.deepEqual(JSON.parse(grown), { volume: "v1", sizeBytes: 192 * MiB });
    const purged = JSON.parse(await ok("snapshot", "purge", "v1", "-o", "json"));
    assert.ok(purged.purge === "done" && purged.gone.includes("two"));
    await refused(1, /is no disk of this machine/, "volume", "trim", "v1");
    assert.equal(await volume.interrupt(), 0);
  }
  assert.equal((await volumeReport("v1", dir)).sizeBytes, 192 * MiB);
  await refused(1, /volume v1 does not run; start it with: drover volume serve v1/, "snapshot", "ls", "v1");
  await refused(1, /no volume v2 in .*; there is: v1/, "snapshot", "ls", "v2");
  await using volume = await serveVolume("v1", dir, socket);
  await verifyPattern(`unix:${volume.endpoint}`, 8 * MiB, state);
  assert.equal((await tree()).some(({ name }) => name === "one"), true);
  assert.equal(await volume.interrupt(), 0);
});
