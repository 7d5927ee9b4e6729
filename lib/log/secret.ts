/**
 * Values that must not be seen: passwords, keys, tokens. A {@linkcode Secret} prints as `***` wherever it is printed,
 * and only code that says `reveal()` gets at it.
 *
 * @module
 */

/** What is shown in place of a secret. */
export const REDACTED = "***";

/** Names of fields that are never shown, whatever they hold. */
const SENSITIVE_NAME =
  /pass(word|phrase|wd)|secret|token|credential|authorization|(api|private|access)[_-]?key/i;

/** `user:password@` in a URL. A single name before the `@` stays: `s3://bucket@region/` has no secret. */
const URL_PASSWORD = /(:\/\/[^\s\/@:"']*:)[^\s\/@"']+@/g;

/** True when a field of this name is not to be shown. */
export function isSensitiveName(name: string): boolean {
  return SENSITIVE_NAME.test(name);
}

/** A text without the passwords of the URLs in it. */
export function withoutUrlPasswords(text: string): string {
  return text.includes("://") ? text.replace(URL_PASSWORD, `$1${REDACTED}@`) : text;
}

/** A string that does not show itself: not in logs, not in JSON, not in an error message, not in `console.log`. */
export class Secret {
  readonly #value: string;

  /** Wraps a value; keep no other copy. */
  constructor(value: string) {
    this.#value = value;
  }

  /** The value itself, for the one place that needs it. */
  reveal(): string {
    return this.#value;
  }

  /** Always `***`. */
  toString(): string {
    return REDACTED;
  }

  /** Always `***`. */
  toJSON(): string {
    return REDACTED;
  }

  /** What `console.log` and `Deno.inspect` show: `***`. */
  [Symbol.for("Deno.customInspect")](): string {
    return REDACTED;
  }

  /** What `node:util` shows: `***`. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return REDACTED;
  }
}
