/**
 * The replica's side of the data protocol: frames in, operations on the replica directory out.
 *
 * It also keeps superseded engines away. An engine that records its generation here ({@linkcode
 * FrameType.ADOPT}) excludes every connection of a lower generation from then on: their reads could be stale
 * and their writes would be lost. An engine of Longhorn never adopts; it is served as long as nobody else has
 * adopted since the directory was opened.
 *
 * @module
 */
import { Errno, errnoText } from "../io/errno.ts";
import { type Completer, type Io, NO_TIMER } from "../io/io.ts";
import { Later } from "../io/later.ts";
import type { FrameHandler, FrameServerOptions } from "../wire/server.ts";
import { DIGEST_PIECE_BYTES, isDigestRange, MAX_DIGEST_BYTES } from "../wire/digest.ts";
import { FrameType, frameTypeName, SUPERSEDED_TEXT } from "../wire/frame.ts";
import { REGION_MAP_BYTES } from "../wire/regions.ts";
import { type AdoptedRecord, parseRecord } from "./adopted_record.ts";
import { Digests, type DigestSource } from "./digests.ts";
import type { DirtyRegions } from "./dirty_regions.ts";
import { HeldRequests } from "./held_requests.ts";

/** What the data service needs from an open replica directory. Completions as everywhere. */
export interface ReplicaStore extends DigestSource {
  /** Size of the volume, bytes. */
  readonly bytes: number;
  /** Why it cannot serve any more (a failed sync, an unreadable directory), or "". */
  readonly fault: string;
  /** The record found at opening or adopted since, or undefined. */
  readonly record: AdoptedRecord | undefined;
  /** Result: `length` or `-errno`. */
  read(offset: number, length: number, at: number, who: Completer, tag: number): void;
  /** Result: `length` or `-errno`; `durable`: on stable storage before it completes. */
  write(offset: number, length: number, at: number, durable: boolean, who: Completer, tag: number): void;
  /** Result: bytes freed or `-errno`. */
  unmap(offset: number, length: number, who: Completer, tag: number): void;
  /** Result: 0 or `-errno`. */
  flush(who: Completer, tag: number): void;
  /** Dirty regions; undefined when they are not recorded. */
  readonly regions: DirtyRegions | undefined;
  /** Makes the record durable before it returns; undefined removes it. @throws {IoError} */
  adopt(record: AdoptedRecord | undefined): void;
}

/**
 * An engine that was not heard for this long is taken for dead, milliseconds: twice the longest time-out it may
 * be started with, so that it has given this replica up before.
 */
const SILENCE_MS = 60_000;
/** How often that is looked at, milliseconds. */
const SILENCE_CHECK_MS = 10_000;

/**
 * How long a directory stays open when its engine is gone but somebody else is connected, milliseconds: in a live
 * upgrade that one is about to adopt, or to take back what it had given.
 */
const SUCCESSION_MS = 5_000;

/** Most connections and requests of one replica. */
const MAX_CONNECTIONS = 64, MAX_REQUESTS = 512;

/** See {@linkcode FrameServerOptions.silentMs}: an engine says who it is, or pings, long before. */
const SILENT_MS = 10_000;

/** Longest record that is kept, bytes: far above what the identifiers of all members take. */
const MAX_RECORD_BYTES = 16 * 1024;

/** Generation of a connection whose engine's adoption ended with a close of the directory. */
const REVOKED = -1;

/** See the module text. */
export class DataService implements FrameHandler {
  #store: ReplicaStore | undefined;
  #state = "closed";
  /** Highest generation adopted since the directory was opened; 0 = none. */
  #generation = 0;
  #several = false;
  readonly #held: HeldRequests;
  readonly #digests: Digests;
  readonly #peerGeneration = new Float64Array(MAX_CONNECTIONS);
  readonly #connected = new Uint8Array(MAX_CONNECTIONS);
  #succession: number = NO_TIMER;
  #problem = "";
  /**
   * When the adopted engine was heard last, ms of `io.now()`; checked while one is adopted. One element: a fraction in
   * a field would be an object of its own at every request.
   */
  readonly #heard = new Float64Array(1);
  #timer: number = NO_TIMER;
  readonly #later: Later;
  readonly #whoLater: (Completer | undefined)[] = [];

