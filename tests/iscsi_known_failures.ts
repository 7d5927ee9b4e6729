/**
 * Tests of libiscsi's `iscsi-test-cu` that the target does not pass, each with the reason. The list is compared
 * exactly: a new failure is a failure, and a test that passes after all has to leave the list.
 *
 * @module
 */

/** One test by suite and name. */
export interface KnownFailure {
  /** `Suite.Test`, as the program prints them. */
  readonly test: string;
  /** Why the target is right, or what it lacks. */
  readonly reason: string;
}

/** All of them, for libiscsi 1.19. */
export const KNOWN_FAILURES: readonly KnownFailure[] = [
  {
    test: "GetLBAStatus.UnmapSingle",
    reason:
      "its second half asks for block i + 1 and expects the answer to begin at block i + 8 (blocks per " +
      "physical block); SBC-3 section 5.4.2.1 wants the answer to begin at the block that was asked for, and both " +
      "are the same only without 4 KiB physical blocks",
  },
];
