import assert from "node:assert/strict";
import fc from "fast-check";
import { SystemRunner } from "../command.ts";
import { keptLog, type Rule, ScriptedRunner } from "../test_kit.ts";
import { freeTargetId, parseConnections, parseSystem, parseTargets } from "./parse.ts";
import { createTarget, findTarget, growTarget, removeTarget, requireTgtd, type TgtVolume } from "./target.ts";
import { Tgtadm } from "./tgtadm.ts";
import { peerTest } from "../../../tests/support/conditional.ts";
import { freePorts } from "../../../tests/support/ports.ts";
import { spawnLogged } from "../../../tests/support/process.ts";
import { tempDir } from "../../../tests/support/temp.ts";
import { waitFor } from "../../../tests/support/wait.ts";

const TARGET = "iqn.2019-10.io.longhorn:vol";
const VOLUME: TgtVolume = { target: TARGET, socket: "/var/run/v.sock", bytes: 8192, requestTimeoutS: 542 };
const SYSTEM =
  "System:\n    State: ready\n    debug: off\nBacking stores:\n    rdwr (bsoflags sync:direct)\n    aio\n" +
  "Device types:\n    disk\n";
const WITH_STORE = SYSTEM.replace("    aio\n", "    longhorn\n");
const patience = { log: keptLog().log, sleep: () => Promise.resolve() };

function targetText(id: number, name: string, path = "/x"): string {
  return `Target ${id}: ${name}\n    System information:\n        Driver: iscsi\n    LUN information:\n` +
    "        LUN: 0\n            Type: controller\n            Backing store type: null\n            Backing store path: None\n" +
    `        LUN: 1\n            Type: disk\n            Backing store type: longhorn\n            Backing store path: ${path}\n`;
}

Deno.test("what tgtadm prints is read", () => {
  assert.deepEqual(parseSystem(SYSTEM), { ready: true, stores: ["rdwr", "aio"] });
  assert.deepEqual(parseTargets(targetText(2, "iqn.a:b") + targetText(7, TARGET, "/a b")), [
    { id: 2, name: "iqn.a:b", units: units("/x") },
    { id: 7, name: TARGET, units: units("/a b") },
  ]);
  assert.deepEqual(
    parseConnections("Session: 4\n    Connection: 0\n        Initiator: x\nSession: 3\n    Connection: 1\n"),
    [{ session: 4, connection: 0 }, { session: 3, connection: 1 }],
  );
});

function units(path: string) {
  return [
    { lun: 0, storeType: "null", storePath: "None" },
    { lun: 1, storeType: "longhorn", storePath: path },
  ];
}

Deno.test("text that is none of this gives nothing and does not throw", () => {
  fc.assert(fc.property(fc.string(), (text) => {
    assert.ok(Array.isArray(parseTargets(text)));
    assert.ok(Array.isArray(parseConnections(text)));
    assert.equal(parseSystem(text).ready, false);
  }));
});

Deno.test("the smallest free number of a target is found", () => {
  const taken = (...ids: number[]) => ids.map((id) => ({ id, name: "", units: [] }));
  assert.equal(freeTargetId([]), 1);
  assert.equal(freeTargetId(taken(1, 2, 4)), 3);
  assert.equal(freeTargetId(taken(...Array.from({ length: 4094 }, (_, i) => i + 1))), null);
});

function scripted(rules: Rule[]): { tgt: Tgtadm; runner: ScriptedRunner; short: () => string[] } {
  const runner = new ScriptedRunner(rules);
  return {
    tgt: new Tgtadm(runner),
    runner,
    short: () => runner.ran.map((line) => line.replace("tgtadm --lld iscsi --op ", "")),
  };
}

Deno.test("a target is made in Longhorn's order, with its parameters", async () => {
  const { tgt, short } = scripted([[/--op show --mode target/, targetText(1, "iqn.other:x")], [/./, ""]]);
  assert.equal(await createTarget(tgt, VOLUME, patience), 2);
  assert.deepEqual(short(), [
    "show --mode target",
    `new --mode target --tid 2 -T ${TARGET}`,
    "new --mode logicalunit --tid 2 --lun 1 -b /var/run/v.sock --bstype longhorn --bsopts size=8192;request_timeout=542",
    "update --mode logicalunit --tid 2 --lun 1 --params thin_provisioning=1",
    "update --mode logicalunit --tid 2 --lun 1 --params mode_page=8:0:18:0x10:0:0xff:0xff:0:0:0xff:0xff:0xff:0xff:0x80:0x14:0:0:0:0:0:0",
    "bind --mode target --tid 2 -I ALL",
  ]);
});

Deno.test("a number that somebody else took first is left to him", async () => {
  let times = 0;
  const { tgt } = scripted([
    [/--op show --mode target/, () => times === 0 ? "" : targetText(1, "iqn.other:x")],
    [/--op new --mode target/, () => times++ === 0 ? { code: 22, stderr: "this target already exists" } : ""],
    [/./, ""],
  ]);
  assert.equal(await createTarget(tgt, VOLUME, patience), 2);
});

