/**
 * What a simulated world is like: latencies, and how often which liberty of the real world is taken.
 *
 * @module
 */
import { Random } from "./random.ts";

/** A distribution of waiting times: a floor, an exponential tail, and now and then a stall. */
export interface Latency {
  /** Never less than this, ms. */
  readonly minMs: number;
  /** Mean of the exponential part, ms. */
  readonly meanMs: number;
  /** Probability of a stall. */
  readonly stallChance: number;
  /** Longest stall, ms; uniform. */
  readonly stallMs: number;
}

/** Draws from a {@linkcode Latency}, ms. */
export function drawLatency(random: Random, latency: Latency): number {
  let ms = latency.minMs;
  if (latency.meanMs > 0) ms -= latency.meanMs * Math.log(1 - random.unit());
  if (latency.stallChance > 0 && random.unit() < latency.stallChance) ms += latency.stallMs * random.unit();
  return ms;
}

/** A local NVMe device. */
export const FAST_DEVICE: Latency = { minMs: 0.01, meanMs: 0.03, stallChance: 0.001, stallMs: 5 };
/** A spinning or network disk. */
export const SLOW_DEVICE: Latency = { minMs: 0.5, meanMs: 6, stallChance: 0.01, stallMs: 200 };
/** A device with seconds of silence now and then. */
export const STALLING_DEVICE: Latency = { minMs: 0.02, meanMs: 0.2, stallChance: 0.01, stallMs: 4000 };
/** A rack's network. */
export const FAST_NETWORK: Latency = { minMs: 0.02, meanMs: 0.05, stallChance: 0.001, stallMs: 10 };
/** A network between sites. */
export const SLOW_NETWORK: Latency = { minMs: 1, meanMs: 4, stallChance: 0.01, stallMs: 300 };
/** The loopback interface and unix sockets. */
export const LOOPBACK: Latency = { minMs: 0.005, meanMs: 0.01, stallChance: 0, stallMs: 0 };

/** Of a host's disk. */
export interface DiskOptions {
  /** Size of the file system, bytes. */
  readonly capacityBytes: number;
  /** Latency of reads. */
  readonly read: Latency;
  /** Latency of writes, hole punching and allocation. */
  readonly write: Latency;
  /** Latency of syncs and what durable writes take longer. */
  readonly sync: Latency;
  /**
   * `ordered`: a power cut loses a suffix of the name operations, as a journalling file system does. `weak`:
   * it loses any of them whose loss leaves the order within each directory and file intact.
   */
  readonly names: "ordered" | "weak";
  /** Probability that a sync of a file also makes its pending name operations durable. */
  readonly fileSyncCommitsNames: number;
  /** Probability that a name operation makes a prefix of the pending ones durable by itself. */
  readonly backgroundCommit: number;
  /** Probability that an un-synced sector is written back just before it is written again. */
  readonly writeback: number;
  /** Probability that an un-synced page is left as an unwritten extent by a power cut. */
  readonly unwritten: number;
  /** Probability that a read or write takes effect in two steps, so that others see half of it. */
  readonly split: number;
  /** A failed sync marks what it failed to write clean: it is lost, though later syncs succeed. */
  readonly syncErrorLosesData: boolean;
  /** Probability that an extent is reported in two pieces. */
  readonly splitExtents: number;
}

/** Of the network between and inside hosts. */
export interface NetworkOptions {
  /** Between two hosts, one way. */
  readonly latency: Latency;
  /** Inside a host, one way. */
  readonly loopback: Latency;
  /** Bytes per ms between two hosts; 0 = no limit. */
  readonly bytesPerMs: number;
  /** Smallest and largest buffer of a connection's direction, bytes; drawn per connection, powers of two. */
  readonly windowBytes: readonly [number, number];
  /** Probability that a receive gets fewer bytes than there are. */
  readonly partialReceive: number;
  /** Probability that the bytes of a send arrive in two steps. */
  readonly splitSend: number;
  /** Probability that a process's end is seen by its peers as a reset rather than an end of stream. */
  readonly resetOnKill: number;
  /** Probability that a reset takes bytes with it that had arrived and were not received yet. */
  readonly resetDiscards: number;
  /** A connection attempt without an answer fails after this, ms (Linux: 127 s with six SYN retries). */
  readonly connectTimeoutMs: number;
  /** A connection whose packets are not acknowledged fails after this, ms (Linux: about 15 minutes). */
  readonly retransmitTimeoutMs: number;
}

