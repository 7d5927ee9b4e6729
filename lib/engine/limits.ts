/**
 * The bounds of the engine, in one place.
 *
 * @module
 */

/** Requests under way in a volume at once: four frontends' worth. Slot numbers fit into 11 bits of a sequence. */
export const SLOTS = 1024;

/** Bits of a sequence number that name the slot; the others count its uses, so that late replies are noticed. */
export const SLOT_BITS = 11;

/** Sequence slot of pings. */
export const PING_SLOT = 2046;

/** Sequence slot of ADOPT. */
export const ADOPT_SLOT = 2047;

/** Most replicas of a volume: bits in a mask, and far above what anybody runs (Longhorn's UI stops at 10). */
export const MAX_REPLICAS = 16;

/** Data connections per replica, as Longhorn has: here one for small requests and one for large ones. */
export const LINK_CONNECTIONS = 2;

/** Payloads of this size and more use the second connection, so that small requests do not queue behind them. */
export const LARGE_BYTES = 64 * 1024;

/** Time between pings on an idle link, milliseconds (Longhorn: 2 s). */
export const PING_INTERVAL_MS = 2000;

/** How often requests under way are checked for their age, milliseconds. */
export const CHECK_INTERVAL_MS = 1000;

/** Default for the longest time without an answer before a replica is given up, ms (Longhorn: 8, accepts 8 to 30 s). */
export const REPLICA_TIMEOUT_MS = 8000;

/** Time to open a data connection, milliseconds. */
export const DIAL_TIMEOUT_MS = 5000;

/**
 * Reads sent to one replica before the next one's turn. A batch costs its replica one wake-up and a few system calls
 * however large it is; a small batch keeps several disks busy at once.
 */
export const READS_PER_TURN = 4;

/**
 * The same while all replicas are on this machine and share its processors: twice the reads per second at a queue of 32
 * on two cores, compared with 4.
 */
export const LOCAL_READS_PER_TURN = 16;

/** Retry of an ADOPT that the last replica refused (its disk is full), milliseconds. */
export const ADOPT_RETRY_MS = 1000;

/** Largest JSON of an ADOPT, bytes. */
export const ADOPT_BYTES = 16 * 1024;

/** A region that nothing was written to for one to two of these is told to be clean, milliseconds. */
export const CLEAN_PERIOD_MS = 10_000;

/** Most runs of regions that are cleaned at once. */
export const MAX_CLEANS = 64;

/** Bytes that are copied at once from copy to copy, and how many of them are under way: little, so hosts get their turn. */
export const COPY_BYTES: number = 64 * 1024;
/** See {@linkcode COPY_BYTES}. */
export const COPY_DEPTH = 8;

/** Digests asked for at once when copies are compared, of all copies together. */
export const COMPARE_REQUESTS = 48;

/**
 * Bytes of the ranges that are compared at once: nobody knows beforehand what of them is data and must be read. A disk
 * that reads 4 MiB/s beside its hosts still answers within the shortest time-out.
 */
export const COMPARE_BYTES = { first: 4 * 1024 * 1024, least: 256 * 1024, most: 32 * 1024 * 1024 } as const;

/** A comparison that ends sooner lets more be compared at once, one that takes longer halves that; milliseconds. */
export const COMPARE_MS = { soon: 100, long: 500 } as const;

/** Places that differ and are noted before they are made equal. */
export const MAX_DIFFERENCES = 1024;

/** How often a new copy that must wait for others is tried again, milliseconds. */
export const ADMIT_RETRY_MS = 100;

/** Edges of writes that are copied to a layered replica at once; one block of memory each. */
export const MEND_DEPTH = 32;

/** Time for the changes under way to end before a change of the chain, milliseconds; then it is given up. */
export const HOLD_TIMEOUT_MS = 20_000;

/** Longest outage of a copy after which only what it missed is copied, milliseconds, by default. */
export const OUTAGE_WINDOW_MS: number = 10 * 60_000;

/**
 * Most pages of block sets (4 KiB each) of what copies missed that a live upgrade hands over: 16 MiB, as much as two
 * copies may have missed at most.
 */
export const HANDED_PAGES = 4096;

/** Most snapshots of a volume that are not marked as removed (Longhorn: 250). */
export const SNAPSHOT_MAX_COUNT = 250;

/** Most disks of a live chain, the head included (Longhorn: 250). */
export const MAX_CHAIN_DISKS = 250;

/** How long a change of the volume waits until copies are equal, and how often it looks; milliseconds. */
export const EQUAL_WAIT_MS = { most: 60_000, step: 50 } as const;

/** Time for the volume thread to dial, to record members, to start a frontend; milliseconds. */
export const THREAD_TIMEOUT_MS = 60_000;

/** Time to make up for trims on a copy that was filled from below, milliseconds. */
export const LAYERS_TRIM_MS = 120_000;

/** Largest UNMAP that a copy is sent at once when trims are made up for, 4 KiB blocks: 1 GiB. */
export const TRIM_BLOCKS: number = 256 * 1024;

/** Pause before copies are made equal (again) that were found full, milliseconds. */
export const RESYNC_RETRY_MS = 5_000;

/** Most that was trimmed on a copy with layers to come and is written as zeros before a snapshot, bytes. */
export const MAX_SETTLED_TRIMS: number = 64 * 1024 * 1024;
