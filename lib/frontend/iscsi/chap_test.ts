import assert from "node:assert/strict";
import { Chap, chapResponse, type ChapSettings, checkChap } from "./chap.ts";
import { SettingError } from "./errors.ts";
import { formatHex, parseBinary } from "./text.ts";

const SETTINGS: ChapSettings = {
  user: "host",
  secret: "a-secret-of-hosts",
  mutual: { user: "target", secret: "a-secret-of-ours" },
};

function begin(
  settings: ChapSettings,
  algorithms: string,
): { chap: Chap; id: number; challenge: Uint8Array; algorithm: string } {
  const chap = new Chap(settings, (bytes) => bytes.forEach((_, i) => bytes[i] = 40 + i));
  const step = chap.step(new Map([["CHAP_A", algorithms]]));
  assert.ok(step?.kind === "answer");
  const answer = new Map(step.pairs);
  const challenge = parseBinary(answer.get("CHAP_C") ?? "", 64);
  assert.ok(challenge);
  return { chap, id: Number(answer.get("CHAP_I")), challenge, algorithm: answer.get("CHAP_A") ?? "" };
}

function answerOf(
  hash: string,
  id: number,
  secret: string,
  challenge: Uint8Array,
  more: [string, string][] = [],
): Map<string, string> {
  return new Map([
    ["CHAP_N", "host"],
    ["CHAP_R", formatHex(chapResponse(hash, id, secret, challenge))],
    ...more,
  ]);
}

Deno.test("a response is the hash of identifier, secret and challenge (RFC 1994 section 4.1)", () => {
  // md5(0x01 "secret" "challenge"), by the system's md5sum.
  const response = chapResponse("md5", 1, "secret", new TextEncoder().encode("challenge"));
  assert.equal(formatHex(response), "0x46e47770030e2b4e26a0db72a7efec00");
});

for (
  const [number, hash, bytes] of [["5", "md5", 16], ["6", "sha1", 20], ["7", "sha256", 32], [
    "8",
    "sha3-256",
    32,
  ]] as const
) {
  Deno.test(`algorithm ${number} (${hash}) lets in who knows the secret, and nobody else`, () => {
    const right = begin(SETTINGS, `99,${number}`);
    assert.equal(right.algorithm, number);
    assert.equal(right.challenge.length, bytes);
    const step = right.chap.step(answerOf(hash, right.id, SETTINGS.secret, right.challenge));
    assert.deepEqual(step, { kind: "answer", pairs: [], done: true });
    assert.ok(right.chap.done);
    for (const secret of ["wrong", "", "a-secret-of-ours"]) {
      const wrong = begin(SETTINGS, number);
      assert.equal(wrong.chap.step(answerOf(hash, wrong.id, secret, wrong.challenge))?.kind, "failed");
      assert.ok(!wrong.chap.done);
    }
  });
}

Deno.test("mutual: we answer with our own name and secret", () => {
  const { chap, id, challenge } = begin(SETTINGS, "5");
  const theirs = new Uint8Array(16).fill(9);
  const step = chap.step(
    answerOf("md5", id, SETTINGS.secret, challenge, [["CHAP_I", "77"], ["CHAP_C", formatHex(theirs)]]),
  );
  assert.ok(step?.kind === "answer");
  assert.deepEqual(step.pairs, [["CHAP_N", "target"], [
    "CHAP_R",
    formatHex(chapResponse("md5", 77, "a-secret-of-ours", theirs)),
  ]]);
});

Deno.test("our own challenge sent back is refused, and so is mutual CHAP without a secret for it", () => {
  const { chap, id, challenge } = begin(SETTINGS, "5");
  const reflected = answerOf("md5", id, SETTINGS.secret, challenge, [["CHAP_I", "1"], [
    "CHAP_C",
    formatHex(challenge),
  ]]);
  const step = chap.step(reflected);
  assert.ok(step?.kind === "failed" && step.reason.includes("reflection"));
  assert.ok(!chap.done);
  const oneWay = begin({ user: "host", secret: SETTINGS.secret }, "5");
  const asked = answerOf("md5", oneWay.id, SETTINGS.secret, oneWay.challenge, [["CHAP_I", "1"], [
    "CHAP_C",
    "0x11",
  ]]);
  assert.equal(oneWay.chap.step(asked)?.kind, "failed");
});

Deno.test("steps out of turn, unknown algorithms and half answers fail", () => {
  assert.equal(new Chap(SETTINGS).step(new Map([["CHAP_R", "0x00"]]))?.kind, "failed");
  assert.equal(new Chap(SETTINGS).step(new Map([["CHAP_A", "1,2,abc"]]))?.kind, "failed");
  assert.equal(new Chap(SETTINGS).step(new Map([["AuthMethod", "CHAP"]])), undefined);
  const { chap, id, challenge } = begin(SETTINGS, "5");
  assert.equal(chap.step(new Map([["CHAP_N", "host"]]))?.kind, "failed");
  assert.equal(chap.step(new Map([["CHAP_A", "5"]]))?.kind, "failed");
  const right = answerOf("md5", id, SETTINGS.secret, challenge);
  assert.equal(chap.step(right)?.kind, "answer");
  assert.equal(chap.step(right)?.kind, "failed", "a response is taken once");
});

Deno.test("settings that make CHAP worthless are refused", () => {
  assert.throws(() => checkChap({ user: "", secret: "x" }), SettingError);
  assert.throws(() => checkChap({ user: "a", secret: "" }), SettingError);
  assert.throws(
    () => checkChap({ user: "a", secret: "x", mutual: { user: "b", secret: "x" } }),
    SettingError,
  );
  checkChap(SETTINGS);
});
