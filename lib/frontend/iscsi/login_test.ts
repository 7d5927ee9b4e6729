import assert from "node:assert/strict";
import fc from "fast-check";
import { chapResponse } from "./chap.ts";
import { Login, type LoginPolicy, type LoginResponse, LoginStatus } from "./login.ts";
import { negotiate, Parameters } from "./negotiation.ts";
import { formatHex, formatPairs, parseBinary, parsePairs } from "./text.ts";

const POLICY: LoginPolicy = { targetName: "iqn.2019-10.io.longhorn:v", targetAlias: "v" };
const NAMES: [string, string][] = [["InitiatorName", "iqn.x:i"], ["TargetName", "iqn.2019-10.io.longhorn:V"]];

function send(
  login: Login,
  currentStage: number,
  nextStage: number | undefined,
  pairs: [string, string][],
  more: { goesOn?: boolean; versionMin?: number; text?: Uint8Array } = {},
): LoginResponse & { readonly keys: Map<string, string> } {
  const response = login.receive({
    transit: nextStage !== undefined,
    goesOn: more.goesOn ?? false,
    currentStage,
    nextStage: nextStage ?? 0,
    versionMin: more.versionMin ?? 0,
    text: more.text ?? formatPairs(pairs),
  });
  return { ...response, keys: parsePairs(response.text) };
}

Deno.test("a login in one step: operational keys, then the full feature phase", () => {
  const login = new Login(POLICY);
  const response = send(login, 1, 3, [...NAMES, ["HeaderDigest", "CRC32C,None"], ["InitialR2T", "No"]]);
  assert.equal(response.status, 0);
  assert.deepEqual([response.transit, response.nextStage, login.done], [true, 3, true]);
  assert.deepEqual([...response.keys], [
    ["TargetPortalGroupTag", "1"],
    ["TargetAlias", "v"],
    ["MaxRecvDataSegmentLength", "262144"],
    ["HeaderDigest", "CRC32C"],
    ["InitialR2T", "No"],
  ]);
  assert.ok(login.parameters.headerDigest && !login.parameters.initialR2T);
});

Deno.test("a login in three steps, as most initiators do it", () => {
  const login = new Login(POLICY);
  const security = send(login, 0, 1, [...NAMES, ["AuthMethod", "CHAP,None"]]);
  assert.equal(security.keys.get("AuthMethod"), "None");
  assert.deepEqual([security.transit, security.nextStage], [true, 1]);
  const operational = send(login, 1, undefined, [["MaxBurstLength", "16776192"]]);
  assert.equal(operational.keys.get("MaxBurstLength"), "4194304");
  assert.ok(!operational.transit);
  assert.ok(send(login, 1, 3, []).transit);
  assert.ok(login.done);
});

Deno.test("a text may go on in the next request, even in the middle of a key", () => {
  const login = new Login(POLICY);
  const text = formatPairs(NAMES);
  const first = send(login, 1, undefined, [], { goesOn: true, text: text.slice(0, 20) });
  assert.deepEqual([first.status, first.text.length, first.transit], [0, 0, false]);
  assert.ok(send(login, 1, 3, [], { text: text.slice(20) }).transit);
  assert.equal(login.parameters.initiatorName, "iqn.x:i");
});

Deno.test("with CHAP required, no way around it leads in", () => {
  const policy = { ...POLICY, chap: { user: "u", secret: "the-secret-of-u" } };
  const failed = LoginStatus.AUTHENTICATION_FAILED;
  assert.equal(send(new Login(policy), 1, 3, NAMES).status, failed);
  assert.equal(send(new Login(policy), 0, 3, [...NAMES, ["AuthMethod", "None"]]).status, failed);
  assert.equal(send(new Login(policy), 0, 3, NAMES).status, failed);
  const login = new Login(policy);
  const method = send(login, 0, 3, [...NAMES, ["AuthMethod", "None,CHAP"]]);
  assert.deepEqual([method.keys.get("AuthMethod"), method.transit], ["CHAP", false]);
  const challenge = send(login, 0, undefined, [["CHAP_A", "7,5"]]).keys;
  assert.equal(challenge.get("CHAP_A"), "7");
  const bytes = parseBinary(challenge.get("CHAP_C") ?? "", 64) ?? new Uint8Array(0);
  const answer = formatHex(chapResponse("sha256", Number(challenge.get("CHAP_I")), "the-secret-of-u", bytes));
  const end = send(login, 0, 3, [["CHAP_N", "u"], ["CHAP_R", answer]]);
  assert.deepEqual([end.status, end.transit, login.done], [0, true, true]);
  const discovery = send(new Login(policy), 1, 3, [["InitiatorName", "iqn.x:i"], [
    "SessionType",
    "Discovery",
  ]]);
  assert.equal(discovery.status, 0, "discovery is open unless it is closed");
  const closed = { ...policy, chap: { ...policy.chap, discovery: true } };
  assert.equal(
    send(new Login(closed), 1, 3, [["InitiatorName", "i"], ["SessionType", "Discovery"]]).status,
    failed,
  );
});

