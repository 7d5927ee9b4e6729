/**
 * How a rebuild goes: what Longhorn tells, and bytes, speed and time left beside it.
 *
 * @module
 */
import type { ptypes } from "../../rpc/gen/ptypes.js";
import { JobStatus } from "./status.ts";

/** The speed is that of so many milliseconds. */
const SPEED_MS = 10_000;

/** See the module text. */
export class RebuildStatus extends JobStatus {
  /** Addresses of the sources. */
  sources: readonly string[] = [];
  /** Bytes of data in all files. */
  total = 0;
  /** Bytes per second that may come, 0 = no limit. */
  limit = 0;
  /** Told when the limit changes. */
  onLimit: () => void = () => {};
  readonly #placed = new Map<string, number>();
  readonly #received = new Map<string, number>();
  #samples: { readonly at: number; readonly done: number }[] = [];

  /** Begins with these sources. @param total bytes of data in all files */
  start(sources: readonly string[], total: number): void {
    this.begin();
    this.sources = sources;
    this.total = total;
    this.#placed.clear();
    this.#received.clear();
    this.#samples = [{ at: performance.now(), done: 0 }];
  }

  /** Changes the limit, at once. @param bytesPerSecond 0 = none */
  setLimit(bytesPerSecond: number): void {
    this.limit = Math.max(0, bytesPerSecond);
    this.onLimit();
  }

  /** Notes how far a file is. @param limit bytes of data that the source says it has */
  note(file: string, placed: number, received: number, limit: number): void {
    this.#placed.set(file, Math.min(placed, limit));
    this.#received.set(file, received);
    const now = performance.now(), done = this.done;
    if (this.total > 0) this.progress = Math.min(99, Math.floor(100 * done / this.total));
    this.#samples.push({ at: now, done });
    while (this.#samples.length > 2 && now - this.#samples[0].at > SPEED_MS) this.#samples.shift();
  }

  /** Bytes of data in place. */
  get done(): number {
    return [...this.#placed.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  /** Bytes per second in place lately. */
  get speed(): number {
    const first = this.#samples.at(0), last = this.#samples.at(-1);
    if (!first || !last || last.at === first.at) return 0;
    return Math.round(1000 * (last.done - first.done) / (last.at - first.at));
  }

  /** The reply of ReplicaRebuildStatus. */
  describe(): ptypes.IReplicaRebuildStatusResponse {
    const { running, error, progress, state, sources, total, limit, done, speed } = this;
    return {
      isRebuilding: running,
      error,
      progress,
      state,
      fromReplicaAddress: sources[0] ?? "",
      fromReplicaAddressList: [...sources],
      droverBytesTotal: total,
      droverBytesDone: state === "complete" ? total : done,
      droverBytesReceived: [...this.#received.values()].reduce((sum, bytes) => sum + bytes, 0),
      droverBytesPerSecond: running ? speed : 0,
      droverSecondsLeft: running && speed > 0 ? Math.ceil(Math.max(0, total - done) / speed) : 0,
      droverLimit: limit,
    };
  }
}
