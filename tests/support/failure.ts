/**
 * Control calls that must fail.
 *
 * @module
 */
import assert from "node:assert/strict";
import { RpcError } from "../../lib/rpc/errors.ts";

/** The error of a call. @throws {assert.AssertionError} when it succeeds, or fails otherwise than a control call does */
export async function failure(call: Promise<unknown>): Promise<RpcError> {
  try {
    await call;
  } catch (error) {
    assert.ok(error instanceof RpcError, String(error));
    return error;
  }
  assert.fail("the call succeeded");
}
