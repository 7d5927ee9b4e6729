import assert from "node:assert/strict";
import {
  checkDataPaths,
  checkFuse,
  checkIoUring,
  checkLoopDevices,
  checkLosetup,
  checkMultipath,
  checkPrivileges,
  HOST_CHECKS,
  type HostEnvironment,
} from "./checks.ts";
import { CommandError, type CommandResult, type Runner, SystemRunner } from "./command.ts";
import { type TempDir, tempDir } from "../../tests/support/temp.ts";

/** Answers every command with the same result, or is not able to start any. */
function fakeRunner(result: CommandResult | null): Runner {
  return {
    run: (argv) =>
      result === null
        ? Promise.reject(new CommandError(argv, "losetup is not installed"))
        : Promise.resolve(result),
  };
}

function fakeHost(
  directory: TempDir,
  files: Record<string, string>,
  runner = fakeRunner(null),
): HostEnvironment {
  for (const [path, text] of Object.entries(files)) {
    const file = directory.join(path);
    Deno.mkdirSync(file.slice(0, file.lastIndexOf("/")), { recursive: true });
    Deno.writeTextFileSync(file, text);
  }
  return { root: directory.path, runner, ioUring: { ok: true, detail: "works" }, dataPaths: [] };
}

Deno.test("every check answers on this host, with a name and a finding", async () => {
  const host = {
    root: "",
    runner: new SystemRunner(),
    ioUring: { ok: false, detail: "forbidden" },
    dataPaths: ["/"],
  };
  const answers = await Promise.all(HOST_CHECKS.map((check) => check(host)));
  assert.equal(new Set(answers.map((answer) => answer.name)).size, HOST_CHECKS.length);
  for (const answer of answers) {
    assert.ok(answer.detail.length > 0, answer.name);
    assert.ok(answer.ok || answer.fix.length > 0, `${answer.name} says what to do`);
  }
});

Deno.test("no check throws on a host that has nothing", async () => {
  using directory = tempDir();
  const host = { ...fakeHost(directory, {}), dataPaths: ["/no/such/directory"] };
  const answers = await Promise.all(HOST_CHECKS.map((check) => check(host)));
  const failed = answers.filter((answer) => !answer.ok).map((answer) => answer.name);
  assert.deepEqual(failed, ["privileges", "data directories", "fuse", "loop devices", "losetup"]);
});

Deno.test("the right to mount is read from the effective capabilities", () => {
  using directory = tempDir();
  const status = (mask: string) =>
    fakeHost(directory, { "proc/self/status": `Name:\tx\nCapEff:\t${mask}\n` });
  assert.equal(checkPrivileges(status("000001ffffffffff")).ok, true);
  assert.equal(checkPrivileges(status("00000000a80425fb")).ok, false);
});

Deno.test("a kernel without fuse or without its device is told from one with both", () => {
  using directory = tempDir();
  assert.match(checkFuse(fakeHost(directory, { "proc/filesystems": "\text4\n" })).fix, /modprobe fuse/);
  const types = { "proc/filesystems": "nodev\tfuse\n\tfuseblk\n" };
  assert.equal(checkFuse(fakeHost(directory, types)).ok, false);
  assert.match(checkFuse(fakeHost(directory, { ...types, "dev/fuse": "" })).detail, /not a device/);
  Deno.removeSync(directory.join("dev/fuse"));
  Deno.symlinkSync("/dev/null", directory.join("dev/fuse"));
  assert.equal(checkFuse(fakeHost(directory, types)).ok, true);
  Deno.symlinkSync("/dev/null", directory.join("dev/loop-control"));
  assert.equal(checkLoopDevices(fakeHost(directory, {})).ok, true);
});

Deno.test("a losetup that knows no direct I/O is not good enough", async () => {
  using directory = tempDir();
  const answer = (stdout: string) =>
    checkLosetup(fakeHost(directory, {}, fakeRunner({ code: 0, stdout, stderr: "" })));
  assert.equal((await answer("--direct-io --sector-size --set-capacity")).ok, true);
  assert.match((await answer("--sector-size --set-capacity")).detail, /does not know --direct-io/);
});

Deno.test("multipathd is fine when it does not run, or leaves sd devices alone", () => {
  using directory = tempDir();
  const host = fakeHost(directory, { "proc/1/comm": "init\n" });
  assert.equal(checkMultipath(host).ok, true);
  fakeHost(directory, { "proc/77/comm": "multipathd\n" });
  assert.equal(checkMultipath(host).ok, false);
  const answer = (configuration: string) =>
    checkMultipath(fakeHost(directory, { "etc/multipath.conf": configuration })).ok;
  assert.equal(answer('blacklist {\n  devnode "^sd[a-z0-9]+"\n}\n'), true);
  assert.equal(answer('# blacklist { devnode "^sd" }\n'), false);
  assert.equal(answer('blacklist { devnode "^nvme" }'), false);
  assert.equal(answer('blacklist { devnode "(((" }'), false);
});

Deno.test("directories on file systems without extent maps are refused", () => {
  using directory = tempDir();
  const answer = checkDataPaths({ ...fakeHost(directory, {}), dataPaths: ["/proc"] });
  assert.equal(answer.ok, false);
  assert.match(answer.detail, /^\/proc is on 0x9fa0$/);
});

Deno.test("a host without io_uring is good enough, and is told what it misses", () => {
  using directory = tempDir();
  const host = fakeHost(directory, {});
  assert.equal(checkIoUring(host).fix, "");
  const without = checkIoUring({ ...host, ioUring: { ok: false, detail: "forbidden" } });
  assert.equal(without.ok, true);
  assert.match(without.detail, /poll\(2\) is used instead: forbidden/);
});
