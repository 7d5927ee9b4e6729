/**
 * The JSON of the backup store, which is what Go's `encoding/json` makes of structures: no spaces, keys in the order
 * of the structure, maps sorted, `<`, `>` and `&` escaped, integers in quotes where the structure says so, and some
 * strings encoded twice. Reading accepts what Go accepts and, where that loses nothing, the plain form too.
 *
 * @module
 */
import { RecordError } from "./errors.ts";

/** A JSON object as read. */
export type JsonObject = Readonly<Record<string, unknown>>;
/** A map of strings; null where Go had no map. */
export type StringMap = Readonly<Record<string, string>>;

const ESCAPED = /[<>&\u2028\u2029]/g;
/** Largest record read, in bytes: with room for 4 Mi blocks, and below the longest text that there can be. */
const MAX_RECORD_BYTES = 500 * 1024 ** 2;

/** A string as Go writes it. */
export function quote(text: string): string {
  return JSON.stringify(text.toWellFormed()).replace(
    ESCAPED,
    (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"),
  );
}

/** A string whose structure says that it is written as JSON within JSON. */
export function quoteTwice(text: string): string {
  return quote(quote(text));
}

/** An integer in quotes. */
export function quoteNumber(value: number): string {
  return `"${value}"`;
}

/** A map with its keys sorted by bytes, or null. */
export function quoteMap(map: StringMap | null): string {
  if (map === null) return "null";
  const encoder = new TextEncoder();
  const keys = Object.keys(map).map((key) => ({ key, bytes: encoder.encode(key) }));
  keys.sort((a, b) => compareBytes(a.bytes, b.bytes));
  return `{${keys.map(({ key }) => `${quote(key)}:${quote(map[key] ?? "")}`).join(",")}}`;
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

/** An object from keys and encoded values, then the keys that were read and are not ours. */
export function encodeObject(
  fields: readonly (readonly [key: string, encoded: string])[],
  others: JsonObject,
): Uint8Array {
  const rest = Object.entries(others).map(([key, value]) => `${quote(key)}:${JSON.stringify(value)}`);
  const own = fields.map(([key, encoded]) => `${quote(key)}:${encoded}`);
  return new TextEncoder().encode(`{${[...own, ...rest].join(",")}}`);
}

/** One field of a record, read with the record's path for errors. */
export class Fields {
  readonly #path: string;
  readonly #object: JsonObject;

  /** Parses a record. @throws {RecordError} when it is not one JSON object */
  constructor(path: string, bytes: Uint8Array) {
    this.#path = path;
    if (bytes.length > MAX_RECORD_BYTES) throw new RecordError(path, `too long: ${bytes.length} bytes`);
    let value: unknown;
    try {
      value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    } catch (cause) {
      const empty = bytes.length === 0 ? "is empty" : `is not JSON (${(cause as Error).message})`;
      throw new RecordError(path, empty, { cause });
    }
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new RecordError(path, "is not a JSON object");
    }
    this.#object = value as JsonObject;
  }

  /** The value as it was read; undefined when absent or null. */
  raw(key: string): unknown {
    return Object.hasOwn(this.#object, key) ? this.#object[key] ?? undefined : undefined;
  }

  /** Throws for this record. */
  fail(problem: string): never {
    throw new RecordError(this.#path, problem);
  }

  /** A string; absent is "". */
  string(key: string): string {
    const value = this.raw(key) ?? "";
    return typeof value === "string" ? value : this.fail(`${key} is not a string`);
  }

  /** A string that is JSON within JSON; the plain string is accepted too. */
  twice(key: string): string {
    const outer = this.string(key);
    if (!outer.startsWith('"')) return outer;
    try {
      const inner: unknown = JSON.parse(outer);
      if (typeof inner === "string") return inner;
    } catch {
      // Falls through: the text begins with a quotation mark, but is no JSON.
    }
    return this.fail(`${key} is not a string encoded as JSON: ${outer}`);
  }

  /** An integer from 0 to 2^53 - 1, in quotes or not; absent and "" are 0. */
  integer(key: string): number {
    const value = this.raw(key) ?? 0;
    const number = typeof value === "string" && /^\d{1,16}$/.test(value) ? Number(value) : value;
    if (number === "") return 0;
    if (typeof number !== "number" || !Number.isSafeInteger(number) || number < 0) {
      return this.fail(`${key} is not a number from 0 to 2^53 - 1: ${JSON.stringify(value)}`);
    }
    return number;
  }

  /** A boolean; absent is false. */
  boolean(key: string): boolean {
    const value = this.raw(key) ?? false;
    return typeof value === "boolean" ? value : this.fail(`${key} is not true or false`);
  }

  /** A map of strings; absent and null are null. */
  map(key: string): StringMap | null {
    const value = this.raw(key);
    if (value === undefined) return null;
    if (typeof value !== "object" || Array.isArray(value)) return this.fail(`${key} is not a map`);
    const map = new Map<string, string>();
    for (const [name, text] of Object.entries(value as JsonObject)) {
      map.set(name, typeof text === "string" ? text : this.fail(`${key}.${name} is not a string`));
    }
    return Object.fromEntries(map);
  }

  /** The keys that are not among the known ones. */
  others(known: readonly string[]): JsonObject {
    return Object.fromEntries(Object.entries(this.#object).filter(([key]) => !known.includes(key)));
  }
}
