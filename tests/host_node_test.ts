/**
 * `drover node`: what a killed engine leaves on a real machine is found and removed.
 */
import assert from "node:assert/strict";
import { listLoopDevices } from "../lib/host/loop_device.ts";
import { drover, serveVolume } from "./cli_kit.ts";
import { peerTest } from "./support/conditional.ts";
import { runAnyway } from "./support/process.ts";
import { inRepository } from "./support/repository.ts";
import { tempDir } from "./support/temp.ts";

interface Found {
  readonly severity: string;
  readonly subject: string;
  readonly what: string;
  readonly repairable: boolean;
}

async function node(
  directory: string,
  ...args: string[]
): Promise<{ code: number; stdout: string; stderr: string }> {
  const program = inRepository("cmd/drover.ts");
  return await runAnyway(Deno.execPath(), ["run", "-A", "--no-check", program, "node", ...args], {
    env: { DROVER_RUN: directory, LONGHORN_CONTROL_PATH: directory, NO_COLOR: "1" },
  });
}

async function findings(directory: string, volume: string): Promise<Found[]> {
  const { stdout, stderr } = await node(directory, "check", "-o", "json");
  assert.ok(stdout.startsWith("["), stderr);
  return (JSON.parse(stdout) as Found[]).filter(({ what }) => what.includes(volume));
}

peerTest("a killed engine's loop device and mount are found, shown, and removed when that is safe", {
  needs: ["root", "loop", "fuse"],
}, async () => {
  using directory = tempDir();
  const run_ = directory.join("run"), name = `t-${crypto.randomUUID().slice(0, 8)}`;
  const args = ["--size", "64m", "--replicas", "1", "--frontend", "loop-blockdev"];
  await using volume = await serveVolume(name, directory.path, args, { env: { DROVER_RUN: run_ } });
  assert.deepEqual(await findings(run_, name), []);
  const { running } = await volume.report();
  const engine = running?.enginePid ?? 0;
  assert.ok(engine > 0);
  // Held, so that it cannot tidy up when its parent goes.
  Deno.kill(engine, "SIGSTOP");
  volume.process.signal("SIGKILL");
  await volume.process.status;
  Deno.kill(engine, "SIGKILL");
  const device = () => listLoopDevices().find(({ backingFile }) => backingFile.startsWith(run_));
  const path = device()?.path ?? "";
  const [found] = await findings(run_, name);
  assert.equal(found?.subject, "loop device");
  assert.equal(found?.repairable, true);
  assert.match(
    (await node(run_, "clean", "--dry-run")).stdout,
    new RegExp(`would clean: loop device: volume ${name}`),
  );
  assert.equal(device()?.path, path);
  const refused = await node(run_, "clean");
  assert.equal(refused.code, 2);
  assert.match(refused.stderr, /nobody is there to ask; --yes/);
  const cleaned = await node(run_, "clean", "--yes");
  assert.match(cleaned.stdout, new RegExp(`^cleaned: loop device: volume ${name}`, "m"));
  assert.equal(device(), undefined);
  assert.deepEqual(await findings(run_, name), []);
  assert.equal((await runAnyway("test", ["-e", `/dev/longhorn/${name}`])).code, 1);
});

Deno.test("help and bad words are answered without looking at anything", async () => {
  const [help, word] = await Promise.all([drover("node", "--help"), drover("node", "check", "-o", "xml")]);
  assert.equal(help.code, 0);
  assert.match(help.stdout, /check .*\n.*clean/);
  assert.equal(word.code, 2);
  assert.match(word.stderr, /--output xml: expected table or json/);
});