Deno.test("wrong requests end the login with the status of RFC 7143 section 11.13.5", () => {
  const status = (stage: number, next: number | undefined, pairs: [string, string][], more = {}): number =>
    send(new Login(POLICY), stage, next, pairs, more).status;
  assert.equal(status(1, 3, []), LoginStatus.MISSING_PARAMETER);
  assert.equal(status(1, 3, [["InitiatorName", "i"]]), LoginStatus.MISSING_PARAMETER);
  assert.equal(status(1, 3, [["InitiatorName", "i"], ["TargetName", "iqn.other"]]), LoginStatus.NOT_FOUND);
  assert.equal(status(1, 3, [...NAMES, ["SessionType", "X"]]), LoginStatus.SESSION_TYPE);
  assert.equal(status(1, 3, NAMES, { versionMin: 1 }), LoginStatus.UNSUPPORTED_VERSION);
  assert.equal(status(3, 3, NAMES), LoginStatus.INVALID_REQUEST);
  assert.equal(status(1, 0, NAMES), LoginStatus.INVALID_REQUEST);
  assert.equal(status(0, 2, NAMES), LoginStatus.INVALID_REQUEST);
  const login = new Login(POLICY);
  send(login, 1, undefined, NAMES);
  assert.equal(send(login, 0, 1, []).status, LoginStatus.INVALID_REQUEST, "back to security");
  const twice = new Login(POLICY);
  send(twice, 1, undefined, [...NAMES, ["MaxBurstLength", "512"]]);
  assert.equal(send(twice, 1, 3, [["MaxBurstLength", "1024"]]).status, LoginStatus.INITIATOR_ERROR);
});

Deno.test("keys are agreed on as RFC 7143 chapter 13 says", () => {
  const agree = (pairs: [string, string][], parameters = new Parameters()): [string, string][] =>
    negotiate(new Map(pairs), parameters);
  const one = (key: string, value: string): string | undefined => agree([[key, value]])[0]?.[1];
  assert.equal(one("MaxConnections", "8"), "1");
  assert.equal(one("ErrorRecoveryLevel", "2"), "0");
  assert.equal(one("MaxOutstandingR2T", "16"), "1");
  assert.equal(one("DefaultTime2Wait", "0"), "2");
  assert.equal(one("DefaultTime2Retain", "20"), "0");
  assert.equal(one("DataPDUInOrder", "No"), "Yes");
  assert.equal(one("DataDigest", "CRC32C"), "CRC32C");
  assert.equal(one("DataDigest", "X-md5,None"), "None");
  assert.equal(one("HeaderDigest", "X-md5"), "Reject");
  assert.equal(one("InitialR2T", "perhaps"), "Reject");
  assert.equal(one("MaxBurstLength", "511"), "Reject");
  assert.equal(one("IFMarker", "Yes"), "No");
  assert.equal(one("OFMarkInt", "2048~8192"), "Reject");
  assert.equal(one("TaskReporting", "FastAbort,RFC3720"), "RFC3720");
  assert.equal(one("iSCSIProtocolLevel", "2"), "1");
  assert.equal(one("X-com.example.key", "1"), "NotUnderstood");
  assert.equal(one("X-com.example.key", "NotUnderstood"), undefined);
  assert.equal(one("X#NodeArchitecture", "abc"), undefined);
  assert.equal(one("MaxRecvDataSegmentLength", "8192"), undefined);
  const bursts: [string, string][] = [["FirstBurstLength", "262144"], ["MaxBurstLength", "65536"]];
  assert.deepEqual(agree(bursts), [["FirstBurstLength", "65536"], ["MaxBurstLength", "65536"]]);
  const useless: [string, string][] = [["FirstBurstLength", "4096"], ["InitialR2T", "Yes"], [
    "ImmediateData",
    "No",
  ]];
  assert.equal(agree(useless)[0]?.[1], "Irrelevant");
  const discovery = new Parameters();
  discovery.discovery = true;
  assert.deepEqual(agree([["MaxBurstLength", "512"]], discovery), [["MaxBurstLength", "Irrelevant"]]);
  assert.equal(discovery.maxBurstLength, 262144);
});

Deno.test("no sequence of requests throws, nor leads in without names, nor makes a response too long", () => {
  const key = fc.constantFrom(
    "InitiatorName",
    "TargetName",
    "SessionType",
    "AuthMethod",
    "MaxBurstLength",
    "HeaderDigest",
    "X-a",
    "CHAP_A",
  );
  const value = fc.constantFrom(
    "iqn.2019-10.io.longhorn:v",
    "None",
    "CHAP",
    "Normal",
    "Discovery",
    "512",
    "CRC32C",
    "5",
    "",
  );
  const request = fc.record({
    transit: fc.boolean(),
    goesOn: fc.boolean(),
    currentStage: fc.nat(3),
    nextStage: fc.nat(3),
    versionMin: fc.constantFrom(0, 0, 0, 1),
    text: fc.oneof(
      fc.array(fc.tuple(key, value), { maxLength: 5 }).map(formatPairs),
      fc.uint8Array({ maxLength: 100 }),
      fc.constant(
        formatPairs(Array.from({ length: 64 }, (_, i) => [`X-${"k".repeat(58)}-${i}`, ""] as const)),
      ),
    ),
  });
  fc.assert(
    fc.property(fc.array(request, { maxLength: 8 }), (requests) => {
      const login = new Login(POLICY);
      for (const r of requests) {
        const response = login.receive(r);
        assert.ok(response.text.length <= 8192);
        if (response.status !== 0 || login.done) break;
      }
      if (login.done) assert.notEqual(login.parameters.initiatorName, "");
    }),
    { numRuns: 300 },
  );
});
