/**
 * A whole volume from what is shipped: bundles and the runtime, in an empty directory, with an empty environment and
 * an empty cache. Shows that Workers, generated code and everything else are inside.
 *
 * @module
 */
import assert from "node:assert/strict";
import { existingPrograms, WORKERS } from "../tools/programs.ts";
import { makeDist } from "../tools/shipping/dist.ts";
import { run, spawnLogged } from "./support/process.ts";
import { ROOT } from "./support/repository.ts";
import { tempDir } from "./support/temp.ts";

const DISK_BYTES = 16 * 1024 * 1024;

for (const frontend of ["socket", "nbd", "iscsi"]) {
  Deno.test(`a volume served from a dist takes data through ${frontend}, stops in order and starts again`, async () => {
    using directory = tempDir();
    await makeDist(
      { root: ROOT, programs: existingPrograms(ROOT), workers: WORKERS },
      directory.join("dist"),
    );
    Deno.mkdirSync(directory.join("empty"));
    const options = { cwd: directory.join("empty"), clearEnv: true };
    const program = directory.join("dist/bin/drover");
    const serve = ["volume", "serve", "shipped", "--dir", directory.join("copies"), "--frontend", frontend];
    const bench = async (endpoint: string, ...args: string[]) => {
      const target = frontend === "socket" ? `unix:${endpoint}` : endpoint;
      const common = [
        "bench",
        "--target",
        target,
        "--seconds",
        "0.3",
        "--ramp",
        "0",
        "--size",
        String(DISK_BYTES),
        "-o",
        "json",
      ];
      return JSON.parse((await run(program, [...common, ...args], options)).stdout);
    };
    for (const life of ["first", "second"]) {
      const size = life === "first" ? ["--size", String(DISK_BYTES)] : [];
      await using volume = spawnLogged(program, [...serve, ...size], options);
      const [, endpoint] = await volume.waitForOutput(/^ready after .*: (\S+)$/m);
      const verified = await bench(endpoint, "--rw", "randwrite", "--verify", "--yes");
      assert.equal(verified.verification.wrong, 0);
      assert.ok((await bench(endpoint, "--rw", "randread", "--qd", "8")).total.operations > 0);
      volume.signal("SIGINT");
      assert.equal((await volume.status).code, 0, volume.output);
    }
  });
}
