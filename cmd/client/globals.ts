/**
 * What all client commands have in common: which engine they mean, and how they print.
 *
 * @module
 */
import { EngineClient } from "../../lib/client/engine.ts";
import { type program, UsageError } from "../support/program.ts";

/** A command line under construction. @internal */
export type Command = ReturnType<typeof program>;

/** Flags of the program that all client commands read. */
export interface ClientFlags {
  /** The engine. */
  readonly url?: string;
  /** Its volume, checked when given. */
  readonly volumeName?: string;
  /** Its instance, checked when given. */
  readonly engineInstanceName?: string;
}

/** The engine's address when nothing is said. */
export const DEFAULT_URL = "http://localhost:9501";

/** Adds `--url`. @internal */
export function urlOption(root: Command): void {
  root.option("--url <address>", "the engine, for client commands", DEFAULT_URL);
}

/** `HOST:PORT` of an address that may be written as a URL: `http://HOST:PORT/v1`. */
export function engineAddress(url: string): string {
  const match = /^(?:https?|tcp):\/\/([^/]+)(?:\/.*)?$/.exec(url);
  return match ? match[1] : url;
}

/** Does something with the engine that is meant. */
export async function withEngine<T>(
  flags: ClientFlags,
  work: (engine: EngineClient) => Promise<T>,
): Promise<T> {
  using engine = new EngineClient(engineAddress(flags.url ?? DEFAULT_URL), {
    volumeName: flags.volumeName ?? "",
    instanceName: flags.engineInstanceName ?? "",
  });
  return await work(engine);
}

/** JSON as Go prints it with tabs: what scripts compare. Keys of an object keep their order. */
export function goIndented(value: unknown): string {
  return JSON.stringify(value, null, "\t").replace(
    /[<>&\u2028\u2029]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** An object whose keys are in the order in which Go prints a map. */
export function sorted<T>(map: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(map).sort(([a], [b]) => a < b ? -1 : a > b ? 1 : 0));
}

/** Prints JSON. */
export function printJson(value: unknown): void {
  console.log(goIndented(value));
}

/** A table with one blank between columns and nothing after the last, as Go's tabwriter makes it. */
export function tabbed(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (let i = 0; i < row.length - 1; i++) widths[i] = Math.max(widths[i] ?? 0, row[i].length + 1);
  }
  return rows.map((row) => row.map((cell, i) => i < row.length - 1 ? cell.padEnd(widths[i]) : cell).join(""))
    .join("\n");
}

/** An integer of a flag. @throws {UsageError} */
export function integer(flag: string, text: string, least = 0): number {
  const value = Number(text);
  if (!/^-?\d+$/.test(text) || !Number.isSafeInteger(value) || value < least) {
    throw new UsageError(`${flag} ${text}: expected an integer from ${least} up`);
  }
  return value;
}

/** `key=value` as a pair. @throws {UsageError} */
export function parseLabels(labels: readonly string[]): Record<string, string> {
  return Object.fromEntries(labels.map((label) => {
    const at = label.indexOf("=");
    if (at <= 0) throw new UsageError(`--label ${label}: expected KEY=VALUE`);
    return [label.slice(0, at), label.slice(at + 1)];
  }));
}

/** For flags that may be given several times. */
export const collect = (value: string, list: readonly string[]): readonly string[] => [...list, value];
