/**
 * Makes 64-bit integer fields plain numbers, and never silently wrong ones.
 *
 * protobufjs uses the class of the package `long` wherever it finds it, although the generated types say
 * `number`. This module switches that off and checks every value instead: a value beyond 2^53 - 1 on the wire, or
 * a number that is no such integer in a message to be sent, is an {@linkcode UnsafeIntegerError}. Nothing in the
 * control plane comes near that limit (8 PiB in bytes), except times in nanoseconds: fields marked
 * `[jstype = JS_NUMBER]` take the nearest number (see `tools/gen_proto.ts`).
 *
 * Every generated module imports this one first.
 *
 * @module
 */

import protobuf from "protobufjs/minimal.js";

/** A 64-bit integer that a number cannot hold exactly, or something that is no integer where one is due. */
export class UnsafeIntegerError extends RangeError {
  /** Name of the class. */
  override name = "UnsafeIntegerError";
  /** The value, rounded if it came from the wire. */
  readonly value: unknown;

  /**
   * Makes the error.
   *
   * @param value the offending value
   * @param text what was expected
   */
  constructor(value: unknown, text: string) {
    super(`64-bit field: ${String(value)} is ${text}`);
    this.value = value;
  }
}

/** Marks the prototypes that are done: the module may be evaluated twice (a bundle and its test). */
const DONE = Symbol.for("drover.rpc.numbers");

const READ = ["int64", "uint64", "sint64", "fixed64", "sfixed64"] as const;
const WRITE = ["int64", "uint64", "sint64", "fixed64", "sfixed64"] as const;

type ReadMethod = (this: unknown) => unknown;
type WriteMethod = (this: unknown, value: unknown) => unknown;

/** Reading: the value, if it is exact. */
function exactRead(read: ReadMethod): ReadMethod {
  return function (this: unknown): unknown {
    const value = read.call(this);
    if (!Number.isSafeInteger(value)) {
      throw new UnsafeIntegerError(value, "beyond 2^53 - 1 and would be rounded");
    }
    return value;
  };
}

/** Writing: refuses what would be written as something else. */
function exactWrite(write: WriteMethod, signed: boolean): WriteMethod {
  return function (this: unknown, value: unknown): unknown {
    if (!Number.isSafeInteger(value)) throw new UnsafeIntegerError(value, "not an integer up to 2^53 - 1");
    if (!signed && value as number < 0) throw new UnsafeIntegerError(value, "negative in an unsigned field");
    return write.call(this, value);
  };
}

/** Writing the nearest integer, for fields where that is good enough. */
function nearestWrite(write: WriteMethod): WriteMethod {
  return function (this: unknown, value: unknown): unknown {
    if (typeof value !== "number" || !Number.isInteger(value) || Math.abs(value) >= 2 ** 63) {
      throw new UnsafeIntegerError(value, "not an integer within 64 bits");
    }
    return write.call(this, value);
  };
}

function install(): void {
  const reader = protobuf.Reader.prototype as unknown as Record<string | symbol, unknown>;
  const writer = protobuf.Writer.prototype as unknown as Record<string | symbol, unknown>;
  if (reader[DONE] === true) return;
  (protobuf.util as { Long?: unknown }).Long = undefined;
  protobuf.configure();
  reader["int64Nearest"] = reader["int64"];
  writer["int64Nearest"] = nearestWrite(writer["int64"] as WriteMethod);
  for (const name of READ) reader[name] = exactRead(reader[name] as ReadMethod);
  for (const name of WRITE) {
    writer[name] = exactWrite(writer[name] as WriteMethod, name !== "uint64" && name !== "fixed64");
  }
  reader[DONE] = true;
}

install();
