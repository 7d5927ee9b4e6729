/**
 * Volumes with snapshots: a new copy gets their files, and another volume gets a snapshot's content.
 */
import assert from "node:assert/strict";
import { drover, serveVolume, verifyPattern, writePattern } from "./cli_kit.ts";
import { tempDir } from "./support/temp.ts";

const MiB = 1024 * 1024;

Deno.test("a new copy holds everything, snapshots too; a clone of a snapshot is a volume of its own", async () => {
  using directory = tempDir();
  const dir = directory.join("a"), other = directory.join("b"), state = directory.join("state");
  const ok = async (...args: string[]) => {
    const { code, stdout, stderr } = await drover(...args, "--dir", dir, other);
    assert.equal(code, 0, `${args.join(" ")}: ${stdout}${stderr}`);
    return stdout;
  };
  const options = (
    name: string,
  ) => ["--replicas", "1", "--size", "64m", "--frontend", "socket", "--listen", name];
  await using volume = await serveVolume("v1", dir, options(`unix:${directory.join("s1")}`));
  const place = `unix:${volume.endpoint}`;
  await writePattern(place, 4 * MiB, state);
  await ok("snapshot", "create", "v1", "kept");
  const later = directory.join("later");
  Deno.copyFileSync(state, later);
  await writePattern(place, 4 * MiB, later);

  assert.equal(await ok("replica", "add", "v1", "--to", directory.join("more")), "copy v1-r-2 is complete\n");
  assert.doesNotMatch(volume.process.output, /"level"/, "no log lines between those for people");
  await ok("replica", "rm", "v1", "v1-r-1", "--yes");
  await verifyPattern(place, 4 * MiB, later);

  await using copy = await serveVolume("v2", other, options(`unix:${directory.join("s2")}`));
  const more = directory.join("more");
  const clone = await drover("snapshot", "clone", "v1", "kept", "v2", "--yes", "--dir", more, other);
  assert.deepEqual([clone.code, clone.stdout, clone.stderr], [
    0,
    "volume v2 has the data of kept of v1\n",
    "",
  ]);
  await verifyPattern(`unix:${copy.endpoint}`, 4 * MiB, state);
  await writePattern(`unix:${copy.endpoint}`, 4 * MiB, state);
  await verifyPattern(`unix:${copy.endpoint}`, 4 * MiB, state);
  await verifyPattern(place, 4 * MiB, later);
  assert.equal(await volume.interrupt(), 0);
  assert.equal(await copy.interrupt(), 0);
});
