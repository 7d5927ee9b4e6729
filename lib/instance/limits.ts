/**
 * Limits and times of the instance manager. The ones marked "Longhorn" are part of its behaviour towards callers.
 *
 * @module
 */

/** How long a process may take to become healthy, milliseconds (Longhorn: 600 looks of 100 ms). */
export const HEALTHY_MS = 60_000;

/** Pause between two looks at the health of a process that starts, milliseconds: at first, and later. */
export const PROBE_MS = { first: 100, later: 500, laterAfter: 5_000 } as const;

/** Deadline of one such look, milliseconds. */
export const PROBE_TIMEOUT_MS = 2_000;

/** How long a process may take to end after SIGINT before it is killed, milliseconds (Longhorn). */
export const STOP_MS = 60_000;

/** How long a killed process may take to be gone, milliseconds. One that hangs in the kernel stays listed. */
export const KILL_MS = 60_000;

/** How long a replacement may take to be ready while the old process still serves, milliseconds (Longhorn). */
export const REPLACE_MS = 30_000;

/** How long a replaced process may take to end after SIGHUP before it is killed, milliseconds. */
export const SUPERSEDED_MS = 10_000;

/** How often adopted processes are looked at, milliseconds: one system call for all of them. */
export const ADOPTED_LOOK_MS = 1_000;

/** How often conditions of processes are checked, milliseconds (Longhorn). */
export const CONDITIONS_MS = 10_000;

/** How often the sizes of logs are looked at, milliseconds. */
export const LOG_LOOK_MS = 30_000;

/** A log that is larger is cut, bytes; as much of its older part is kept beside it. */
export const LOG_BYTES = 8 * 1024 * 1024;

/** Logs of processes that are gone are kept this long after their last line, milliseconds. */
export const LOG_KEEP_MS = 7 * 24 * 60 * 60 * 1000;

/** Longest line that is streamed whole, bytes; a longer one comes in pieces. */
export const LOG_LINE_BYTES = 64 * 1024;

/** What instances write is repeated on the manager's output at most this often, milliseconds. */
export const ECHO_MS = 200;

/** Changes that wait for one watcher; one that is further behind is cut off and lists again (Longhorn). */
export const WATCH_QUEUE = 100;

/** Watchers at a time. */
export const MAX_WATCHERS = 256;

/** Processes at a time. */
export const MAX_PROCESSES = 4096;

/** Arguments of one process, and their bytes. Linux takes 128 KiB in one argument. */
export const MAX_ARGS = 1024, MAX_ARGS_BYTES = 128 * 1024;

/** A process that fails sooner than this after its start counts towards a crash loop, milliseconds. */
export const CRASH_MS = 60_000;

/** So many failures in a row are not held against a name. */
export const CRASHES_FREE = 3;

/** Pause before the next start of a name that crashes: first and longest, milliseconds. */
export const CRASH_PAUSE_MS = { first: 1_000, longest: 60_000 } as const;

/** Names whose failures are remembered. */
export const MAX_CRASH_NAMES = 4096;

/** Environment variable by which a process is found again when its record was not finished. */
export const UUID_VARIABLE = "DROVER_INSTANCE_UUID";

/** Interface numbers that are announced, Longhorn's; `min` is the oldest that is still understood. */
export const INSTANCE_API = {
  manager: 7,
  managerMin: 1,
  proxy: 7,
  proxyMin: 1,
  disk: 1,
  diskMin: 1,
} as const;
