/**
 * JSON exactly as Go's `encoding/json` Encoder writes it, because replica directories are shared with a program
 * that does: no spaces, one newline at the end, map keys sorted, and `<`, `>`, `&`, U+2028 and U+2029 escaped.
 * Reading is lenient where Go's decoder is (null and absent keys are the empty value) and strict about types.
 *
 * @module
 */
import { MetadataError } from "./errors.ts";

/** Deepest nesting accepted in values that are only carried along. */
const MAX_DEPTH = 32;
const ESCAPED = /[<>&\u2028\u2029]/g;

/** A JSON object as read: values not yet checked. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** A string literal as Go writes it; lone surrogates become U+FFFD. */
export function goString(text: string): string {
  return JSON.stringify(text.toWellFormed()).replace(
    ESCAPED,
    (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"),
  );
}

/** Order of Go's string comparison: by bytes of UTF-8, which is the order of code points. */
function byCodePoint(a: string, b: string): number {
  // UTF-16 order differs from code point order only where a surrogate meets U+E000 to U+FFFF.
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i), y = b.charCodeAt(i);
    if (x === y) continue;
    const highX = x >= 0xd800 && x <= 0xdfff, highY = y >= 0xd800 && y <= 0xdfff;
    if (highX !== highY) return highX ? 1 : -1;
    return x - y;
  }
  return a.length - b.length;
}

/** Any JSON value; keys of objects sorted, as Go does for maps. */
export function goValue(value: unknown): string {
  if (typeof value === "string") return goString(value);
  if (Array.isArray(value)) return `[${value.map(goValue).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const object = value as JsonObject;
    return goObject(Object.keys(object).sort(byCodePoint).map((key) => [key, goValue(object[key])]));
  }
  return JSON.stringify(value) ?? "null";
}

/** An object from (key, already encoded value) pairs, in the order given. */
export function goObject(fields: readonly (readonly [key: string, encoded: string])[]): string {
  return `{${fields.map(([key, encoded]) => `${goString(key)}:${encoded}`).join(",")}}`;
}

/** The bytes of a file: the text of an object and a newline. */
export function goFile(object: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(object + "\n");
}

function tooDeep(value: unknown, depth: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  return depth === 0 || Object.values(value).some((inner) => tooDeep(inner, depth - 1));
}

/**
 * Parses a metadata file.
 *
 * @param file name for errors
 * @throws {MetadataError} when it is not one JSON object
 */
export function parseObject(file: string, bytes: Uint8Array): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw new MetadataError(file, `not JSON (${(cause as Error).message})`, { cause });
  }
  return asObject(file, "content", value);
}

/** Takes a value for an object. @throws {MetadataError} when it is not an object, or nested too deeply */
export function asObject(file: string, what: string, value: unknown): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new MetadataError(file, `${what} is not a JSON object`);
  }
  if (tooDeep(value, MAX_DEPTH)) throw new MetadataError(file, `${what} is nested too deeply`);
  return value as JsonObject;
}

function own(object: JsonObject, key: string): unknown {
  return Object.hasOwn(object, key) ? object[key] : undefined;
}

function mismatch(file: string, key: string, expected: string, value: unknown): MetadataError {
  const found = Array.isArray(value) ? "array" : typeof value;
  return new MetadataError(file, `${key} should be a ${expected}, found ${found}`);
}

/** A string; absent and null are "". @throws {MetadataError} */
export function stringField(file: string, object: JsonObject, key: string): string {
  const value = own(object, key) ?? "";
  if (typeof value !== "string") throw mismatch(file, key, "string", value);
  return value;
}

/** A boolean; absent and null are false. @throws {MetadataError} */
export function booleanField(file: string, object: JsonObject, key: string): boolean {
  const value = own(object, key) ?? false;
  if (typeof value !== "boolean") throw mismatch(file, key, "boolean", value);
  return value;
}

/** An integer from 0 to 2^53 - 1; absent and null are 0. @throws {MetadataError} */
export function integerField(file: string, object: JsonObject, key: string): number {
  const value = own(object, key) ?? 0;
  if (typeof value !== "number") throw mismatch(file, key, "number", value);
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new MetadataError(file, `${key} is ${value}, not an integer from 0 to 2^53 - 1`);
  }
  return value;
}

/** A list of strings; absent and null are []. @throws {MetadataError} */
export function stringsField(file: string, object: JsonObject, key: string): readonly string[] {
  const value = own(object, key) ?? [];
  if (!Array.isArray(value) || !value.every((item) => typeof item === "string")) {
    throw new MetadataError(file, `${key} should be a list of strings`);
  }
  return value;
}

/** A map of strings; null stays null, absent is null. @throws {MetadataError} */
export function labelsField(
  file: string,
  object: JsonObject,
  key: string,
): ReadonlyMap<string, string> | null {
  const value = own(object, key) ?? null;
  if (value === null) return null;
  const labels = new Map<string, string>();
  for (const [name, text] of Object.entries(asObject(file, key, value))) {
    if (typeof text !== "string") throw mismatch(file, `${key}.${name}`, "string", text);
    labels.set(name, text);
  }
  return labels;
}

/** A map of strings as Go writes it. */
export function goLabels(labels: ReadonlyMap<string, string> | null): string {
  if (labels === null) return "null";
  const names = [...labels.keys()].sort(byCodePoint);
  return goObject(names.map((name) => [name, goString(labels.get(name) ?? "")]));
}

/** The keys of an object that are not among the known ones: written back as they were. */
export function unknownKeys(object: JsonObject, known: readonly string[]): JsonObject {
  const rest = Object.entries(object).filter(([key]) => !known.includes(key));
  return Object.fromEntries(rest);
}

/** Fields for {@linkcode goObject} of the keys carried along. */
export function goUnknown(unknown: JsonObject): [string, string][] {
  return Object.keys(unknown).sort(byCodePoint).map((key) => [key, goValue(unknown[key])]);
}
