/**
 * Text of login and text requests: `key=value` pairs, each ended by a NUL byte (RFC 7143 section 6.1).
 *
 * @module
 */
import { TextError } from "./errors.ts";

/** Longest key, bytes (RFC 7143 section 6.1). */
export const MAX_KEY_BYTES = 63;
/** Longest value accepted, bytes (RFC 7143 section 6.1: 255 unless a key says more; CHAP needs up to 2 KiB). */
export const MAX_VALUE_BYTES = 4096;
/** Most pairs in one request: with it, even an answer of `NotUnderstood` to each fits one response. */
export const MAX_PAIRS = 64;
/** Longest text of one request over all its PDUs, bytes. */
export const MAX_TEXT_BYTES = 16 * 1024;

const KEY = /^[A-Za-z0-9.\-+@_#/]+$/;
const decoder = new TextDecoder();
const encoder = new TextEncoder();

/**
 * Splits a text into its pairs, in their order.
 * @throws {TextError} naming the offending part
 */
export function parsePairs(bytes: Uint8Array): Map<string, string> {
  const pairs = new Map<string, string>();
  let at = 0;
  while (at < bytes.length) {
    let end = bytes.indexOf(0, at);
    if (end < 0) end = bytes.length; // some initiators leave the last NUL out
    const part = decoder.decode(bytes.subarray(at, end));
    at = end + 1;
    if (part === "") continue; // padding counted as data
    const equals = part.indexOf("=");
    if (equals < 0) throw new TextError(`text "${clip(part)}" is no key=value pair`);
    const key = part.slice(0, equals), value = part.slice(equals + 1);
    if (key.length > MAX_KEY_BYTES || !KEY.test(key)) throw new TextError(`bad key "${clip(key)}"`);
    if (value.length > MAX_VALUE_BYTES) throw new TextError(`value of ${key} has ${value.length} characters`);
    if (pairs.has(key)) throw new TextError(`key ${key} is given twice`);
    if (pairs.size === MAX_PAIRS) throw new TextError(`more than ${MAX_PAIRS} keys`);
    pairs.set(key, value);
  }
  return pairs;
}

/** The bytes of pairs, in their order. A list, not a map: SendTargets repeats keys. */
export function formatPairs(pairs: Iterable<readonly [string, string]>): Uint8Array {
  let text = "";
  for (const [key, value] of pairs) text += `${key}=${value}\0`;
  return encoder.encode(text);
}

/** Cuts foreign text for messages and makes control characters visible. */
export function clip(text: string): string {
  // deno-lint-ignore no-control-regex
  const clean = text.replace(/[\x00-\x1f\x7f]/g, "?");
  return clean.length > 80 ? `${clean.slice(0, 80)}...` : clean;
}

/**
 * A number as keys carry it: decimal, or hexadecimal with 0x.
 * @returns undefined for anything else or outside [low, high]
 */
export function parseNumber(text: string, low: number, high: number): number | undefined {
  if (!/^(0|[1-9][0-9]{0,9}|0[xX][0-9a-fA-F]{1,8})$/.test(text)) return undefined;
  const value = Number(text);
  return value >= low && value <= high ? value : undefined;
}

/**
 * A binary value as CHAP carries it: `0x` and hexadecimal digits, or `0b` and base64 (RFC 7143 section 6.1).
 * @returns undefined for anything else or more than `maxBytes`
 */
export function parseBinary(text: string, maxBytes: number): Uint8Array | undefined {
  const prefix = text.slice(0, 2).toLowerCase(), digits = text.slice(2);
  if (prefix === "0x" && /^[0-9a-fA-F]+$/.test(digits) && digits.length <= maxBytes * 2) {
    const even = digits.length % 2 ? `0${digits}` : digits;
    const bytes = new Uint8Array(even.length / 2);
    for (let i = 0; i < bytes.length; i++) bytes[i] = parseInt(even.slice(i * 2, i * 2 + 2), 16);
    return bytes;
  }
  if (prefix === "0b" && /^[A-Za-z0-9+/]+={0,2}$/.test(digits) && digits.length <= maxBytes * 2) {
    try {
      const bytes = Uint8Array.from(atob(digits), (c) => c.charCodeAt(0));
      return bytes.length <= maxBytes ? bytes : undefined;
    } catch {
      return undefined; // not base64 after all
    }
  }
  return undefined;
}

/** `0x` and lower-case hexadecimal digits. */
export function formatHex(bytes: Uint8Array): string {
  let text = "0x";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}
