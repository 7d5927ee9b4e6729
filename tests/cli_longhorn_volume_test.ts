/**
 * A whole volume made and kept with the program `longhorn` alone, as a script does it: engine and replicas, a
 * snapshot, a backup and its restore, a copy that is added and one that is taken out.
 */
import assert from "node:assert/strict";
import { verifyPattern, writePattern } from "./cli_kit.ts";
import { freePortRange } from "./support/ports.ts";
import { type LoggedProcess, spawnDeno } from "./support/process.ts";
import { inRepository } from "./support/repository.ts";
import { tempDir } from "./support/temp.ts";
import { waitFor } from "./support/wait.ts";

const MiB = 1024 * 1024;
/** Control, data, long jobs, four files. */
const REPLICA_PORTS = 7;

/** The processes of one volume. */
class Volume implements AsyncDisposable {
  readonly #processes: LoggedProcess[] = [];
  readonly url: string;

  constructor(readonly name: string, readonly port: number, readonly directory: string) {
    this.url = `http://127.0.0.1:${port}`;
  }

  /** The address of the nth replica. */
  address(n: number): string {
    return `tcp://127.0.0.1:${this.port + 1 + n * REPLICA_PORTS}`;
  }

  async replica(n: number): Promise<void> {
    const process = spawnDeno("cmd/longhorn.ts", [
      ...["--volume-name", this.name, "replica", `${this.directory}/r${n}`, "--size", "64m"],
      ...["--listen", this.address(n).slice("tcp://".length), "--disableRevCounter"],
      ...["--sync-agent-port-count", "4"],
    ]);
    this.#processes.push(process);
    await process.waitForOutput(/replica ready/);
  }

  async engine(replicas: number): Promise<void> {
    const process = spawnDeno("cmd/longhorn.ts", [
      ...["--volume-name", this.name, "controller", this.name, "--listen", `127.0.0.1:${this.port}`],
      ...["--size", "64m", "--current-size", "64m", "--disableRevCounter", "--frontend", "socket"],
      ...["--frontend-listen", `unix:${this.directory}/s`],
      ...Array.from({ length: replicas }, (_, n) => ["--replica", this.address(n)]).flat(),
    ]);
    this.#processes.unshift(process);
    await process.waitForOutput(/engine ready/);
  }

  async longhorn(...args: string[]): Promise<string> {
    const output = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", inRepository("cmd/longhorn.ts"), "--url", this.url, ...args],
      stdin: "null",
      env: { NO_COLOR: "1", DROVER_LOG_LEVEL: "error" },
    }).output();
    const [stdout, stderr] = [output.stdout, output.stderr].map((bytes) => new TextDecoder().decode(bytes));
    assert.equal(output.code, 0, `${args.join(" ")}: ${stdout}${stderr}`);
    return stdout;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const process of this.#processes) await process.stop();
  }
}

Deno.test("a script that calls longhorn makes, backs up, restores and repairs volumes", async () => {
  using directory = tempDir();
  for (const name of ["a", "b", "store"]) Deno.mkdirSync(directory.join(name));
  const target = `vfs://${directory.join("store")}`, state = directory.join("state");
  const port = freePortRange(40);
  await using volume = new Volume("v1", port, directory.join("a"));
  await volume.replica(0);
  await volume.engine(1);
  const place = `unix:${directory.join("a/s")}`;
  await writePattern(place, 4 * MiB, state);
  assert.equal(await volume.longhorn("snapshot", "create", "s1"), "s1\n");
  const begun = JSON.parse(
    await volume.longhorn("backup", "create", "s1", "--dest", target, "--label", "a=b"),
  );
  assert.deepEqual(Object.keys(begun), ["backupID", "isIncremental", "replicaAddress"]);
  assert.equal(begun.replicaAddress, volume.address(0));
  let url = "";
  await waitFor(async () => {
    const status = JSON.parse(await volume.longhorn("backup", "status", begun.backupID));
    assert.equal(status.error, undefined);
    url = status.backupURL;
    return status.state === "complete";
  }, { what: "the backup", timeoutMs: 60_000 });
  const list = JSON.parse(await volume.longhorn("backup", "ls", target));
  assert.deepEqual(Object.keys(list.v1.Backups), [begun.backupID]);
  const inspected = JSON.parse(await volume.longhorn("backup", "inspect", url.replace("&", "\\u0026")));
  assert.deepEqual([inspected.SnapshotName, inspected.Labels, inspected.VolumeSize], [
    "s1",
    { a: "b" },
    String(64 * MiB),
  ]);
  assert.match(await volume.longhorn("backup", "head", url), /"ModificationTime": "20/);

  await volume.replica(1);
  await volume.longhorn("add-replica", volume.address(1), "--size", "64m", "--current-size", "64m");
  assert.equal(await volume.longhorn("rebuild-status"), "{}\n");
  assert.equal((await volume.longhorn("ls")).match(/ RW +\[volume-head-\d+\.img /g)?.length, 2);
  await volume.longhorn("rm", volume.address(0));
  await verifyPattern(place, 4 * MiB, state);

  await using restored = new Volume("v2", port + 20, directory.join("b"));
  await restored.replica(0);
  await restored.engine(1);
  await restored.longhorn("frontend", "shutdown");
  await restored.longhorn("backup", "restore", url);
  await waitFor(async () => {
    const [one] = Object.values(JSON.parse(await restored.longhorn("backup", "restore-status"))) as {
      state: string;
      error?: string;
    }[];
    assert.equal(one?.error, undefined);
    return one?.state === "complete";
  }, { what: "the restore", timeoutMs: 60_000 });
  await restored.longhorn("frontend", "start", "socket");
  await verifyPattern(`unix:${directory.join("b/s")}`, 4 * MiB, state);
  await volume.longhorn("backup", "rm", url);
  assert.equal(
    JSON.parse(await volume.longhorn("backup", "ls", target, "--volume", "v1")).v1.Backups,
    undefined,
  );
});
