/**
 * Limits and time-outs of control calls.
 *
 * @module
 */

/**
 * Largest message sent or received, bytes. It is gRPC's own default, which peers have: a larger message would be
 * refused there. The largest real one, a replica with 250 snapshots, has some 100 KiB.
 */
export const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;

/** Most calls at the same time on one connection of a server. */
export const MAX_CONCURRENT_CALLS = 1024;

/** Deadline of a unary call unless the caller gives one, milliseconds. */
export const CALL_TIMEOUT_MS = 3 * 60 * 1000;

/** Deadline for calls that last as long as the data they move (file sync, clone, send), milliseconds. */
export const LONG_CALL_TIMEOUT_MS = 24 * 60 * 60 * 1000;

/** How long a closing server waits for running calls, milliseconds. */
export const CLOSE_GRACE_MS = 2000;

/** A server asks after a silent client this often, and drops it if there is no answer, milliseconds. */
export const SERVER_KEEPALIVE_MS = 60_000;

/** Time a client has to answer such a question, milliseconds. */
export const SERVER_KEEPALIVE_TIMEOUT_MS = 20_000;

/** Pause of a client before it dials again: first and longest, milliseconds. */
export const RECONNECT_MS = { first: 200, longest: 5000 } as const;
