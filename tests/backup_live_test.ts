/**
 * A backup of a volume at work whose target is slow: the volume does not wait for it. Cancelled, it goes on later without
 * uploading again what is there; a restore into the volume downloads each block once for all copies, also when it is
 * interrupted and goes on.
 *
 * @module
 */
import assert from "node:assert/strict";
import { drover, serveVolume } from "./cli_kit.ts";
import { peerTest } from "./support/conditional.ts";
import { type FaultProxy, faultProxy } from "./support/fault_proxy.ts";
import { run, spawnDeno } from "./support/process.ts";
import { s3Server } from "./support/s3_server.ts";
import { tempDir } from "./support/temp.ts";
import { waitFor } from "./support/wait.ts";

/** Blocks of the volume that hold something, of 2 MiB. */
const BLOCKS = 6;
/** Blocks uploaded before the target becomes slow. */
const QUICK = 2;
/** Time that the slow target takes for a block, milliseconds. */
const SLOW_MS = 4_000;

function blockOf(path: string): string | undefined {
  return /([0-9a-f]{64})\.blk/.exec(path)?.[1];
}

/** Commands of qemu-io that write, or read and compare, a number of its own in each block. */
function pattern(verb: "write" | "read"): string[] {
  return Array.from({ length: BLOCKS }, (_, index) => ["-c", `${verb} -P ${index + 1} ${2 * index}M 2M`])
    .flat();
}

/** Restores into the volume, is interrupted, and goes on. @returns the blocks that came */
async function restoreInTwoTries(proxy: FaultProxy, where: readonly string[]): Promise<string[]> {
  const fetched: string[] = [];
  let downloads = 0;
  const watch = (quick: number): void => {
    proxy.decide = ({ method, path }) => {
      const block = blockOf(path);
      if (method !== "GET" || block === undefined) return undefined;
      if (++downloads > quick) return { kind: "delay", milliseconds: SLOW_MS };
      fetched.push(block);
    };
  };
  watch(QUICK);
  const restore = ["restore", "data", "one", "--into", "data", "--yes", "--concurrency", "1", ...where];
  await using restoring = spawnDeno("cmd/drover.ts", ["backup", ...restore]);
  await waitFor(() => downloads > QUICK, { what: "a download that takes long" });
  restoring.signal("SIGINT");
  assert.equal((await restoring.status).code, 130);
  assert.match(restoring.output, /go on with --continue/);
  watch(Infinity);
  const { code, stdout, stderr } = await drover("backup", ...restore, "--continue");
  assert.equal(code, 0, stderr);
  assert.match(stdout, new RegExp(`${QUICK} were there from an earlier try`));
  return fetched;
}

peerTest(
  "a volume works while its backup waits; cancelled, that goes on; a restore downloads each block once",
  {
    needs: ["versitygw", "qemu-io"],
  },
  async () => {
    using dir = tempDir();
    await using server = await s3Server();
    await using proxy = await faultProxy(server.endpoint);
    const keys = dir.join("keys"), credentials = Object.entries(server.credentials(proxy.endpoint));
    Deno.writeTextFileSync(keys, credentials.map(([name, value]) => `${name}=${value}\n`).join(""), {
      mode: 0o600,
    });
    const where = ["--target", server.url(), "--credentials", keys, "--dir", dir.path];
    const listen = ["--frontend", "nbd", "--listen", `unix:${dir.join("s")}`];
    await using volume = await serveVolume("data", dir.path, ["--size", "16m", "--replicas", "2", ...listen]);
    const io = async (...commands: string[]): Promise<void> => {
      const { stdout } = await run("qemu-io", ["-f", "raw", volume.endpoint, ...commands]);
      assert.doesNotMatch(stdout, /verification failed/);
    };
    await io(...pattern("write"), "-c", "flush");

    let uploads = 0;
    const uploaded = new Set<string>();
    proxy.decide = ({ method, path }) => {
      const block = blockOf(path);
      if (method !== "PUT" || block === undefined) return undefined;
      if (++uploads > QUICK) return { kind: "delay", milliseconds: SLOW_MS };
      uploaded.add(block);
    };
    const create = ["create", "data", "--name", "one", "--concurrency", "1", ...where];
    await using making = spawnDeno("cmd/drover.ts", ["backup", ...create]);
    await waitFor(() => uploads > QUICK, { what: "an upload that takes long" });
    await io("-c", "write -P 0x77 14M 64k", "-c", "flush", "-c", "read -P 0x77 14M 64k");
    assert.ok(making.running, "the backup is still at it");
    making.signal("SIGINT");
    assert.equal((await making.status).code, 130);
    assert.match(making.output, /go on with: --name one/);

    const again: string[] = [];
    proxy.decide = ({ method, path }) => {
      const block = blockOf(path);
      if (block !== undefined && method === "PUT") again.push(block);
      return undefined;
    };
    const { code, stderr } = await drover("backup", ...create);
    assert.equal(code, 0, stderr);
    assert.equal(uploaded.size, QUICK);
    assert.deepEqual(again.filter((block) => uploaded.has(block)), [], "nothing is uploaded again");
    // The block that was under way when it was cancelled may have arrived; 14M was written since.
    assert.ok(
      again.length >= BLOCKS - QUICK && again.length <= BLOCKS - QUICK + 1,
      `${again.length} uploads`,
    );

    await io("-c", "write -P 0xff 0 16M");
    const fetched = await restoreInTwoTries(proxy, where);
    assert.equal(fetched.length, BLOCKS + 1);
    assert.equal(
      new Set(fetched).size,
      fetched.length,
      "each block comes once, for both copies and both tries",
    );
    await io(...pattern("read"), "-c", "read -P 0x77 14M 64k", "-c", "read -P 0 12M 2M");
  },
);
