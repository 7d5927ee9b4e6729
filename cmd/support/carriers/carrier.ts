/**
 * A carrier brings a volume to the host as a block device: it has the volume thread serve the volume in some way,
 * and makes the kernel (or tgtd) a client of that. What all carriers have in common, the name `/dev/longhorn/NAME`
 * above all, is in `device_host.ts`.
 *
 * @module
 */
import type { BlockNumber } from "../../../lib/host/block_stack.ts";
import type { HostContext } from "../../../lib/host/context.ts";
import type { FrontendOptions, ServedKind } from "../frontends.ts";

/** The carriers by name. */
export const CARRIERS = ["iscsi", "nbd", "loop", "tgt"] as const;

/** One of {@linkcode CARRIERS}. */
export type CarrierKind = typeof CARRIERS[number];

/** Makes the volume thread serve. @returns the endpoint of what it serves */
export type Serve = (kind: ServedKind, changes: Partial<FrontendOptions>) => Promise<string>;

/** A device of the kernel. */
export interface CarriedDevice extends BlockNumber {
  /** The kernel's name, such as `sdb`. */
  readonly name: string;
}

/** What is attached. Plain data: it is kept in a file, so that a later process can go on with it, or clean up. */
export interface Attachment {
  /** The device; null for a target that other hosts log in to. */
  readonly device: CarriedDevice | null;
  /** Where it is found when there is no device. */
  readonly endpoint: string;
  /** What the carrier needs to know again: addresses, numbers. */
  readonly details: Readonly<Record<string, string | number>>;
}

/** What carriers are made of. */
export interface CarrierParts {
  /** The host. */
  readonly context: HostContext;
  /** The volume's name. */
  readonly volume: string;
  /** Directory for what lives as long as the machine runs. */
  readonly run: string;
  /** Size of the volume. */
  readonly bytes: () => number;
  /** How long an answer of the volume may take before a client gives up, seconds. */
  readonly requestTimeoutS: number;
}

/** See the module text. */
export interface Carrier {
  /** Its name. */
  readonly kind: CarrierKind;
  /** Removes what a process that is gone left of this volume. @returns what it was, for the log */
  clean(): Promise<string[]>;
  /** Serves the volume and attaches it. When that fails, nothing is left on the host. */
  attach(serve: Serve): Promise<Attachment>;
  /**
   * Serves the volume to a device that a process which is gone has left, whose clients have waited. Undefined: it
   * cannot be done; `clean` comes next then.
   */
  resume?(serve: Serve, old: Attachment): Promise<Attachment | undefined>;
  /** Takes the device away. The volume is still served meanwhile. */
  detach(attachment: Attachment): Promise<void>;
  /** Tells the host the volume's new size. */
  grow(attachment: Attachment, bytes: number): Promise<void>;
}