Deno.test("a unit that cannot be made leaves no target", async () => {
  let there = false;
  const { tgt, short } = scripted([
    [/--op show --mode system/, WITH_STORE],
    [/--op show --mode target/, () => there ? targetText(1, TARGET) : ""],
    [/--op new --mode target/, () => {
      there = true;
      return "";
    }],
    [/--op new --mode logicalunit/, { code: 22, stderr: "tgtadm: invalid request" }],
    [/./, ""],
  ]);
  await assert.rejects(createTarget(tgt, VOLUME, patience), /invalid request/);
  assert.equal(short().at(-1), "delete --mode target --tid 1");
});

Deno.test("a target in use is removed: its connections end first, a busy unit is waited for", async () => {
  let busy = 2;
  const { tgt, short } = scripted([
    [/--op show --mode system/, WITH_STORE],
    [/--op show --mode target/, targetText(3, TARGET)],
    [/--op show --mode conn/, "Session: 9\n    Connection: 0\n"],
    [
      /--op delete --mode logicalunit/,
      () => busy > 0 ? { code: 22, stderr: "tgtadm: this logical unit is still active" } : "",
    ],
    [
      /--op delete --mode target/,
      () => busy-- > 0 ? { code: 22, stderr: "tgtadm: this target is still active" } : "",
    ],
    [/./, ""],
  ]);
  assert.equal(await removeTarget(tgt, TARGET, patience), true);
  assert.deepEqual(short().slice(2, 7), [
    "unbind --mode target --tid 3 -I ALL",
    "show --mode conn --tid 3",
    "delete --mode conn --tid 3 --sid 9 --cid 0",
    "delete --mode logicalunit --tid 3 --lun 1",
    "delete --mode target --tid 3",
  ]);
});

Deno.test("without a tgtd there is nothing to remove", async () => {
  const { tgt } = scripted([[/system/, { code: 107, stderr: "tgtadm: failed to send request hdr" }]]);
  assert.equal(await removeTarget(tgt, TARGET, patience), false);
});

Deno.test("a tgtd is started when none answers, and one without the backing store is refused with the alternatives", async () => {
  let running = false;
  const answer = (text: string) => () => running ? text : { code: 107 };
  const start = () => {
    running = true;
    return Promise.resolve();
  };
  await requireTgtd(scripted([[/system/, answer(WITH_STORE)]]).tgt, patience, start);
  assert.equal(running, true);
  await assert.rejects(
    requireTgtd(scripted([[/system/, answer(SYSTEM)]]).tgt, patience, start),
    /no backing store "longhorn" \(it has rdwr, aio\).*iscsi-blockdev, nbd-blockdev, loop-blockdev/,
  );
  await assert.rejects(
    requireTgtd(scripted([[/system/, { code: 107 }]]).tgt, patience, () => Promise.resolve()),
    /waiting for tgtd failed after 5 attempts: tgtd does not answer/,
  );
});

peerTest("a real tgtd does all of this", { needs: ["root", "tgtd", "tgtadm"] }, async () => {
  using directory = tempDir();
  const [port = 0] = freePorts(1), control = 1_000 + port % 30_000;
  const portal = ["--iscsi", `portal=127.0.0.1:${port}`];
  await using _daemon = spawnLogged("tgtd", ["-f", "-C", String(control), ...portal]);
  const tgt = new Tgtadm(new SystemRunner(), control);
  try {
    await waitFor(async () => (await tgt.system())?.ready === true, { what: "tgtd" });
    await requireTgtd(tgt, patience, () => Promise.reject(new Error("it runs")), "rdwr");
    const socket = directory.join("image");
    Deno.writeFileSync(socket, new Uint8Array(64 * 1024));
    const volume = { ...VOLUME, socket, storeType: "rdwr" };
    const tid = await createTarget(tgt, volume, patience);
    const target = await findTarget(tgt, TARGET);
    assert.equal(target?.id, tid);
    assert.deepEqual(target.units[1], { lun: 1, storeType: "rdwr", storePath: socket });
    await assert.rejects(growTarget(tgt, "iqn.no:such", 1), /no target iqn.no:such/);
    const socketless = { ...VOLUME, target: "iqn.2019-10.io.longhorn:other", storeType: "longhorn" };
    await assert.rejects(createTarget(tgt, socketless, patience), /invalid request/);
    assert.equal((await tgt.targets()).length, 1);
    assert.equal(await removeTarget(tgt, TARGET, patience), true);
    assert.equal(await removeTarget(tgt, TARGET, patience), false);
    assert.deepEqual(await tgt.targets(), []);
  } finally {
    for (const name of [`socket.${control}`, `socket.${control}.lock`]) {
      await Deno.remove(`/var/run/tgtd/${name}`).catch(() => {});
    }
  }
});
