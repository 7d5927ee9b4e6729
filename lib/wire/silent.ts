/**
 * Connections that never asked for anything: with all places taken, the oldest of them gives its place to a new one.
 * Otherwise whoever reaches the port could keep an engine out by doing nothing, with as many connections as there are
 * places. One that has asked for something keeps its place: it may be an engine whose volume is at rest.
 *
 * @module
 */
import type { Peer } from "./peer.ts";

/** See the module text. */
export class SilentPeers {
  /** When each came, ms; infinite once it has asked for something. */
  readonly #since: Float64Array;

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

  /** The one that has been silent for longest, if for long enough. */
  longest(peers: readonly Peer[], now: number): Peer | undefined {
    let longest: Peer | undefined, least = now - this.leastMs;
    for (const peer of peers) {
      const since = this.#since[peer.index];
      if (!peer.stream || peer.stream.closing || since > least) continue;
      longest = peer;
      least = since;
    }
    return longest;
  }
}
