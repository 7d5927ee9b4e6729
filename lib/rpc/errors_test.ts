import assert from "node:assert/strict";
import fc from "fast-check";
import { Code, MAX_STATUS_TEXT, RollbackError, RpcError, statusOf, unimplemented } from "./errors.ts";

Deno.test("an RpcError keeps its code, and every other error becomes UNKNOWN with its text", () => {
  assert.deepEqual(statusOf(new RpcError(Code.NOT_FOUND, "no such replica")), {
    code: Code.NOT_FOUND,
    details: "no such replica",
  });
  class Special extends RpcError {}
  assert.equal(statusOf(new Special(Code.ABORTED, "x")).code, Code.ABORTED);
  assert.deepEqual(statusOf(new RangeError("replica is already open")), {
    code: Code.UNKNOWN,
    details: "replica is already open",
  });
  assert.deepEqual(statusOf("text"), { code: Code.UNKNOWN, details: "text" });
  assert.equal(statusOf(undefined).code, Code.UNKNOWN);
});

Deno.test("a status text is cut to what fits into a header", () => {
  const { details } = statusOf(new Error("x".repeat(1_000_000)));
  assert.equal(details.length, MAX_STATUS_TEXT);
  assert.ok(details.endsWith("..."));
});

Deno.test("the error of an expansion is JSON under INTERNAL and can be read back", () => {
  const error = new RollbackError("FunctionFailedRollbackFailed", "no space", "head is gone");
  assert.equal(error.code, Code.INTERNAL);
  assert.equal(
    error.message,
    '{"code":"FunctionFailedRollbackFailed","message":"no space","rollbackMessage":"head is gone"}',
  );
  const read = RollbackError.from(new RpcError(Code.INTERNAL, error.message));
  assert.equal(read?.outcome, "FunctionFailedRollbackFailed");
  assert.equal(read?.reason, "no space");
  assert.equal(read?.rollbackReason, "head is gone");
  assert.equal(RollbackError.from(error), error);
});

Deno.test("the error of an expansion stays readable however long its texts are", () => {
  const sent = statusOf(new RollbackError("ResultUnknown", "ü\n".repeat(9000), '"'.repeat(9000)));
  assert.ok(sent.details.length <= MAX_STATUS_TEXT);
  assert.equal(RollbackError.from(new RpcError(sent.code, sent.details))?.outcome, "ResultUnknown");
});

Deno.test("what is no such error is told from it, whatever its text", () => {
  const texts = fc.oneof(
    fc.string(),
    fc.json(),
    fc.constantFrom('{"code":"Other"}', "null", "[]", '{"code":1}'),
  );
  fc.assert(fc.property(texts, (text) => {
    assert.equal(RollbackError.from(new RpcError(Code.INTERNAL, text)), undefined);
  }));
  const json = new RollbackError("ResultUnknown", "x").message;
  assert.equal(RollbackError.from(new RpcError(Code.UNKNOWN, json)), undefined);
  assert.equal(RollbackError.from(new Error(json)), undefined);
});

Deno.test("a method that is not offered says so", () => {
  assert.throws(unimplemented, (error) => error instanceof RpcError && error.code === Code.UNIMPLEMENTED);
});
