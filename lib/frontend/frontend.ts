/**
 * What all frontends have in common. A frontend shows a {@linkcode BlockDevice} to a host: through a socket of
 * Longhorn's frames, iSCSI, NBD or a loop device. It lives in the volume thread, next to the volume.
 *
 * @module
 */

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
}
