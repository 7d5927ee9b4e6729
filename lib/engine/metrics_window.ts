/**
 * Metrics as Longhorn reports them: values of the last whole second, made from counters when somebody asks, so
 * that nothing runs while nobody does.
 *
 * @module
 */
import type { Meters } from "./meters.ts";

/** What {@linkcode Meters} tell at one moment. */
export type Snapshot = ReturnType<Meters["totals"]>;

/** Values of a window: bytes and operations per second, mean latency in nanoseconds. */
export interface WindowMetrics {
  /** Bytes read per second. */
  readonly readThroughput: number;
  /** Bytes written per second. */
  readonly writeThroughput: number;
  /** Mean time of a read, nanoseconds. */
  readonly readLatency: number;
  /** Mean time of a write, nanoseconds. */
  readonly writeLatency: number;
  /** Reads per second. */
  readonly readIOPS: number;
  /** Writes per second. */
  readonly writeIOPS: number;
}

/** Shortest window, milliseconds. Who asks more often gets the same answer again. */
const WINDOW_MS = 1000;

const NONE: WindowMetrics = {
  readThroughput: 0,
  writeThroughput: 0,
  readLatency: 0,
  writeLatency: 0,
  readIOPS: 0,
  writeIOPS: 0,
};

/** Differences of counters over time. */
export class MetricsWindow {
  #before: Snapshot | undefined;
  #at = 0;
  #last = NONE;

  /**
   * The first sample begins the first window.
   *
   * @param clock monotonic milliseconds
   */
  constructor(readonly clock: () => number) {}

  /** The metrics since the last call, or the last ones again within a second of them. */
  sample(totals: Snapshot): WindowMetrics {
    const now = this.clock(), seconds = (now - this.#at) / 1000;
    const before = this.#before;
    if (before && seconds * 1000 < WINDOW_MS) return this.#last;
    this.#before = totals;
    this.#at = now;
    if (!before) return NONE;
    const reads = totals.read.operations - before.read.operations;
    const writes = totals.write.operations - before.write.operations;
    const mean = (ms: number, count: number) => count > 0 ? Math.round(ms * 1e6 / count) : 0;
    this.#last = {
      readThroughput: Math.round((totals.read.bytes - before.read.bytes) / seconds),
      writeThroughput: Math.round((totals.write.bytes - before.write.bytes) / seconds),
      readLatency: mean(totals.read.milliseconds - before.read.milliseconds, reads),
      writeLatency: mean(totals.write.milliseconds - before.write.milliseconds, writes),
      readIOPS: Math.round(reads / seconds),
      writeIOPS: Math.round(writes / seconds),
    };
    return this.#last;
  }
}