  /**
   * Serves nothing before `use`.
   *
   * @param io the volume thread's world
   * @param onAbandoned called from the loop when the last connection of an engine that had adopted this
   *   replica has ended, though the directory is still open
   */
  constructor(readonly io: Io, readonly onAbandoned: () => void = () => {}) {
    this.#held = new HeldRequests(MAX_REQUESTS);
    this.#digests = new Digests(io, MAX_REQUESTS, (result, who, tag) => this.#answer(result, who, tag));
    this.#later = new Later(io, MAX_REQUESTS, {
      complete: (tag, result) => {
        const who = this.#whoLater[tag];
        this.#whoLater[tag] = undefined;
        who?.complete(tag, result);
      },
    });
  }

  /** True when an engine has recorded its members here since the directory was opened. */
  get adopted(): boolean {
    return this.#generation > 0;
  }

  /** Bounds that go with this handler. */
  static readonly options: FrameServerOptions = {
    maxConnections: MAX_CONNECTIONS,
    depth: MAX_REQUESTS,
    silentMs: SILENT_MS,
  };

  /** Generation of the engine that is served; 0 = none has adopted since the directory was opened. */
  get generation(): number {
    return this.#generation;
  }

  /** True while anybody has a data connection. */
  get connected(): boolean {
    return this.#connected.includes(1);
  }

  /**
   * Serves an open directory from now on, or none.
   * @param state for answers to pings
   * @param engine an engine has opened it, which is connected already: if it is not, it has died
   */
  use(store: ReplicaStore | undefined, state: string, engine = false): void {
    this.io.cancel(this.#timer);
    this.#timer = NO_TIMER;
    this.#succeeded();
    this.#store = store;
    this.#digests.use(store);
    this.#state = state;
    this.#generation = 0;
    // A connection that had adopted belongs to an engine that did not see this: it must not pass for one that
    // never adopts.
    for (let i = 0; i < MAX_CONNECTIONS; i++) {
      if (this.#peerGeneration[i] > 0) this.#peerGeneration[i] = REVOKED;
    }
    if (engine && !this.connected) this.#succession = this.io.timer(SUCCESSION_MS, this.#abandon, 0);
  }

  /** Puts new requests aside until {@linkcode release}; those under way end. */
  hold(): void {
    this.#held.active = true;
    this.#digests.paused = true;
  }

  /** Serves what was put aside, in order of arrival, and everything from now on. */
  release(): void {
    this.#held.release((type, offset, size, at, peer, who, tag) =>
      this.start(type, offset, size, at, peer, who, tag)
    );
    this.#digests.paused = false;
  }

  /** See {@linkcode FrameHandler}. */
  serves(type: number): boolean {
    switch (type) {
      case FrameType.READ:
      case FrameType.WRITE:
      case FrameType.UNMAP:
      case FrameType.PING:
      case FrameType.FLUSH:
      case FrameType.WRITE_DURABLE:
      case FrameType.ADOPT:
      case FrameType.REGIONS:
      case FrameType.CLEAN:
      case FrameType.DIGEST:
        return true;
      default:
        return false;
    }
  }

  /** See {@linkcode FrameHandler}. */
  start(
    type: number,
    offset: number,
    size: number,
    at: number,
    peer: number,
    who: Completer,
    tag: number,
  ): void {
    const store = this.#store;
    this.#heard[0] = this.io.now();
    // A ping is answered all the same: the engine must not take a short stop for a death.
    if (this.#held.active && type !== FrameType.PING) {
      return this.#held.push(type, offset, size, at, peer, who, tag);
    }
    if (store === undefined || store.fault !== "") return this.#answer(-Errno.ENODEV, who, tag);
    if (type === FrameType.PING) return this.#answer(0, who, tag);
    if (type === FrameType.ADOPT) return this.#adopt(store, size, at, peer, who, tag);
    if (this.#peerGeneration[peer] < this.#generation) return this.#answer(-Errno.EPERM, who, tag);
    if (!(offset >= 0 && offset + size <= store.bytes)) return this.#answer(-Errno.EINVAL, who, tag);
    if (type === FrameType.READ) return store.read(offset, size, at, who, tag);
    if (type === FrameType.FLUSH) return store.flush(who, tag);
    if (type === FrameType.DIGEST) {
      if (!isDigestRange(offset, size)) return this.#answer(-Errno.EINVAL, who, tag);
      return this.#digests.start(offset, size, at, who, tag);
    }
    const { regions } = store;
    if (type === FrameType.REGIONS) return this.#tellRegions(regions, size, at, who, tag);
    if (type === FrameType.CLEAN) {
      if (!regions) return this.#answer(0, who, tag);
      return regions.clean(offset, size, (result) => who.complete(tag, result));
    }
    // A record of members that this engine does not keep would be wrong after its first change.
    if (this.#generation === 0 && store.record !== undefined && !this.#forget(store)) {
      return this.#answer(-Errno.EIO, who, tag);
    }
    // With a single member there is no other copy to differ from.
    if (regions && this.#generation > 0 && this.#several && !regions.covers(offset, size)) {
      return this.#mark(regions, type, offset, size, at, peer, who, tag);
    }
    this.#change(store, type, offset, size, at, who, tag);
  }

  #change(
    store: ReplicaStore,
    type: number,
    offset: number,
    size: number,
    at: number,
    who: Completer,
    tag: number,
  ): void {
    if (type === FrameType.UNMAP) return store.unmap(offset, size, who, tag);
    return store.write(offset, size, at, type === FrameType.WRITE_DURABLE, who, tag);
  }

  /** The first change of a region since it was clean: recorded first. */
  #mark(
    regions: DirtyRegions,
    type: number,
    offset: number,
    size: number,
    at: number,
    peer: number,
    who: Completer,
    tag: number,
  ): void {
    regions.mark(offset, size, (result) => {
      const store = this.#store;
      if (result < 0 || !store || store.regions !== regions) {
        return who.complete(tag, result < 0 ? result : -Errno.ENODEV);
      }
      // A newer engine may have come meanwhile.
      if (this.#peerGeneration[peer] < this.#generation) return who.complete(tag, -Errno.EPERM);
      this.#change(store, type, offset, size, at, who, tag);
    });
  }

  #tellRegions(
    regions: DirtyRegions | undefined,
    size: number,
    at: number,
    who: Completer,
    tag: number,
  ): void {
    if (!regions || size !== REGION_MAP_BYTES) return this.#answer(-Errno.EINVAL, who, tag);
    regions.copyTo(this.io.arena.u8.subarray(at, at + size));
    this.#answer(0, who, tag);
  }

  /** An engine pings every two seconds: one that was silent for long is gone, though nobody said so. */
  readonly #watch: Completer = {
    complete: () => {
      this.#timer = NO_TIMER;
      if (this.#store === undefined || this.#generation === 0) return;
      if (this.io.now() - this.#heard[0] > SILENCE_MS) return this.onAbandoned();
      this.#timer = this.io.timer(SILENCE_CHECK_MS, this.#watch, 0);
    },
  };

  #answer(result: number, who: Completer, tag: number): void {
    this.#whoLater[tag] = who;
    this.#later.push(tag, result);
  }

  #forget(store: ReplicaStore): boolean {
    try {
      store.adopt(undefined);
      return true;
    } catch (error) {
      this.#problem = error instanceof Error ? error.message : String(error);
      return false;
    }
  }

  #adopt(store: ReplicaStore, length: number, at: number, peer: number, who: Completer, tag: number): void {
    const record = length > MAX_RECORD_BYTES
      ? undefined
      : parseRecord(this.io.arena.u8.slice(at, at + length));
    if (record === undefined) return this.#answer(-Errno.EPROTO, who, tag);
    const known = store.record;
    const durable = known?.generation ?? 0;
    if (record.generation < Math.max(this.#generation, durable)) return this.#answer(-Errno.EPERM, who, tag);
    this.#peerGeneration[peer] = record.generation;
    this.#generation = record.generation;
    this.#succeeded();
    this.#several = (record.copies ?? record.members.length) > 1;
    if (this.#timer === NO_TIMER) this.#timer = this.io.timer(SILENCE_CHECK_MS, this.#watch, 0);
    if (!known || durable !== record.generation || known.revision < record.revision) {
      try {
        store.adopt(record);
      } catch (error) {
        this.#problem = error instanceof Error ? error.message : String(error);
        return this.#answer(-Errno.EIO, who, tag);
      }
    }
    this.#answer(0, who, tag);
  }

  /** See {@linkcode FrameHandler}. The texts are matched by engines of both projects. */
  errorText(type: number, offset: number, size: number, result: number): string {
    const store = this.#store;
    if (store === undefined) return `ping failure: replica state ${this.#state}`;
    if (store.fault !== "") return `ping failure due to ${store.fault}`;
    switch (result) {
      case -Errno.EPERM:
        return `${SUPERSEDED_TEXT}: the replica serves generation ${this.#generation} only`;
      case -Errno.EINVAL:
        if (type === FrameType.READ) return "unexpected EOF";
        if (type === FrameType.REGIONS && size !== REGION_MAP_BYTES) {
          return `a map of regions has ${REGION_MAP_BYTES} bytes, ${size} were asked for`;
        }
        if (type === FrameType.REGIONS) return "this replica keeps no map of regions";
        if (type === FrameType.DIGEST && !isDigestRange(offset, size)) {
          return `a digest of ${size} bytes at offset ${offset}: at most ${MAX_DIGEST_BYTES}, from a multiple of ${DIGEST_PIECE_BYTES} on`;
        }
        return `${
          frameTypeName(type)
        } of ${size} bytes at offset ${offset} is beyond the size ${store.bytes}`;
      case -Errno.EPROTO:
        return "the record of members cannot be read";
      default: {
        const problem = this.#problem && type === FrameType.ADOPT ? `: ${this.#problem}` : "";
        return `${frameTypeName(type)} of ${size} bytes at offset ${offset}: ${errnoText(result)}${problem}`;
      }
    }
  }

  /** See {@linkcode FrameHandler}. */
  onGone(peer: number): void {
    const adopted = this.#generation > 0 && this.#peerGeneration[peer] === this.#generation;
    this.#peerGeneration[peer] = 0;
    this.#connected[peer] = 0;
    const pending = this.#succession !== NO_TIMER;
    // Also one that never adopted, or died before: nothing else would ever close what it opened.
    if (!this.#store || (!adopted && !pending && this.#generation > 0) || this.#served) return;
    if (this.#generation > 0 && !this.connected) return this.#succeeded(), this.onAbandoned();
    if (!pending) this.#succession = this.io.timer(SUCCESSION_MS, this.#abandon, 0);
  }

  /** True while the engine that the directory is open for may be there. */
  get #served(): boolean {
    return this.#generation === 0 ? this.connected : this.#peerGeneration.includes(this.#generation);
  }

  /** Nobody came in the place of the engine that is gone. */
  readonly #abandon: Completer = {
    complete: () => {
      this.#succession = NO_TIMER;
      if (this.#store && !this.#served) this.onAbandoned();
    },
  };

  #succeeded(): void {
    this.io.cancel(this.#succession);
    this.#succession = NO_TIMER;
  }

  /** See {@linkcode FrameHandler}: an engine that was stopped for a moment is the engine still. */
  trusts(peer: number): boolean {
    return this.#generation > 0 && this.#peerGeneration[peer] === this.#generation;
  }

  /** See {@linkcode FrameHandler}. */
  onCome(peer: number): void {
    this.#connected[peer] = 1;
  }
}