/** Of every process. */
export interface ProcessOptions {
  /** Mean delay between a completion and the wake-up of the loop, ms: what makes batches. */
  readonly wakeMs: number;
  /** Probability that the wake-up follows at once. */
  readonly wakeAtOnce: number;
  /** How late a timer may be, ms. */
  readonly timerSlackMs: number;
  /** How long a killed process's descriptors, locks and writes under way may outlive it, ms. */
  readonly lingerMs: number;
}

/** Everything. */
export interface SimOptions {
  /** Of every disk, unless its host says otherwise. */
  readonly disk: DiskOptions;
  /** Of the network. */
  readonly network: NetworkOptions;
  /** Of every process. */
  readonly process: ProcessOptions;
  /** Events the trace keeps. */
  readonly traceEvents: number;
}

/** Parts of {@linkcode SimOptions} that differ from the default. */
export interface SimOverrides {
  /** Of disks. */
  readonly disk?: Partial<DiskOptions>;
  /** Of the network. */
  readonly network?: Partial<NetworkOptions>;
  /** Of processes. */
  readonly process?: Partial<ProcessOptions>;
  /** Events the trace keeps. */
  readonly traceEvents?: number;
}

/** A world in good health that nevertheless takes every liberty a kernel may take. */
export const DEFAULT_OPTIONS: SimOptions = {
  disk: {
    capacityBytes: 2 ** 40,
    read: FAST_DEVICE,
    write: FAST_DEVICE,
    sync: { minMs: 0.1, meanMs: 0.5, stallChance: 0.001, stallMs: 20 },
    names: "ordered",
    fileSyncCommitsNames: 0.5,
    backgroundCommit: 0.05,
    writeback: 0.3,
    unwritten: 0.3,
    split: 0.2,
    syncErrorLosesData: true,
    splitExtents: 0.1,
  },
  network: {
    latency: FAST_NETWORK,
    loopback: LOOPBACK,
    bytesPerMs: 0,
    windowBytes: [16 * 1024, 256 * 1024],
    partialReceive: 0.2,
    splitSend: 0.1,
    resetOnKill: 0.5,
    resetDiscards: 0.5,
    connectTimeoutMs: 127_000,
    retransmitTimeoutMs: 924_600,
  },
  process: { wakeMs: 0.02, wakeAtOnce: 0.5, timerSlackMs: 0.2, lingerMs: 0 },
  traceEvents: 4096,
};

/** The default with overrides. */
export function simOptions(overrides: SimOverrides = {}): SimOptions {
  return {
    disk: { ...DEFAULT_OPTIONS.disk, ...overrides.disk },
    network: { ...DEFAULT_OPTIONS.network, ...overrides.network },
    process: { ...DEFAULT_OPTIONS.process, ...overrides.process },
    traceEvents: overrides.traceEvents ?? DEFAULT_OPTIONS.traceEvents,
  };
}

/**
 * A world drawn from a seed, for campaigns: each run stresses some things and leaves others alone, which
 * finds more than the same mixture every time.
 */
export function drawOptions(seed: number, overrides: SimOverrides = {}): SimOptions {
  const random = new Random(seed * 2 + 1);
  const device = () => random.pick([FAST_DEVICE, FAST_DEVICE, SLOW_DEVICE, STALLING_DEVICE]);
  const some = (most: number) => random.chance(0.3) ? 0 : random.unit() * most;
  const smallest = 2 ** random.between(9, 16);
  return simOptions({
    disk: {
      read: device(),
      write: device(),
      sync: device(),
      names: random.chance(0.5) ? "ordered" : "weak",
      fileSyncCommitsNames: random.pick([0, 0.5, 1]),
      backgroundCommit: some(0.3),
      writeback: some(1),
      unwritten: some(1),
      split: some(1),
      syncErrorLosesData: random.chance(0.7),
      splitExtents: some(0.5),
      ...overrides.disk,
    },
    network: {
      latency: random.pick([FAST_NETWORK, FAST_NETWORK, SLOW_NETWORK]),
      windowBytes: [smallest, smallest * 2 ** random.between(0, 4)],
      partialReceive: some(1),
      splitSend: some(1),
      resetOnKill: random.unit(),
      ...overrides.network,
    },
    process: {
      wakeMs: some(1),
      wakeAtOnce: random.unit(),
      timerSlackMs: some(20),
      lingerMs: random.chance(0.5) ? 0 : random.unit() * 50,
      ...overrides.process,
    },
    ...(overrides.traceEvents === undefined ? {} : { traceEvents: overrides.traceEvents }),
  });
}
