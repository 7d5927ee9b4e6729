import assert from "node:assert/strict";
import { SystemRunner } from "./command.ts";
import {
  FreezeBusyError,
  FreezeError,
  type FreezeOptions,
  freezeVolume,
  syncVolume,
  thawLeftovers,
} from "./freeze.ts";
import { isMountPoint } from "./mounts.ts";
import { keptLog, type Rule, ScriptedRunner } from "./test_kit.ts";
import { peerTest } from "../../tests/support/conditional.ts";
import { loopImage } from "../../tests/support/loop_image.ts";
import { run, runAnyway } from "../../tests/support/process.ts";
import { type TempDir, tempDir } from "../../tests/support/temp.ts";
import { waitFor } from "../../tests/support/wait.ts";

const needs = ["root", "loop", "mkfs.ext4", "fsfreeze"];

/** A frozen file system refuses to be frozen once more. */
async function isFrozen(path: string): Promise<boolean> {
  const { code, stderr } = await runAnyway("fsfreeze", ["--freeze", path]);
  if (code !== 0) return /busy/i.test(stderr);
  await run("fsfreeze", ["--unfreeze", path]);
  return false;
}

function realOptions(directory: TempDir, device: string): FreezeOptions {
  return {
    runner: new SystemRunner(),
    volume: "vol",
    device,
    directory: directory.join("freeze"),
    log: keptLog().log,
  };
}

peerTest("a mounted file system is frozen until it is thawed, and nothing is left", { needs }, async () => {
  using directory = tempDir();
  await using fs = await loopImage({ bytes: 16 * 1024 * 1024 });
  const options = realOptions(directory, fs.device);
  Deno.symlinkSync(fs.device, directory.join("link"));
  const frozen = await freezeVolume({ ...options, device: directory.join("link") });
  try {
    assert.deepEqual(frozen.mountPoints, [fs.path]);
    assert.equal(await isFrozen(fs.path), true);
    assert.equal(isMountPoint(directory.join("freeze/vol")), true);
    await assert.rejects(freezeVolume(options), FreezeBusyError);
  } finally {
    await frozen.thaw();
  }
  await frozen.thaw();
  assert.equal(frozen.expired, false);
  assert.equal(await isFrozen(fs.path), false);
  assert.deepEqual([...Deno.readDirSync(directory.join("freeze"))], []);
});

peerTest("a file system that stays frozen for too long is thawed by itself", { needs }, async () => {
  using directory = tempDir();
  await using fs = await loopImage({ bytes: 16 * 1024 * 1024 });
  const frozen = await freezeVolume({ ...realOptions(directory, fs.device), maxFrozenMs: 1 });
  await waitFor(() => frozen.expired, { what: "the limit" });
  await frozen.thaw();
  assert.equal(await isFrozen(fs.path), false);
});

peerTest("what a process that died left frozen is thawed by the next one", { needs }, async () => {
  using directory = tempDir();
  await using fs = await loopImage({ bytes: 16 * 1024 * 1024 });
  const options = realOptions(directory, fs.device), place = directory.join("freeze/vol");
  const other = directory.join("freeze/vol.other");
  Deno.mkdirSync(place, { recursive: true });
  Deno.mkdirSync(other);
  await run("mount", ["--bind", fs.path, place]);
  await run("fsfreeze", ["--freeze", place]);
  assert.deepEqual(await thawLeftovers(options), [place]);
  assert.equal(await isFrozen(fs.path), false);
  assert.equal(isMountPoint(place), false);
  // Died before or after it was mounted there: the note alone is enough.
  Deno.mkdirSync(place);
  await run("fsfreeze", ["--freeze", fs.path]);
  assert.deepEqual(await thawLeftovers(options), [place]);
  assert.equal(await isFrozen(fs.path), false);
  assert.deepEqual(await thawLeftovers(options), []);
  assert.deepEqual([...Deno.readDirSync(directory.join("freeze"))].map((e) => e.name), ["vol.other"]);
});

peerTest("a device that is not mounted is synced instead", { needs }, async () => {
  using directory = tempDir();
  const device = (await run("losetup", ["--find"])).stdout.trim();
  const runner = new ScriptedRunner([["sync", ""]]);
  const frozen = await freezeVolume({ ...realOptions(directory, device), runner });
  assert.deepEqual(frozen.mountPoints, []);
  await frozen.thaw();
  assert.deepEqual(runner.ran, [`sync ${device}`]);
});

