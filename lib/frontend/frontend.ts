/**
 * What all frontends have in common. A frontend shows a {@linkcode BlockDevice} to a host: through a socket of
 * Longhorn's frames, iSCSI, NBD or a loop device. It lives in the volume thread, next to the volume.
 *
 * In a live upgrade a frontend passes from one process to another while its clients are connected. The old one
 * {@link Frontend.suspend suspends}: it takes no new request, ends those under way and sends all answers. Then nothing
 * of a connection is anywhere but in its socket, except what {@link Parcel} says. A frontend in the new process is made
 * from that; it begins suspended. Exactly one of the two is told to {@link Frontend.resume resume}, the other one to
 * {@link Frontend.leave leave}.
 *
 * @module
 */

/** What a suspended frontend is, for another process: JSON, and descriptors that the JSON names by their place. */
export interface Parcel {
  /** JSON; each kind has its own. Unknown fields are ignored, so that versions can differ. */
  readonly state: unknown;
  /** Of this process. */
  readonly descriptors: readonly number[];
}

/** A way for a host to see a volume. */
export interface Frontend {
  /** `socket`, `iscsi`, `nbd` or `loop`. */
  readonly kind: string;
  /** Where a host finds the disk: a path, a URI or an IQN, for people and for `info`. */
  readonly endpoint: string;
  /**
   * Stops serving: no new connections, orderly farewells where the protocol has them, operations under way
   * end first. `done` is called from the loop when nothing of the frontend is left.
   */
  stop(done: () => void): void;
  /**
   * Comes to rest without ending any connection. `done` is called from the loop: with "" when nothing is under way, or
   * after the time is over with what is still moving; then only {@linkcode resume} may follow.
   *
   * @param graceMs for clients to send what they have begun and to take their answers
   */
  suspend(graceMs: number, done: (problem: string) => void): void;
  /** What the other process needs. Only at rest. Nothing changes by it. */
  parcel(): Parcel;
  /** Goes on: after {@linkcode suspend}, or as one that was made from a parcel. */
  resume(): void;
  /** Lets go of all descriptors without touching what is behind them. Only at rest; the end of this frontend. */
  leave(): void;
}
