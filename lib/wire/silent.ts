/**
 * Connections that never asked for anything: with all places taken, the oldest of them gives its place to a new one.
 * Otherwise whoever reaches the port could keep an engine out by doing nothing, with as many connections as there are
 * places. One that has asked for something keeps its place: it may be an engine whose volume is at rest.
 *
 * @module
 */
import type { Peer } from "./peer.ts";

/** No connection. */
export const NO_FD = -1 as number;

/** See the module text. */
export class SilentPeers {
  /** When each came, ms; infinite once it has asked for something. */
  readonly #since: Float64Array;
  /** A connection for which another one is being closed, or {@linkcode NO_FD}. */
  arriving: number = NO_FD;

  /**
   * Of so many connections.
   *
   * @param leastMs one that came less long ago keeps its place
   */
  constructor(connections: number, readonly leastMs: number) {
    this.#since = new Float64Array(connections);
  }

  /** A connection came. */
  came(peer: number, now: number): void {
    this.#since[peer] = now;
  }

  /** It has asked for something. */
  asked(peer: number): void {
    this.#since[peer] = Infinity;
  }

  /**
   * Closes the one that has been silent for longest, if it was for long enough, for a new one.
   *
   * @param fd the new connection
   * @returns what was done, or undefined
   */
  makeRoom(fd: number, peers: readonly Peer[], now: number): string | undefined {
    let longest: Peer | undefined, least = now - this.leastMs;
    for (const peer of peers) {
      const since = this.#since[peer.index];
      if (!peer.stream || peer.stream.closing || since > least) continue;
      longest = peer;
      least = since;
    }
    if (!longest || this.arriving !== NO_FD) return undefined;
    this.arriving = fd;
    longest.stream?.close();
    return `closed a data connection: it asked for nothing in ${this.leastMs} ms, and all ${this.#since.length} ` +
      `places were taken`;
  }

  /** Nobody waits for a place any more. @returns who did, or {@linkcode NO_FD} */
  arrived(): number {
    const fd = this.arriving;
    this.arriving = NO_FD;
    return fd;
  }
}
