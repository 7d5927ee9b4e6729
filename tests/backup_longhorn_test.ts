/**
 * The commands about backups in Longhorn's forms: against a store alone, and through an engine.
 *
 * @module
 */
import assert from "node:assert/strict";
import { serveVolume } from "./cli_kit.ts";
import { peerTest } from "./support/conditional.ts";
import { run, runAnyway, type RunResult } from "./support/process.ts";
import { inRepository } from "./support/repository.ts";
import { tempDir } from "./support/temp.ts";
import { waitFor } from "./support/wait.ts";

async function longhorn(...args: string[]): Promise<RunResult> {
  return await runAnyway(Deno.execPath(), [
    "run",
    "-A",
    "--no-check",
    inRepository("cmd/longhorn.ts"),
    ...args,
  ]);
}

async function printed<T>(...args: string[]): Promise<T> {
  const { code, stdout, stderr } = await longhorn(...args);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout) as T;
}

peerTest(
  "an engine's snapshot is backed up, listed, shown, written to a file over its backing image, and removed",
  {
    needs: ["qemu-io", "qemu-img"],
  },
  async () => {
    using dir = tempDir();
    Deno.mkdirSync(dir.join("store"));
    const dest = `vfs://${dir.join("store")}`;
    const listen = ["--frontend", "nbd", "--listen", `unix:${dir.join("s")}`];
    await using volume = await serveVolume("data", dir.path, ["--size", "16m", "--replicas", "1", ...listen]);
    await run("qemu-io", ["-f", "raw", volume.endpoint, "-c", "write -P 0x5a 4M 2M", "-c", "flush"]);
    const engine = ["--url", (await volume.report()).running?.control ?? ""];
    assert.equal((await longhorn(...engine, "snapshots", "create", "s1")).stdout.trim(), "s1");
    const create = [
      ...engine,
      "backups",
      "create",
      "s1",
      "--dest",
      dest,
      "--backup-name",
      "b1",
      "--label",
      "a=b",
    ];
    const begun = await printed<{ backupID: string; isIncremental: boolean; replicaAddress: string }>(
      ...create,
    );
    assert.deepEqual([begun.backupID, begun.isIncremental], ["b1", false]);
    const url = `${dest}?backup=b1&volume=data`;
    const status = await waitFor(async () => {
      const now = await printed<Record<string, unknown>>(...engine, "backups", "status", "b1");
      return now.state === "in_progress" ? null : now;
    }, { everyMs: 500, timeoutMs: 60_000 });
    const { replicaAddress, ...rest } = status;
    assert.equal(replicaAddress, begun.replicaAddress);
    assert.deepEqual(rest, { progress: 100, backupURL: url, snapshotName: "s1", state: "complete" });
    const refused = await longhorn(...engine, "backups", "restore", url);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /volume frontend enabled, aborting restore/);

    const listed = await printed<Record<string, { Backups: Record<string, unknown> }>>("backup", "ls", dest);
    assert.deepEqual(Object.keys(listed.data?.Backups ?? {}), ["b1"]);
    const shown = await printed<Record<string, unknown>>("backup", "inspect", url);
    assert.deepEqual([shown.Name, shown.URL, shown.SnapshotName, shown.Labels], ["b1", url, "s1", {
      a: "b",
    }]);
    const backing = dir.join("backing.qcow2"), output = dir.join("out");
    await run("qemu-img", ["create", "-q", "-f", "qcow2", backing, "16M"]);
    await run("qemu-io", ["-f", "qcow2", backing, "-c", "write -P 0x11 0 16M"]);
    const toFile = [
      "backup",
      "restore-to-file",
      url,
      "--backing-file",
      backing,
      "--output-file",
      output,
      "--output-format",
      "raw",
    ];
    assert.equal((await longhorn(...toFile)).code, 0);
    const reads = ["-c", "read -P 0x11 0 4M", "-c", "read -P 0x5a 4M 2M", "-c", "read -P 0x11 6M 10M"];
    const { stdout } = await run("qemu-io", ["-f", "raw", output, ...reads]);
    assert.doesNotMatch(stdout, /verification failed/);
    assert.equal((await longhorn("backup", "rm", url)).code, 0);
    const gone = await longhorn("backup", "inspect", url);
    assert.equal(gone.code, 1);
    assert.match(gone.stderr, /cannot find .*backup=b1/);
  },
);
