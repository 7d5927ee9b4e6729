/**
 * A simulated world: a whole cluster (hosts, processes, disks, network, clocks) in one thread from one seed.
 *
 * The real code of engine and replica runs in it unchanged over {@linkcode SimIo}. Nothing of the runtime's
 * clock or chance leaks in: the same seed and the same code give the same events, see {@linkcode Trace.hash}.
 * The world takes every liberty that kernels, disks and networks take, and no other:
 *
 * ```ts
 * using world = new SimCluster(seed, drawOptions(seed));
 * const replica = world.host("n1").spawn("replica", (io) => startReplica(io));
 * world.schedule(50, () => replica.kill());
 * world.schedule(90, () => world.host("n1").powerCut());
 * world.run(1000); // throws SimFailure with the seed and the last events
 * ```
 *
 * **When an operation takes effect.** Between its submission and its completion, at one moment or in two
 * steps; latency is drawn per operation.
 *
 * | Operations | Promised | Not promised |
 * |---|---|---|
 * | any two under way | | order of effect, order of completion, and that these agree |
 * | overlapping writes | one of them wins in each sector | which one |
 * | read beside a write | each sector old or new | that all sectors are of one age |
 * | completion | never inside the submitting call | that one pass brings only one |
 * | timers | not early; by deadline, equal ones as armed | punctuality |
 * | clocks | stand still within a pass | that hosts agree, or that wall clocks do not jump |
 *
 * **What a kill (SIGKILL) leaves.** Everything completed. An operation under way happens in full, as a prefix,
 * as any of its sectors, or not. Descriptors and locks go at once or up to `lingerMs` later; peers see the end of
 * the stream or a reset, and may miss bytes sent before a reset.
 *
 * **What a power cut leaves.** Every process of the host is killed without a packet. Then:
 *
 * | Change | Made durable by | Otherwise left as |
 * |---|---|---|
 * | data of `write`, `writeAt` (O_DIRECT too) | `syncData`, `sync` that succeeded later | each 512-byte sector any version since the last sync, by itself |
 * | data of `writeDurable` | its completion, its own sectors | |
 * | size | `syncData`, `sync`; a `writeDurable` as far as it reaches | any size the file had since, or one on the way there |
 * | a cut (`truncate`) | `syncData`, `sync` | done, or undone with the contents back |
 * | punched, zeroed or preallocated pages | `syncData`, `sync` | old or new, per page |
 * | pages written for the first time | `syncData`, `sync` | all of it, a hole, or unwritten space (reads as zeros) |
 * | a name (create, link, rename, unlink, mkdir, rmdir) | `syncDirectory` of every directory it is in | `ordered`: lost with all later ones; `weak`: lost with those that build on it |
 * | rename | | done or not, never half |
 * | name of a synced file | `syncDirectory`; the file's sync only by luck (`fileSyncCommitsNames`) | lost |
 * | what a failed sync was to write | writing it again | lost for good, though later syncs succeed and reads see it (`syncErrorLosesData`) |
 * | times | a sync of the file | old or new |
 *
 * Synced bytes never change, nothing that was never written appears, and beyond the size all is zero.
 *
 * **Network.** A connection is an ordered, reliable stream while it lives.
 *
 * | Event | Seen by the sender | Seen by the receiver |
 * |---|---|---|
 * | send completes | its bytes are in a bounded buffer | perhaps nothing yet, perhaps never |
 * | bytes arrive | | any number at a time, from 1 |
 * | `close` | | end of stream; a reset if unread bytes were left |
 * | `shutdown`, then more bytes from the peer | EPIPE | reset to the peer |
 * | reset, cut | ECONNRESET or EPIPE once, then EPIPE | ECONNRESET once, then 0; unread bytes perhaps lost |
 * | partition, blocked link | sends until the buffer is full; ETIMEDOUT after `retransmitTimeoutMs` | nothing; after it heals everything, or a reset |
 * | acknowledgements blocked (one way) | stops at the buffer's size | bytes arrive |
 * | host without power | as for a partition | |
 * | host booted again | ECONNRESET once it sends | |
 * | connect | ECONNREFUSED, ENOENT (unix), EHOSTUNREACH, ETIMEDOUT | in the backlog before accept |
 *
 * **Mistakes that are found**: closing a descriptor in use, two sends or two receives at once on a socket, buffers
 * outside the arena, vectors used again without being written, more operations, timers or deferred tasks than
 * the bounds allow, a loop that waits for nothing.
 *
 * **Faults to be asked for**: {@linkcode SimProcess.kill}, {@linkcode SimProcess.pause}, crash points
 * ({@linkcode crashBefore}), {@linkcode SimHost.powerCut}, `clockSkewMs`, {@linkcode SimDisk.inject},
 * {@linkcode SimDisk.setFree}, `slowdown` and `stalledUntil` of a disk, {@linkcode SimNetwork.partition},
 * {@linkcode SimNetwork.cut}, {@linkcode Link.block}, `latency` and `bytesPerMs` of a link.
 *
 * @module
 */
export { SimCluster, SimFailure } from "./cluster.ts";
export { SimHost, type SimHostOptions } from "./host.ts";
export {
  crashBefore,
  DEFAULT_ARENA_BYTES,
  type MutationHook,
  SimCrash,
  SimProcess,
  type SimProcessOptions,
} from "./process.ts";
export * from "./options.ts";
export { type DiskFault, type DiskWork, SimDisk } from "./disk.ts";
export { SimIo } from "./io.ts";
export { SimFiles } from "./files.ts";
export { Link, SimNetwork } from "./network.ts";
export { Random } from "./random.ts";
export { Trace, Verb } from "./trace.ts";
