import assert from "node:assert/strict";
import { SystemRunner } from "../command.ts";
import type { HostContext } from "../context.ts";
import { keptLog, type Rule, ScriptedRunner } from "../test_kit.ts";
import { deadNames, deadNbdDevices } from "./devices.ts";
import { brokenFileSystems, leftFrozen, stateOfMount } from "./file_systems.ts";
import type { Finding, NodeView } from "./finding.ts";
import { multipath, staleRecords, staleSessions } from "./iscsi.ts";
import { INSPECTIONS, listensAt, servedVolumes } from "./mod.ts";
import { orphanedTargets } from "./tgt.ts";
import { peerTest } from "../../../tests/support/conditional.ts";
import { loopImage } from "../../../tests/support/loop_image.ts";
import { run } from "../../../tests/support/process.ts";
import { type TempDir, tempDir } from "../../../tests/support/temp.ts";

const TARGET = "iqn.2019-10.io.longhorn:my:vol";
const SESSION =
  `Target: ${TARGET} (non-flash)\n\tCurrent Portal: 127.0.0.1:99,1\n\tPersistent Portal: 127.0.0.1:99,1\n` +
  "\t\tiSCSI Session State: FREE\n\t\tscsi2 Channel 00 Id 0 Lun: 1\n\t\t\tAttached scsi disk sdx State: offline\n";
const NOTHING = { code: 21, stderr: "No records found" };

/** A node of files below a directory; `files` are written, a value that begins with `->` is a link. */
function fakeNode(
  directory: TempDir,
  rules: Rule[],
  files: Record<string, string> = {},
  served: string[] = [],
): NodeView & {
  readonly runner: ScriptedRunner;
  listening: "yes" | "no" | "unknown";
  readonly served_: Set<string>;
} {
  const all = { "proc/self/mountinfo": "", "sys/block/none/x": "", ...files };
  for (const [path, text] of Object.entries(all)) {
    const file = directory.join(path);
    Deno.mkdirSync(file.slice(0, file.lastIndexOf("/")), { recursive: true });
    if (text.startsWith("->")) Deno.symlinkSync(text.slice(2), file);
    else Deno.writeTextFileSync(file, text);
  }
  if (!("proc/self/ns/mnt" in files)) {
    Deno.mkdirSync(directory.join("proc/self/ns"));
    Deno.symlinkSync("mnt:[1]", directory.join("proc/self/ns/mnt"));
  }
  for (const path of ["var/run", "dev", "freeze"]) Deno.mkdirSync(directory.join(path), { recursive: true });
  const runner = new ScriptedRunner(rules), served_ = new Set(served);
  const host = { run: runner.run.bind(runner), sharesNetwork: true, root: directory.path };
  const sleep = () => Promise.resolve();
  const context: HostContext = {
    runner,
    host,
    log: keptLog().log,
    sys: directory.join("sys"),
    proc: directory.join("proc"),
    sleep,
  };
  const node = {
    context,
    runner,
    run: directory.path,
    devices: directory.join("dev"),
    freezes: directory.join("freeze"),
    served_,
    served: () => served_,
    listening: "no" as "yes" | "no" | "unknown",
    listens: () => Promise.resolve(node.listening),
  };
  return node;
}

function brief(findings: readonly Finding[]): string[] {
  return findings.map(({ severity, subject, repair }) =>
    `${severity} ${subject}${repair ? " repairable" : ""}`
  );
}

async function repairAll(findings: readonly Finding[]): Promise<void> {
  for (const { repair } of findings) await repair?.();
}

/** An initiator with one session, until it logs out. */
function initiatorRules(): Rule[] {
  let session = true, record = true;
  return [
    ["iscsiadm -m session -P 3", () => session ? SESSION : NOTHING],
    ["iscsiadm -m session", () => session ? `tcp: [1] 127.0.0.1:99,1 ${TARGET} (non-flash)\n` : NOTHING],
    [/--logout$/, () => {
      session = false;
      return "";
    }],
    ["iscsiadm -m node -o delete", () => {
      record = false;
      return "";
    }],
    ["iscsiadm -m node", () => record ? `127.0.0.1:99,1 ${TARGET}\n10.0.0.1:3260,1 iqn.other:x\n` : NOTHING],
  ];
}

Deno.test("a session that nobody answers is left over, and its removal leaves nothing", async () => {
  using directory = tempDir();
  const node = fakeNode(directory, initiatorRules());
  const findings = await staleSessions(node);
  assert.deepEqual(brief(findings), ["left-over iscsi session repairable"]);
  assert.match(findings[0]?.what ?? "", /my:vol at 127.0.0.1:99 \(\/dev\/sdx\): nobody listens/);
  await repairAll(findings);
  assert.deepEqual(await staleSessions(node), []);
  assert.deepEqual(await staleRecords(node), []);
});

