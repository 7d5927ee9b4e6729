/**
 * A simulated world: a whole cluster in one thread from one seed.
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
export type { DiskFault, DiskWork, SimDisk } from "./disk.ts";
export type { SimIo } from "./io.ts";
export type { SimFiles } from "./files.ts";
export type { Link, SimNetwork } from "./network.ts";
export { Random } from "./random.ts";
export { Trace, Verb } from "./trace.ts";
