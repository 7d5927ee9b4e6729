/**
 * File systems on a volume's loop device: whole before and after a copy and the engine are killed.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { serveVolume } from "./cli_kit.ts";
import { peerTest } from "./support/conditional.ts";
import { run, runAnyway } from "./support/process.ts";
import { tempDir } from "./support/temp.ts";

/** How a file system is made and checked. xfs wants 300 MiB; its check replays no log, so it follows a mount. */
const FILE_SYSTEMS = {
  ext4: { make: ["mkfs.ext4", "-q"], check: ["fsck.ext4", "-fn"] },
  xfs: { make: ["mkfs.xfs", "-q"], check: ["xfs_repair", "-n"] },
} as const;

const FILES = 20;

/** Writes files and syncs each. @returns path and SHA-256 of all */
async function writeFiles(directory: string, kind: string): Promise<Map<string, string>> {
  const sums = new Map<string, string>();
  for (let i = 0; i < FILES; i++) {
    const bytes = randomBytes(1000 * (i + 1) ** 2);
    const path = `${directory}/${kind}-${i}`;
    await Deno.writeFile(path, bytes);
    using file = await Deno.open(path);
    await file.sync();
    sums.set(path, createHash("sha256").update(bytes).digest("hex"));
  }
  return sums;
}

function verifyFiles(sums: ReadonlyMap<string, string>): void {
  for (const [path, sum] of sums) {
    const found = createHash("sha256").update(Deno.readFileSync(path)).digest("hex");
    assert.equal(found, sum, `${path} is not what was synced`);
  }
}

for (const [kind, { make, check }] of Object.entries(FILE_SYSTEMS)) {
  const needs = ["root", "fuse", "loop", make[0], check[0], "mount", "umount"];
  peerTest(
    `${kind} keeps every synced file through the kill of a copy and of the engine`,
    { needs },
    async () => {
      using directory = tempDir();
      const env = { DROVER_RUN: directory.join("run") };
      const name = `t-${crypto.randomUUID().slice(0, 8)}`, mountPoint = directory.join("mnt");
      Deno.mkdirSync(mountPoint);
      const copies = directory.join("copies"),
        [maker, ...makerFlags] = make,
        [checker, ...checkerFlags] = check;
      let sums: Map<string, string>;
      {
        const flags = ["--size", "400m", "--frontend", "loop", "--no-repair"];
        await using volume = await serveVolume(name, copies, flags, { env });
        await run(maker, [...makerFlags, volume.endpoint]);
        await run(checker, [...checkerFlags, volume.endpoint]);
        await run("mount", [volume.endpoint, mountPoint]);
        sums = await writeFiles(mountPoint, "healthy");
        const { running } = await volume.report();
        const victim = (await volume.report()).replicas.find((replica) => replica.pid !== undefined);
        assert.ok(running && victim?.pid);
        Deno.kill(victim.pid, "SIGKILL");
        for (const [path, sum] of await writeFiles(mountPoint, "degraded")) sums.set(path, sum);
        verifyFiles(sums);
        // Something is under way when the engine goes.
        const load = new Deno.Command("dd", {
          args: ["if=/dev/urandom", `of=${mountPoint}/load`, "bs=64k", "count=2000", "conv=notrunc"],
          stderr: "null",
        }).spawn();
        await new Promise((resolve) => setTimeout(resolve, 300));
        Deno.kill(running.enginePid, "SIGKILL");
        await volume.process.status;
        await load.status;
        await runAnyway("umount", ["-l", mountPoint]);
      }
      await using volume = await serveVolume(name, copies, ["--frontend", "loop", "--no-repair"], { env });
      await run("mount", [volume.endpoint, mountPoint]);
      try {
        verifyFiles(sums);
      } finally {
        await run("umount", [mountPoint]);
      }
      await run(checker, [...checkerFlags, volume.endpoint]);
      assert.equal(await volume.interrupt(), 0, volume.process.output);
    },
  );
}
