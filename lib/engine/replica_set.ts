/**
 * The copies of a volume: which there are, in which mode, and the short lists that the data path walks.
 *
 * @module
 */
import type { Address, Io } from "../io/io.ts";
import type { StreamSizes } from "../io/stream_memory.ts";
import { MAX_REPLICAS } from "./limits.ts";
import { Link, LinkMemory, type LinkOwner, type Mode } from "./link.ts";

/** What is known of one replica of a volume. */
export interface ReplicaView {
  /** Address people know it by. */
  readonly name: string;
  /** What it is used for. */
  readonly mode: Mode;
  /** Why it is ERR, or "". */
  readonly reason: string;
}

/** See the module text. */
export class ReplicaSet {
  /** Links that get changes: RW and WO. Like the next two, rebuilt when a mode changes. */
  writers: readonly Link[] = [];
  /** Complete copies (RW), in the order of their admission: while copies may differ, the first is read from. */
  readers: readonly Link[] = [];
  /** Those of the readers that reads go to: the local one if there is one. */
  preferred: readonly Link[] = [];
  /** Bits of the readers. */
  readersMask = 0;
  readonly #links: (Link | undefined)[] = new Array(MAX_REPLICAS).fill(undefined);
  readonly #memories: (LinkMemory | undefined)[] = new Array(MAX_REPLICAS).fill(undefined);
  #admitted: readonly Link[] = [];
  #removed = 0;
  #gone = 0;

  /**
   * Begins without copies.
   *
   * @param owner of the links: the volume
   * @param local name of the replica on this machine
   * @param sizes of the connections' buffers
   */
  constructor(
    readonly io: Io,
    readonly owner: LinkOwner,
    readonly local: string | undefined,
    readonly sizes: StreamSizes | undefined,
  ) {}

  /** All links that were dialed and not removed. */
  all(): Link[] {
    return this.#links.filter((link) => link !== undefined);
  }

  /** The same for people. */
  views(): ReplicaView[] {
    return this.all().map((link) => ({ name: link.name, mode: link.mode, reason: link.reason }));
  }

  /**
   * Connects to a replica. It takes no part until {@linkcode admit}.
   *
   * @param name address people know it by
   * @param data where its data server listens
   * @param id its own identifier, "" when it has none
   * @param features bits of `Feature` that it announced
   * @throws {RangeError} when the volume has MAX_REPLICAS already, or this one
   */
  dial(name: string, data: Address, id: string, features: number): void {
    if (this.all().some((link) => link.name === name)) {
      throw new RangeError(`replica ${name} is there already`);
    }
    const index = this.#links.indexOf(undefined);
    if (index < 0) throw new RangeError(`a volume has at most ${MAX_REPLICAS} replicas`);
    const memory = this.#memories[index] ??= new LinkMemory(this.io, this.sizes);
    this.#gone &= ~(1 << index);
    this.#links[index] = new Link(this.io, index, name, data, id, features, memory, this.owner);
  }

  /** The link of a replica. @throws {RangeError} when there is none */
  find(name: string): Link {
    const link = this.all().find((l) => l.name === name);
    if (!link) throw new RangeError(`the volume has no replica ${name}`);
    return link;
  }

  /** Puts a connected replica to use. @throws {RangeError} when it is not connected */
  admit(name: string, mode: "RW" | "WO"): void {
    const link = this.find(name);
    if (!link.up) throw new RangeError(`replica ${name} is not connected: ${link.reason || "still dialing"}`);
    link.mode = mode;
    this.#admitted = [...this.#admitted.filter((other) => other !== link), link];
    this.#regroup();
  }

  /** A copy that was being filled is complete. */
  promote(link: Link): void {
    if (!link.up || link.mode !== "WO") {
      throw new RangeError(`replica ${link.name} cannot be promoted: ${link.reason}`);
    }
    link.mode = "RW";
    this.#regroup();
  }

  /** A link went down. @returns true when it took part in the volume */
  drop(link: Link, reason: string): boolean {
    const tookPart = this.#admitted.includes(link);
    link.mode = "ERR";
    link.reason = reason;
    this.#admitted = this.#admitted.filter((other) => other !== link);
    this.#regroup();
    return tookPart;
  }

  /** Forgets a replica, taking it out first if need be. @throws {RangeError} when there is none */
  remove(name: string): void {
    const link = this.find(name);
    link.close("removed");
    this.#removed |= link.bit;
    this.#forget(link);
  }

  /** A link's memory is free. */
  gone(link: Link): void {
    this.#gone |= link.bit;
    this.#forget(link);
  }

  #forget(link: Link): void {
    if ((this.#removed & this.#gone & link.bit) === 0) return;
    this.#removed &= ~link.bit;
    this.#links[link.index] = undefined;
  }

  /** True when all complete copies are on this machine. */
  get allLocal(): boolean {
    return this.readers.every(({ data }) =>
      data.kind === "unix" || /^(127\.|::1$|localhost$)/.test(data.host)
    );
  }

  #regroup(): void {
    const admitted = this.#admitted.filter((link) => link.up);
    this.writers = admitted.filter((link) => link.mode !== "ERR");
    this.readers = admitted.filter((link) => link.mode === "RW");
    this.readersMask = this.readers.reduce((mask, link) => mask | link.bit, 0);
    const local = this.readers.filter((link) => link.name === this.local);
    this.preferred = local.length > 0 ? local : this.readers;
  }
}