Deno.test("a session is left alone while somebody listens, or may, or an engine serves the volume", async () => {
  using directory = tempDir();
  const node = fakeNode(directory, initiatorRules());
  for (const answer of ["yes", "unknown"] as const) {
    node.listening = answer;
    assert.deepEqual(await staleSessions(node), []);
  }
  node.listening = "no";
  const findings = await staleSessions(node);
  node.served_.add("my_vol");
  assert.deepEqual(await staleSessions(node), []);
  // Also when that changes between the look and the repair.
  await assert.rejects(repairAll(findings), /somebody listens there now/);
  assert.equal(node.runner.count("iscsiadm -m node -T"), 0);
});

Deno.test("a dead session whose disk is mounted is for people to decide", async () => {
  using directory = tempDir();
  const node = fakeNode(directory, initiatorRules(), {
    "sys/class/block/sdx/dev": "65:112\n",
    "sys/dev/block/65:112": "->../class/block/sdx",
    "proc/self/mountinfo": "1 2 65:112 / /data rw - ext4 /dev/sdx rw\n",
  });
  const [finding] = await staleSessions(node);
  assert.deepEqual([finding?.severity, finding?.repair], ["broken", undefined]);
  assert.match(finding?.todo ?? "", /in use \(mounted at \/data\)/);
});

Deno.test("a record without a session is removed, others' records are not touched", async () => {
  using directory = tempDir();
  const [details, sessions, ...rest] = initiatorRules();
  assert.ok(details && sessions);
  const node = fakeNode(directory, [[details[0], NOTHING], [sessions[0], NOTHING], ...rest]);
  const findings = await staleRecords(node);
  assert.deepEqual(brief(findings), ["left-over iscsi record repairable"]);
  await repairAll(findings);
  assert.deepEqual(await staleRecords(node), []);
  assert.equal(node.runner.ran.some((line) => line.includes("iqn.other")), false);
});

Deno.test("a host without initiator and without tgtd has nothing left over of them", async () => {
  using directory = tempDir();
  const node = fakeNode(directory, [[/iscsiadm|tgtadm/, "missing"]]);
  for (const look of [staleSessions, staleRecords, multipath, orphanedTargets]) {
    assert.deepEqual(await look(node), []);
  }
});

Deno.test("multipathd that runs is a risk, a disk that it took is broken until the map is gone", async () => {
  using directory = tempDir();
  const node = fakeNode(directory, [...initiatorRules(), ["multipath -f mpatha", ""]], {
    "proc/77/comm": "multipathd\n",
    "sys/class/block/sdx/dev": "65:112\n",
    "sys/dev/block/65:112": "->../class/block/sdx",
    "sys/class/block/sdx/holders/dm-3": "",
    "sys/class/block/dm-3/dev": "254:3\n",
    "sys/block/dm-3/dm/uuid": "mpath-360000000000000000e00000000010001\n",
    "sys/block/dm-3/dm/name": "mpatha\n",
  });
  const findings = await multipath(node);
  assert.deepEqual(brief(findings), ["risk multipath", "broken multipath repairable"]);
  await repairAll(findings);
  assert.equal(node.runner.count("multipath -f mpatha"), 1);
});

Deno.test("a target of tgtd without a volume is removed, one of another program is not seen", async () => {
  using directory = tempDir();
  const unit = (type: string) =>
    `        LUN: 1\n            Backing store type: ${type}\n            Backing store path: /var/run/longhorn-v.sock\n`;
  let there = true;
  const node = fakeNode(directory, [
    [/--mode system/, "System:\n    State: ready\nBacking stores:\n    rdwr\n    longhorn\n"],
    [
      /--op show --mode target/,
      () => `Target 1: iqn.x:y\n${unit("rdwr")}${there ? `Target 2: ${TARGET}\n${unit("longhorn")}` : ""}`,
    ],
    [/--op delete --mode target --tid 2/, () => {
      there = false;
      return "";
    }],
    [/tgtadm/, ""],
  ]);
  const findings = await orphanedTargets(node);
  assert.deepEqual(brief(findings), ["left-over tgt target repairable"]);
  node.listening = "yes";
  await assert.rejects(repairAll(findings), /the volume is there now/);
  node.listening = "no";
  await repairAll(findings);
  assert.deepEqual(await orphanedTargets(node), []);
});

Deno.test("names that lead nowhere are removed; those of devices and of served volumes stay", async () => {
  using directory = tempDir();
  const node = fakeNode(directory, [], {
    "sys/class/block/drover9/dev": "7:9\n",
    "sys/dev/block/7:9": "->../class/block/drover9",
    "dev/good": "->/dev/drover9",
    "dev/dead": "->/dev/drover8",
    "dev/served": "->/dev/drover7",
    "dev/file": "nobody's business",
  }, ["served"]);
  const findings = await deadNames(node);
  assert.deepEqual(findings.map(({ what }) => what.replace(directory.path, "")), [
    "/dev/dead leads to a device that is gone",
  ]);
  await repairAll(findings);
  assert.deepEqual([...Deno.readDirSync(directory.join("dev"))].map(({ name }) => name).sort(), [
    "file",
    "good",
    "served",
  ]);
});

