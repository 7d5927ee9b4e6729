import assert from "node:assert/strict";
import type { HostContext } from "../../../lib/host/context.ts";
import { keptLog, type Rule, ScriptedRunner } from "../../../lib/host/test_kit.ts";
import { type TempDir, tempDir } from "../../../tests/support/temp.ts";
import type { FrontendOptions } from "../frontends.ts";
import type { Attachment } from "./carrier.ts";
import { IscsiCarrier, portOf } from "./iscsi.ts";
import { requestTimeoutS } from "./mod.ts";

const TARGET = "iqn.2019-10.io.longhorn:my:vol";
const OLD: Attachment = {
  device: { name: "sdx", major: 65, minor: 112 },
  endpoint: TARGET,
  details: { host: "127.0.0.1", port: 4711 },
};

/** A session of the initiator, in a state of its own and its disk's. */
function session(state: string, disk: string): string {
  return `Target: ${TARGET} (non-flash)\n\tCurrent Portal: 127.0.0.1:4711,1\n\tPersistent Portal: 127.0.0.1:4711,1\n` +
    `\t\tiSCSI Session State: ${state}\n\t\tscsi2 Channel 00 Id 0 Lun: 1\n\t\t\tAttached scsi disk sdx\t\tState: ${disk}\n`;
}

const LISTED: Rule = [/^iscsiadm -m session$/, `tcp: [1] 127.0.0.1:4711,1 ${TARGET} (non-flash)\n`];

function carrier(
  directory: TempDir,
  rules: Rule[],
): { carrier: IscsiCarrier; served: Partial<FrontendOptions>[] } {
  Deno.mkdirSync(directory.join("sys/block/sdx/device"), { recursive: true });
  Deno.mkdirSync(directory.join("sys/class/block/sdx"), { recursive: true });
  Deno.writeTextFileSync(directory.join("sys/class/block/sdx/dev"), "65:112\n");
  const runner = new ScriptedRunner(rules);
  const host = { run: runner.run.bind(runner), sharesNetwork: true, root: directory.path };
  const { log } = keptLog(), sys = directory.join("sys"), sleep = () => Promise.resolve();
  const context: HostContext = { runner, host, log, sys, proc: "/proc", sleep };
  const parts = { context, volume: "my_vol", run: directory.path, bytes: () => 4096, requestTimeoutS: 542 };
  return { carrier: new IscsiCarrier(parts), served: [] };
}

Deno.test("an engine goes on with a disk as soon as the initiator is back", async () => {
  using directory = tempDir();
  const states = [session("FAILED", "blocked"), session("LOGGED_IN", "transport-offline")];
  const good = session("LOGGED_IN", "running");
  const made = carrier(directory, [["iscsiadm -m session -P 3", () => states.shift() ?? good], LISTED]);
  const serve = (kind: string, changes: Partial<FrontendOptions>) => {
    made.served.push(changes);
    return Promise.resolve(kind);
  };
  assert.deepEqual(await made.carrier.resume(serve, OLD), OLD);
  assert.deepEqual(states, []);
  assert.deepEqual(made.served, [{ listen: { kind: "tcp", host: "127.0.0.1", port: 4711 }, rootOnly: true }]);
  assert.equal(Deno.readTextFileSync(directory.join("sys/block/sdx/device/timeout")), "60\n");
});

Deno.test("without a session, or with another disk in its place, there is nothing to go on with", async () => {
  using directory = tempDir();
  const none = carrier(directory, [["iscsiadm -m session", { code: 21 }]]);
  const serve = () => Promise.resolve("");
  assert.equal(
    await none.carrier.resume(() => Promise.reject(new Error("nothing is served")), OLD),
    undefined,
  );
  const other = carrier(directory, [["iscsiadm -m session -P 3", session("LOGGED_IN", "running")], LISTED]);
  const device = { name: "sdx", major: 8, minor: 0 };
  assert.equal(await other.carrier.resume(serve, { ...OLD, device }), undefined);
  assert.equal(await other.carrier.resume(serve, { ...OLD, details: {} }), undefined);
});

Deno.test("an initiator that does not come back, and a port that is taken, end the attempt", async () => {
  using directory = tempDir();
  const never = carrier(directory, [["iscsiadm -m session -P 3", session("FAILED", "offline")], LISTED]);
  assert.equal(await never.carrier.resume(() => Promise.resolve(""), OLD), undefined);
  const taken = carrier(directory, [LISTED]);
  assert.equal(await taken.carrier.resume(() => Promise.reject(new Error("address in use")), OLD), undefined);
});

Deno.test("the port is taken from the endpoint, with addresses of both families", () => {
  assert.equal(portOf(`iscsi://127.0.0.1:4711/${TARGET}/1`), 4711);
  assert.equal(portOf(`iscsi://[fd00::1]:3260/${TARGET}/1`), 3260);
  assert.throws(() => portOf("socket"), /has no port/);
});

Deno.test("clients of a volume wait longer than its engine may take, by Longhorn's rule", () => {
  assert.equal(requestTimeoutS(8_000), 542);
});
