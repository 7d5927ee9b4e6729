/**
 * What `drover volume serve` shows while it runs: lines for what happens, and on a terminal one line at the bottom
 * that is always current.
 *
 * @module
 */
import { formatSize } from "../support/sizes.ts";
import type { VolumeHealth } from "./health.ts";

/** Without a terminal, figures are printed this often, and only while there is load; milliseconds. */
const PLAIN_INTERVAL_MS = 10_000;
/** Columns when the terminal does not tell. */
const COLUMNS = 100;

/** A volume's state in one word, from the modes of its copies. */
export type VolumeState = "healthy" | "degraded" | "faulted";

/** See {@linkcode VolumeState}. @param wanted copies that the volume was made with */
export function stateOf(health: VolumeHealth, wanted: number): VolumeState {
  const good = health.replicas.filter(({ mode }) => mode === "RW").length;
  return good === 0 ? "faulted" : good < wanted ? "degraded" : "healthy";
}

/** Figures of the last second: `read 120 IOPS 0.5 MiB/s, write 3400 IOPS 13.3 MiB/s`, or `idle`. */
export function describeMetrics({ metrics }: VolumeHealth): string {
  if (Number(metrics.readIOPS ?? 0) + Number(metrics.writeIOPS ?? 0) === 0) return "idle";
  const side = (what: string, iops: unknown, bytes: unknown) =>
    `${what} ${Number(iops ?? 0)} IOPS ${formatSize(Number(bytes ?? 0))}/s`;
  return `${side("read", metrics.readIOPS, metrics.readThroughput)}, ` +
    side("write", metrics.writeIOPS, metrics.writeThroughput);
}

/** The line: state, copies, figures, where the disk is. */
export function statusLine(volume: string, health: VolumeHealth, wanted: number): string {
  const good = health.replicas.filter(({ mode }) => mode === "RW").length;
  const filled = health.replicas.filter(({ mode }) => mode === "WO").map(({ name }) => name);
  const repair = filled.length > 0 ? `, rebuilding ${filled.join(", ")}` : "";
  return `${volume}: ${stateOf(health, wanted)}, ${good}/${wanted} replicas${repair} | ` +
    `${describeMetrics(health)} | ` +
    (health.endpoint || "no disk");
}

/** See the module text. Errors and warnings go to standard error, the rest to standard output. */
export class Display {
  readonly #terminal = Deno.stdout.isTerminal();
  readonly #encoder = new TextEncoder();
  #shown = false;
  #state: string | undefined;
  #printedAt = -Infinity;

  /** Prints a line of news. */
  say(text: string): void {
    this.clear();
    console.log(text);
  }

  /** Prints a line that should not be missed. */
  warn(text: string): void {
    this.clear();
    console.error(text);
  }

  /** Shows how the volume is. @param now monotonic milliseconds */
  show(volume: string, health: VolumeHealth, wanted: number, now: number): void {
    const line = statusLine(volume, health, wanted);
    if (this.#terminal) {
      this.clear();
      this.#write(line.slice(0, columns() - 1));
      this.#shown = true;
      return;
    }
    const state = `${stateOf(health, wanted)} ${health.replicas.map(({ mode }) => mode)} ${health.endpoint}`;
    const busy = Number(health.metrics.readIOPS ?? 0) + Number(health.metrics.writeIOPS ?? 0) > 0;
    if (state === this.#state && !(busy && now - this.#printedAt >= PLAIN_INTERVAL_MS)) return;
    this.#state = state;
    this.#printedAt = now;
    console.log(line);
  }

  /** Takes the line at the bottom away. */
  clear(): void {
    if (this.#shown) this.#write("\r\x1b[K");
    this.#shown = false;
  }

  #write(text: string): void {
    try {
      Deno.stdout.writeSync(this.#encoder.encode(text));
    } catch {
      // The terminal is gone; the volume goes on until it is told to end.
    }
  }
}

function columns(): number {
  try {
    return Deno.consoleSize().columns || COLUMNS;
  } catch {
    return COLUMNS;
  }
}
