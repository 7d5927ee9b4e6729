import assert from "node:assert/strict";
import fc from "fast-check";
import {
  explainExit,
  formatPortal,
  parseNodes,
  parsePortal,
  parseRecord,
  parseSessionDetails,
  parseSessions,
} from "./parse.ts";

const IQN = "iqn.2019-10.io.longhorn:vol";

/** Two sessions, one of them with a disk, as open-iscsi 2.1 shows them (most lines left out). */
const DETAILS = `iSCSI Transport Class version 2.0-870
version 2.1.8
Target: ${IQN} (non-flash)
	Current Portal: 10.42.0.9:3260,1
	Persistent Portal: 10.42.0.7:3260,1
		**********
		Interface:
		**********
		Iface Name: default
		Iface IPaddress: 10.42.0.1
		SID: 4
		iSCSI Connection State: LOGGED IN
		iSCSI Session State: LOGGED_IN
		Internal iscsid Session State: NO CHANGE
		************************
		Attached SCSI devices:
		************************
		Host Number: 2	State: running
		scsi2 Channel 00 Id 0 Lun: 0
		scsi2 Channel 00 Id 0 Lun: 1
			Attached scsi disk sdaa		State: transport-offline
Target: iqn.2001-05.com.example:other:x (non-flash)
	Current Portal: [fd00:0:0:0:0:0:0:2]:13260,1
	Persistent Portal: [fd00:0:0:0:0:0:0:2]:13260,1
		iSCSI Session State: FAILED
		Host Number: 3	State: running
		scsi3 Channel 00 Id 0 Lun: 1
`;

Deno.test("sessions are read with portal, state and disks", () => {
  assert.deepEqual(parseSessionDetails(DETAILS), [
    {
      target: IQN,
      portal: { host: "10.42.0.7", port: 3260 },
      state: "LOGGED_IN",
      disks: [{ lun: 0, name: null, state: "" }, { lun: 1, name: "sdaa", state: "transport-offline" }],
    },
    {
      target: "iqn.2001-05.com.example:other:x",
      portal: { host: "fd00:0:0:0:0:0:0:2", port: 13260 },
      state: "FAILED",
      disks: [{ lun: 1, name: null, state: "" }],
    },
  ]);
});

Deno.test("a target with two sessions gives two", () => {
  const twice = DETAILS.replace("Target: iqn.2001-05.com.example:other:x (non-flash)\n", "");
  assert.deepEqual(parseSessionDetails(twice).map(({ target, state }) => [target, state]), [
    [IQN, "LOGGED_IN"],
    [IQN, "FAILED"],
  ]);
});

Deno.test("the short list of sessions is read", () => {
  const text = `tcp: [1] 127.0.0.1:41234,1 ${IQN} (non-flash)\ntcp: [12] [fd00::2]:3260,1 iqn.x:y\nnoise\n`;
  assert.deepEqual(parseSessions(text), [
    { id: 1, portal: { host: "127.0.0.1", port: 41234 }, target: IQN },
    { id: 12, portal: { host: "fd00::2", port: 3260 }, target: "iqn.x:y" },
  ]);
  assert.deepEqual(parseSessions("iscsiadm: No active sessions.\n"), []);
});

Deno.test("records and discoveries are read", () => {
  assert.deepEqual(parseNodes(`10.0.0.1:3260,1 ${IQN}\n[fd00::2]:3260,-1 iqn.x:y\nrubbish\n`), [
    { portal: { host: "10.0.0.1", port: 3260 }, target: IQN },
    { portal: { host: "fd00::2", port: 3260 }, target: "iqn.x:y" },
  ]);
  const record = parseRecord(
    "# BEGIN RECORD 2.1.8\nnode.name = a b\nnode.conn[0].address = 10.0.0.1\nnode.session.scan = manual\n# END RECORD\n" +
      "# BEGIN RECORD 2.1.8\nnode.session.scan = auto\n",
  );
  assert.equal(record.get("node.session.scan"), "manual");
  assert.equal(record.get("node.name"), "a b");
  assert.equal(record.get("node.conn[0].address"), "10.0.0.1");
});

Deno.test("portals come back as they were written, both families, any port", () => {
  const host = fc.oneof(fc.ipV4(), fc.ipV6());
  fc.assert(fc.property(host, fc.integer({ min: 1, max: 65535 }), (host, port) => {
    const text = formatPortal({ host, port });
    assert.deepEqual(parsePortal(port === 3260 ? `${text}:3260,1` : text), { host, port });
  }));
});

Deno.test("text that is none of this gives nothing and does not throw", () => {
  fc.assert(fc.property(fc.string(), (text) => {
    for (const parse of [parseNodes, parseSessions, parseSessionDetails]) {
      assert.ok(Array.isArray(parse(text)));
    }
    assert.ok(parseRecord(text) instanceof Map);
  }));
});

Deno.test("exit codes are explained, unknown ones too", () => {
  assert.match(explainExit(21), /no such record/);
  assert.equal(explainExit(99), "exit code 99");
});