/** A volume on device 7:9 that is mounted at /data in our own namespace. */
function scripted(directory: TempDir, rules: Rule[]): FreezeOptions & { readonly runner: ScriptedRunner } {
  const sys = directory.join("sys"), proc = directory.join("proc");
  Deno.mkdirSync(`${sys}/devices/drover9/holders`, { recursive: true });
  Deno.mkdirSync(`${sys}/class/block`, { recursive: true });
  Deno.mkdirSync(`${sys}/dev/block`, { recursive: true });
  Deno.mkdirSync(`${proc}/self/ns`, { recursive: true });
  Deno.writeTextFileSync(`${sys}/devices/drover9/dev`, "7:9\n");
  Deno.symlinkSync(`${sys}/devices/drover9`, `${sys}/class/block/drover9`);
  Deno.symlinkSync(`${sys}/devices/drover9`, `${sys}/dev/block/7:9`);
  Deno.symlinkSync("mnt:[1]", `${proc}/self/ns/mnt`);
  const place = directory.join("freeze/vol"), bound = `2 1 7:9 / ${place} rw - ext4 /dev/drover9 rw\n`;
  const table = "1 0 7:9 / /data rw - ext4 /dev/drover9 rw\n";
  const show = (text: string): string => {
    Deno.writeTextFileSync(`${proc}/self/mountinfo`, text);
    return "";
  };
  show(table);
  const runner = new ScriptedRunner([
    ...rules,
    ["mount --bind /data", () => show(table + bound)],
    ["umount", () => show(table)],
    ["fsfreeze", ""],
    ["sync", ""],
  ]);
  return {
    runner,
    sys,
    proc,
    volume: "vol",
    device: "/dev/drover9",
    directory: directory.join("freeze"),
    log: keptLog().log,
  };
}

Deno.test("a freeze that fails is an error that says why, and is undone", async () => {
  using directory = tempDir();
  const options = scripted(directory, [["fsfreeze --freeze", {
    code: 1,
    stderr: "Operation not supported",
  }]]);
  await assert.rejects(freezeVolume(options), (error) => {
    assert.ok(error instanceof FreezeError);
    assert.match(error.message, /volume vol: its file system at \/data cannot be frozen: .*not supported/);
    return true;
  });
  const place = directory.join("freeze/vol");
  assert.deepEqual(options.runner.ran.slice(2), [`fsfreeze --unfreeze ${place}`, `umount --lazy ${place}`]);
  assert.deepEqual([...Deno.readDirSync(directory.join("freeze"))], []);
});

Deno.test("a freeze that does not end is undone when it does", async () => {
  using directory = tempDir();
  const options = scripted(directory, [["fsfreeze --freeze", "hangs"]]), place = directory.join("freeze/vol");
  Deno.mkdirSync(`${options.proc}/77`);
  Deno.writeTextFileSync(`${options.proc}/77/cmdline`, `fsfreeze\0--freeze\0${place}\0`);
  await assert.rejects(freezeVolume(options), /did not end/);
  assert.equal(options.runner.count("fsfreeze --unfreeze"), 0);
  await assert.rejects(freezeVolume(options), FreezeBusyError);
  Deno.removeSync(`${options.proc}/77`, { recursive: true });
  await waitFor(() => options.runner.count("umount") === 1, { what: "the thaw" });
  assert.equal(options.runner.count(`fsfreeze --unfreeze ${place}`), 1);
});

Deno.test("a sync that fails is told and does not fail the snapshot", async () => {
  using directory = tempDir();
  const { log, lines } = keptLog();
  await syncVolume({ ...scripted(directory, [["sync", { code: 1, stderr: "Input/output error" }]]), log });
  assert.equal(lines.length, 2);
  assert.match(lines[0] ?? "", /was not written.*Input\/output error/);
});

Deno.test("a volume whose name is no file name is refused before anything is frozen", async () => {
  using directory = tempDir();
  const options = { ...scripted(directory, []), volume: "../vol" };
  await assert.rejects(freezeVolume(options), /cannot name a directory/);
  assert.deepEqual(options.runner.ran, []);
});
