import assert from "node:assert/strict";
import { enterPrefix, findHostProcess, hostProc, HostRunner, sharesNamespace } from "./namespace.ts";
import { ScriptedRunner } from "./test_kit.ts";
import { type TempDir, tempDir } from "../../tests/support/temp.ts";

/** A procfs; `self` is process 50. */
class FakeProc {
  constructor(readonly directory: TempDir) {
    this.process(1, "systemd", 0, "host");
    this.process(50, "deno", 49, "pod");
    this.process(49, "tini", 48, "pod");
    this.process(48, "containerd-shim", 1, "host");
    Deno.symlinkSync(directory.join("50"), directory.join("self"));
  }

  process(pid: number, name: string, parent: number, namespace: string): void {
    const home = this.directory.join(String(pid));
    Deno.mkdirSync(`${home}/ns`, { recursive: true });
    Deno.writeTextFileSync(`${home}/comm`, `${name}\n`);
    Deno.writeTextFileSync(`${home}/status`, `Name:\t${name}\nUmask:\t0022\nPPid:\t${parent}\n`);
    for (const kind of ["mnt", "net"]) Deno.symlinkSync(`${kind}:[${namespace}]`, `${home}/ns/${kind}`);
  }

  end(pid: number): void {
    Deno.removeSync(this.directory.join(String(pid)), { recursive: true });
  }
}

Deno.test("iscsid stands for the host, else what runs our container, else process 1", () => {
  using directory = tempDir();
  const proc = new FakeProc(directory);
  assert.deepEqual(findHostProcess(directory.path), { pid: 48, why: "containerd-shim" });
  proc.process(700, "iscsid", 1, "host");
  assert.deepEqual(findHostProcess(directory.path), { pid: 700, why: "iscsid" });
  proc.end(700);
  proc.end(49);
  assert.deepEqual(findHostProcess(directory.path), { pid: 1, why: "init" });
});

Deno.test("only namespaces that are not ours are entered", () => {
  using directory = tempDir();
  const proc = new FakeProc(directory), { path } = directory;
  assert.deepEqual(enterPrefix(path, 48), [
    "nsenter",
    `--mount=${path}/48/ns/mnt`,
    `--net=${path}/48/ns/net`,
    "--",
  ]);
  assert.deepEqual(enterPrefix(path, 49), []);
  proc.process(60, "iscsid", 1, "pod");
  Deno.removeSync(`${path}/60/ns/mnt`);
  Deno.symlinkSync("mnt:[host]", `${path}/60/ns/mnt`);
  assert.deepEqual(enterPrefix(path, 60), ["nsenter", `--mount=${path}/60/ns/mnt`, "--"]);
  assert.equal(sharesNamespace(path, 12345, "net"), false);
});

Deno.test("a daemon that was restarted is found again, and the command is run once", async () => {
  using directory = tempDir();
  const proc = new FakeProc(directory), { path } = directory, pauses: number[] = [];
  proc.process(700, "iscsid", 1, "host");
  const inner = new ScriptedRunner([
    [/\/700\/.* iscsiadm/, () => {
      proc.end(700);
      return { code: 1, stderr: `nsenter: cannot open ${path}/700/ns/mnt: No such file or directory` };
    }],
    [/\/701\/.* iscsiadm -m session$/, "sessions"],
  ]);
  const runner = new HostRunner(inner, {
    proc: path,
    sleep: (ms) => {
      pauses.push(ms);
      proc.process(701, "iscsid", 1, "host");
      return Promise.resolve();
    },
  });
  assert.equal((await runner.run(["iscsiadm", "-m", "session"])).stdout, "sessions");
  assert.deepEqual(pauses, [1000]);
  assert.equal(runner.root, `${path}/701/root`);
  assert.equal(runner.sharesNetwork, false);
});

Deno.test("a host without the process that was found gives its error after ten attempts", async () => {
  using directory = tempDir();
  new FakeProc(directory);
  const gone = { code: 1, stderr: "nsenter: cannot open /x/ns/mnt: No such file or directory" };
  const inner = new ScriptedRunner([["nsenter", gone]]);
  const runner = new HostRunner(inner, { proc: directory.path, sleep: () => Promise.resolve() });
  assert.equal((await runner.run(["iscsiadm"])).code, 1);
  assert.equal(inner.ran.length, 10);
});

Deno.test("where the host's namespaces are ours, commands run as they are and paths are plain", async () => {
  using directory = tempDir();
  const proc = new FakeProc(directory);
  proc.process(700, "iscsid", 1, "pod");
  const inner = new ScriptedRunner([["iscsiadm", { code: 3, stderr: "its own error" }]]);
  const runner = new HostRunner(inner, { proc: directory.path });
  assert.equal((await runner.run(["iscsiadm"])).code, 3);
  assert.deepEqual(inner.ran, ["iscsiadm"]);
  assert.equal(runner.root, "");
  assert.equal(runner.sharesNetwork, true);
});

Deno.test("this machine has a procfs in which somebody stands for the host", () => {
  assert.ok(findHostProcess(hostProc()).pid >= 1);
});
