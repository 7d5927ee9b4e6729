/**
 * Log lines: as text for people at a terminal, as JSON for everything that collects them. One event is one line in
 * both; whatever is in a message or a field cannot start another line or reach the terminal as a control sequence.
 *
 * ```text
 * 2026-01-02T03:04:05.678Z WARN  replica left the set volume=db-0 replica=tcp://10.0.0.7:10000
 * {"time":"2026-01-02T03:04:05.678Z","level":"warn","message":"replica left the set","volume":"db-0",...}
 * ```
 *
 * @module
 */
import { isSensitiveName, REDACTED, Secret, withoutUrlPasswords } from "./secret.ts";

/** How lines look. */
export type LogFormat = "text" | "json";

/** What a field may hold. Undefined fields are left out. */
export type FieldValue =
  | string
  | number
  | bigint
  | boolean
  | null
  | undefined
  | Error
  | Secret
  | readonly (string | number)[];

/** Named facts of an event. Names are camelCase; units are part of the name (`tookMs`, `sizeBytes`). */
export type Fields = Readonly<Record<string, FieldValue>>;

/** One event, before it becomes a line. */
export interface LogEvent {
  /** Milliseconds since 1970. */
  readonly time: number;
  /** Name of the level: `debug`, `info`, `warn`, `error`. */
  readonly level: string;
  /** A constant sentence; what varies goes into fields. */
  readonly message: string;
  /** Bound and own fields together. */
  readonly fields: Fields;
  /** Show the stacks of errors. */
  readonly stacks: boolean;
}

/** Longest text of one field or message, in characters; the rest is cut and its length noted. */
export const MAX_VALUE_CHARS = 2048;

/** Most items of a list that are shown. */
const MAX_LIST_ITEMS = 32;

/** Most causes of an error that are shown. */
const MAX_CAUSES = 4;

/** The fields of a JSON line that events cannot overwrite; their namesakes get a `_` behind. */
const RESERVED = new Set(["time", "level", "message"]);

function cut(text: string): string {
  if (text.length <= MAX_VALUE_CHARS) return text;
  return `${text.slice(0, MAX_VALUE_CHARS)}...(${text.length - MAX_VALUE_CHARS} more)`;
}

/** `Name: message` of an error and its causes, joined by `; caused by `. */
export function describeError(error: Error, stacks = false): string {
  const parts: string[] = [];
  let current: unknown = error;
  for (let depth = 0; depth <= MAX_CAUSES && current !== undefined && current !== null; depth++) {
    if (!(current instanceof Error)) {
      parts.push(String(current));
      break;
    }
    const named = current.name === "Error" ? current.message : `${current.name}: ${current.message}`;
    parts.push(stacks ? current.stack ?? named : named);
    current = current.cause;
  }
  return parts.join("; caused by ");
}

function shortList(items: string[]): string[] {
  if (items.length <= MAX_LIST_ITEMS) return items;
  return [...items.slice(0, MAX_LIST_ITEMS), `...(${items.length - MAX_LIST_ITEMS} more)`];
}

function plain(
  name: string,
  value: FieldValue,
  stacks: boolean,
): string | number | boolean | null | string[] {
  if (value instanceof Secret || isSensitiveName(name)) return REDACTED;
  if (value instanceof Error) return cut(withoutUrlPasswords(describeError(value, stacks)));
  if (typeof value === "string") return cut(withoutUrlPasswords(value));
  if (typeof value === "bigint") return value.toString();
  // JSON has no word for these; null would hide which one it was.
  if (typeof value === "number") return Number.isFinite(value) ? value : String(value);
  if (Array.isArray(value)) return shortList(value.map((item) => cut(withoutUrlPasswords(String(item)))));
  return typeof value === "boolean" ? value : null;
}

function escapeControls(text: string): string {
  return text.replace(
    /[\p{Cc}\u2028\u2029]/gu,
    (control) => control === "\n" ? "\\n" : `\\u${control.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function textValue(value: ReturnType<typeof plain>): string {
  const text = Array.isArray(value) ? value.join(",") : String(value);
  const bare = text !== "" && !/[\s="\\\p{Cc}]/u.test(text);
  return bare ? text : `"${escapeControls(text.replace(/["\\]/g, "\\$&"))}"`;
}

function textLine(event: LogEvent): string {
  const time = new Date(event.time).toISOString();
  let line = `${time} ${event.level.toUpperCase().padEnd(5)} ${
    escapeControls(cut(withoutUrlPasswords(event.message)))
  }`;
  for (const [name, value] of Object.entries(event.fields)) {
    if (value !== undefined) {
      line += ` ${escapeControls(name)}=${textValue(plain(name, value, event.stacks))}`;
    }
  }
  return line;
}

function jsonLine(event: LogEvent): string {
  const out: Record<string, unknown> = {
    time: new Date(event.time).toISOString(),
    level: event.level,
    message: cut(withoutUrlPasswords(event.message)),
  };
  for (const [name, value] of Object.entries(event.fields)) {
    if (value !== undefined) out[RESERVED.has(name) ? `${name}_` : name] = plain(name, value, event.stacks);
  }
  return escapeControls(JSON.stringify(out));
}

/** An event as one line, without the line feed at its end. */
export function formatLine(event: LogEvent, format: LogFormat): string {
  return format === "json" ? jsonLine(event) : textLine(event);
}
