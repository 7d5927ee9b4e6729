/**
 * Sizes as people write them: `10GiB`, `10g`, `42kb`, `4096`. Always powers of 1024, as Longhorn's flags are.
 *
 * @module
 */

const UNITS = ["", "k", "m", "g", "t", "p"] as const;

/** A size that cannot be read. */
export class SizeError extends Error {
  /** The class, for logs. */
  override readonly name = "SizeError";
  /** Sizes come from command lines: a usage error. */
  readonly exitCode = 2;
}

/**
 * Bytes of a size.
 * @throws {SizeError} naming the text and what is expected
 */
export function parseSize(text: string): number {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?\s*$/i.exec(text);
  const bytes = match
    ? Number(match[1]) * 1024 ** UNITS.indexOf(match[2].toLowerCase() as typeof UNITS[number])
    : NaN;
  if (!Number.isSafeInteger(Math.round(bytes))) {
    throw new SizeError(`"${text}" is not a size; write for example 10GiB, 512M or 4096`);
  }
  return Math.round(bytes);
}

/**
 * Bytes per second of a limit: `50MiB`, `50MiB/s`; `none` and `0` are 0, no limit.
 * @throws {SizeError} naming the text and what is expected
 */
export function parseRate(text: string): number {
  const match = /^\s*(none|.*?)\s*(?:\/s)?\s*$/i.exec(text), rate = match?.[1] ?? "";
  if (rate.toLowerCase() === "none") return 0;
  try {
    return parseSize(rate);
  } catch (cause) {
    throw new SizeError(`"${text}" is no rate; write for example 50MiB, bytes per second, or none`, {
      cause,
    });
  }
}

/** A size for people: `1.5 GiB`, `512 MiB`, `0 B`. */
export function formatSize(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = bytes, unit = 0;
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit === 0 || Math.abs(value) >= 100 || Number.isInteger(value) ? 0 : 1;
  return `${value.toFixed(digits)} ${units[unit]}`;
}