Deno.test("NBD devices of dead engines are found, and say when they are in use", async () => {
  using directory = tempDir();
  const node = fakeNode(directory, [], {
    "sys/block/nbd1/pid": "5\n",
    "sys/block/nbd1/backend": "drover:v\n",
    "sys/class/block/nbd1/dev": "43:32\n",
    "sys/dev/block/43:32": "->../class/block/nbd1",
    "sys/block/nbd2/pid": "5\n",
    "sys/block/nbd2/backend": "drover:w\n",
    "sys/class/block/nbd2/dev": "43:64\n",
    "sys/dev/block/43:64": "->../class/block/nbd2",
    "proc/self/mountinfo": "1 2 43:64 / /data rw - ext4 /dev/nbd2 rw\n",
  });
  assert.deepEqual(brief(await deadNbdDevices(node)), [
    "left-over nbd device repairable",
    "broken nbd device",
  ]);
  node.served_.add("v").add("w");
  assert.deepEqual(await deadNbdDevices(node), []);
});

Deno.test("the state of a file system is read from its mount", () => {
  const mount = (options: string, superOptions: string) => ({
    ...{
      id: 1,
      parent: 0,
      major: 7,
      minor: 0,
      root: "/",
      mountPoint: "/m",
      type: "ext4",
      source: "x",
      pid: null,
    },
    options,
    superOptions,
  });
  assert.equal(stateOfMount(mount("rw,noatime", "rw,errors=continue")), "fine");
  assert.equal(stateOfMount(mount("ro", "ro")), "fine");
  assert.equal(stateOfMount(mount("rw", "ro,errors=remount-ro")), "read-only");
  assert.equal(stateOfMount(mount("rw", "rw,shutdown")), "stopped");
  assert.equal(stateOfMount(mount("rw", "rw,emergency_ro")), "stopped");
});

peerTest("a real file system that stopped writing after an error is found", {
  needs: ["root", "loop", "mkfs.ext4"],
}, async () => {
  using directory = tempDir();
  await using fs = await loopImage({ bytes: 16 * 1024 * 1024 });
  const base = fakeNode(directory, []), runner = new SystemRunner();
  const context = { ...base.context, runner, sys: "/sys", proc: "/proc" };
  const node: NodeView = { ...base, context };
  Deno.symlinkSync(fs.device, directory.join("dev/vol"));
  assert.deepEqual(await brokenFileSystems(node), []);
  await run("mount", ["-o", "remount,errors=remount-ro", fs.path]);
  Deno.writeTextFileSync(`/sys/fs/ext4/${fs.device.slice("/dev/".length)}/trigger_fs_error`, "1");
  const [finding] = await brokenFileSystems(node);
  assert.equal(finding?.severity, "broken");
  assert.match(finding.what, /read-only after an error|shut down after an error/);
  assert.match(finding.todo, new RegExp(`umount ${fs.path}, fsck /dev/loop`));
});

Deno.test("an interrupted freeze is found and thawed", async () => {
  using directory = tempDir();
  const node = fakeNode(directory, [["fsfreeze --unfreeze", ""]]);
  Deno.mkdirSync(directory.join("freeze/vol"));
  Deno.mkdirSync(directory.join("freeze/vol@1"));
  const findings = await leftFrozen(node);
  assert.deepEqual(brief(findings), ["broken frozen file system repairable"]);
  await repairAll(findings);
  assert.deepEqual(await leftFrozen(node), []);
});

Deno.test("engines are found by their command lines, ours and Longhorn's", () => {
  using directory = tempDir();
  const process = (pid: number, ...words: string[]): void => {
    Deno.mkdirSync(directory.join(String(pid)));
    Deno.writeTextFileSync(directory.join(`${pid}/cmdline`), `${words.join("\0")}\0`);
  };
  process(1, "longhorn", "--volume-name", "x", "controller", "vol-a", "--frontend", "tgt-blockdev");
  process(2, "deno", "run", "-A", "cmd/engine.ts", "controller", "--size", "1g", "vol-b");
  process(3, "longhorn", "replica", "/host/vol-c");
  Deno.mkdirSync(directory.join("4"));
  const served = servedVolumes(directory.path);
  assert.deepEqual([served.has("vol-a"), served.has("vol-b"), served.has("vol-c")], [true, true, false]);
});

Deno.test("a listener is told from none", async () => {
  using directory = tempDir();
  const path = directory.join("s");
  assert.equal(await listensAt({ transport: "unix", path }), "no");
  using _listener = Deno.listen({ transport: "unix", path });
  assert.equal(await listensAt({ transport: "unix", path }), "yes");
});

Deno.test("every inspection has a name of its own", () => {
  assert.equal(new Set(INSPECTIONS.map(([name]) => name)).size, INSPECTIONS.length);
});
