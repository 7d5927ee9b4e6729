import assert from "node:assert/strict";
import type { HostContext } from "../context.ts";
import { keptLog, type Rule, ScriptedRunner } from "../test_kit.ts";
import { attachDisk, detachDisk, findDisk, type IscsiDisk, removeEmptyRecords } from "./disk.ts";
import { IscsiError } from "./initiator.ts";
import { type TempDir, tempDir } from "../../../tests/support/temp.ts";

const TARGET = "iqn.2019-10.io.longhorn:vol";
const DISK: IscsiDisk = { target: TARGET, portal: { host: "127.0.0.1", port: 4711 }, lun: 1 };
const AT = `-T ${TARGET} -p 127.0.0.1:4711`;

/** A host with an initiator that remembers sessions and records. */
class FakeHost {
  session = false;
  record = false;
  readonly runner: ScriptedRunner;
  readonly context: HostContext;
  readonly lines: string[];

  constructor(readonly directory: TempDir, rules: Rule[] = []) {
    for (
      const path of [
        "var/run",
        "sys/block/sdx/device",
        "sys/class/block/sdx",
        "sys/class/iscsi_transport/tcp",
      ]
    ) {
      Deno.mkdirSync(directory.join(path), { recursive: true });
    }
    Deno.writeTextFileSync(directory.join("sys/block/sdx/device/timeout"), "30\n");
    Deno.writeTextFileSync(directory.join("sys/class/block/sdx/dev"), "65:112\n");
    this.runner = new ScriptedRunner([...rules, ...this.#rules()]);
    const { log, lines } = keptLog();
    this.lines = lines;
    const host = { run: this.runner.run.bind(this.runner), sharesNetwork: true, root: directory.path };
    const sys = directory.join("sys");
    this.context = { runner: this.runner, host, log, sys, proc: "/proc", sleep: () => Promise.resolve() };
  }

  #rules(): Rule[] {
    const nothing = { code: 21, stderr: "iscsiadm: No records found" };
    const details = () =>
      `Target: ${TARGET} (non-flash)\n\tCurrent Portal: 127.0.0.1:4711,1\n\tPersistent Portal: 127.0.0.1:4711,1\n` +
      "\t\tscsi2 Channel 00 Id 0 Lun: 1\n\t\t\tAttached scsi disk sdx\t\tState: running\n";
    const set = (what: "session" | "record", value: boolean) => () => {
      if (!value && !this[what]) return nothing;
      this[what] = value;
      return "";
    };
    return [
      ["iscsiadm --version", "iscsiadm version 2.1.8"],
      ["iscsiadm -m discovery", () => {
        this.record = true;
        return `127.0.0.1:4711,1 ${TARGET}\n`;
      }],
      [`iscsiadm -m node ${AT} --login`, set("session", true)],
      [`iscsiadm -m node ${AT} --rescan`, ""],
      [`iscsiadm -m node ${AT} -o show`, "node.session.scan = auto\n"],
      [`iscsiadm -m node ${AT}`, () => this.record ? "" : nothing],
      [/-o update -n \S+ -v \S+$/, ""],
      [`iscsiadm -m node -T ${TARGET} --logout`, set("session", false)],
      [`iscsiadm -m node -o delete -T ${TARGET}`, set("record", false)],
      ["iscsiadm -m session -P 3", () => this.session ? details() : nothing],
      [
        "iscsiadm -m session",
        () => this.session ? `tcp: [1] 127.0.0.1:4711,1 ${TARGET} (non-flash)\n` : nothing,
      ],
    ];
  }
}

Deno.test("a disk is attached by discovery, settings, login and a look, in this order", async () => {
  using directory = tempDir();
  const host = new FakeHost(directory);
  const disk = await attachDisk(host.context, DISK);
  assert.deepEqual(disk, { name: "sdx", major: 65, minor: 112 });
  assert.deepEqual(host.runner.ran, [
    "iscsiadm --version",
    "iscsiadm -m discovery -t sendtargets -p 127.0.0.1:4711",
    `iscsiadm -m node ${AT}`,
    `iscsiadm -m node -T ${TARGET} -o update -n node.session.err_timeo.abort_timeout -v 15`,
    `iscsiadm -m node -T ${TARGET} -o update -n node.startup -v manual`,
    `iscsiadm -m node ${AT} --login`,
    `iscsiadm -m node ${AT} -o show`,
    "iscsiadm -m session -P 3",
  ]);
  assert.equal(Deno.readTextFileSync(directory.join("sys/block/sdx/device/timeout")), "60\n");
});

Deno.test("a record that is set to manual scans is rescanned", async () => {
  using directory = tempDir();
  const host = new FakeHost(directory, [[`iscsiadm -m node ${AT} -o show`, "node.session.scan = manual\n"]]);
  await attachDisk(host.context, DISK);
  assert.equal(host.runner.count(`iscsiadm -m node ${AT} --rescan`), 1);
});

Deno.test("a login that fails leaves no record, and the error says why", async () => {
  using directory = tempDir();
  const host = new FakeHost(directory, [[/--login$/, { code: 8, stderr: "iscsiadm: could not login" }]]);
  await assert.rejects(attachDisk(host.context, DISK), (error) => {
    assert.ok(error instanceof IscsiError);
    assert.match(error.message, /--login: the target did not answer in time \(iscsiadm: could not login\)/);
    return true;
  });
  assert.equal(host.record, false);
});

Deno.test("a disk that never appears is given up, with session and record removed", async () => {
  using directory = tempDir();
  const host = new FakeHost(directory, [["iscsiadm -m session -P 3", ""]]);
  await assert.rejects(attachDisk(host.context, DISK), /no disk with LUN 1 yet/);
  assert.equal(host.runner.count("iscsiadm -m session -P 3"), 10);
  assert.deepEqual([host.session, host.record], [false, false]);
});

Deno.test("a discovery that could not connect is tried again, empty records are removed on the way", async () => {
  using directory = tempDir();
  const records = directory.join(`etc/iscsi/nodes/${TARGET}/127.0.0.1,4711,1`);
  Deno.mkdirSync(records, { recursive: true });
  Deno.writeTextFileSync(`${records}/default`, "");
  let times = 0;
  const host = new FakeHost(directory, [[
    "iscsiadm -m discovery",
    () => times++ < 2 ? { stdout: "iscsiadm: Could not perform SendTargets discovery: no" } : { code: 0 },
  ]]);
  host.record = true;
  await attachDisk(host.context, DISK);
  assert.equal(times, 3);
  assert.throws(() => Deno.statSync(`${records}/default`), Deno.errors.NotFound);
  assert.ok(host.lines.some((line) => /removed empty records/.test(line)));
});

Deno.test("records with content stay", () => {
  using directory = tempDir();
  const host = new FakeHost(directory), records = directory.join(`var/lib/iscsi/nodes/${TARGET}`);
  Deno.mkdirSync(records, { recursive: true });
  Deno.writeTextFileSync(`${records}/10.0.0.1,3260`, "node.name = x\n");
  assert.deepEqual(removeEmptyRecords(host.context, TARGET), []);
});

Deno.test("a logout that does not end in time is fine when the session is gone", async () => {
  using directory = tempDir();
  const host: FakeHost = new FakeHost(directory, [[/--logout$/, () => {
    host.session = false;
    return "hangs";
  }]]);
  host.session = host.record = true;
  await detachDisk(host.context, TARGET);
  assert.equal(host.runner.count(`iscsiadm -m node -T ${TARGET} --logout`), 1);
  assert.equal(host.record, false);
});

Deno.test("a session that stays is an error after five attempts", async () => {
  using directory = tempDir();
  const host = new FakeHost(directory, [[/--logout$/, ""]]);
  host.session = host.record = true;
  await assert.rejects(
    detachDisk(host.context, TARGET),
    /logout of \S+ failed after 5 attempts: .*still there/,
  );
  assert.equal(host.record, true);
});

Deno.test("detaching what is not there is fine", async () => {
  using directory = tempDir();
  const host = new FakeHost(directory);
  await detachDisk(host.context, TARGET);
  assert.equal(host.runner.count(`iscsiadm -m node -T ${TARGET} --logout`), 0);
});

Deno.test("the disk of another session is not taken for ours", async () => {
  using directory = tempDir();
  const host = new FakeHost(directory);
  host.session = true;
  assert.equal(await findDisk(host.context, { ...DISK, portal: { host: "127.0.0.1", port: 1 } }), null);
  assert.equal(await findDisk(host.context, { ...DISK, lun: 2 }), null);
});

Deno.test("a kernel without an initiator is told before anything is asked, after the module was tried", async () => {
  using directory = tempDir();
  const host = new FakeHost(directory, [["modprobe iscsi_tcp", { code: 1 }]]);
  Deno.removeSync(directory.join("sys/class/iscsi_transport"), { recursive: true });
  await assert.rejects(attachDisk(host.context, DISK), /no iSCSI initiator: modprobe iscsi_tcp/);
  assert.equal(host.runner.count("iscsiadm -m discovery"), 0);
});

Deno.test("an initiator that is not installed is an error that says what to install", async () => {
  using directory = tempDir();
  const host = new FakeHost(directory, [[/^iscsiadm/, "missing"]]);
  await assert.rejects(attachDisk(host.context, DISK), /not installed; install open-iscsi/);
});
