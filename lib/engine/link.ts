/**
 * The engine's link to one replica: two data connections, its mode, its pings.
 *
 * Requests up to 64 KiB use the first connection, larger ones the second: a small write never waits behind a
 * megabyte. If either connection breaks, the link is down for good; coming back means a new link.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Errno, errnoText } from "../io/errno.ts";
import { type Address, type Completer, formatAddress, type Io, NO_TIMER } from "../io/io.ts";
import { StreamMemory, type StreamSizes } from "../io/stream_memory.ts";
import type { BlockSet } from "./block_set.ts";
import { DROP, FrameClient, type FrameClientOwner } from "../wire/client.ts";
import { FrameType, MAX_ERROR_BYTES } from "../wire/frame.ts";
import {
  ADOPT_BYTES,
  ADOPT_SLOT,
  DIAL_TIMEOUT_MS,
  LARGE_BYTES,
  LINK_CONNECTIONS,
  PING_INTERVAL_MS,
  PING_SLOT,
} from "./limits.ts";

/** What a replica is used for (data-plane rules of Longhorn: WO takes writes only, ERR is final). */
export type Mode = "WO" | "RW" | "ERR";

/** Memory that outlives links: two streams and scratch space per replica position. */
export class LinkMemory {
  /** One per connection. */
  readonly streams: StreamMemory[];
  /** Arena offsets of the room for error texts, one per connection. */
  readonly scratch: number[];
  /** Arena offset of the JSON of an ADOPT. */
  readonly adopt: number;
  /** Reserves the memory in the arena. @param sizes of each connection's buffers; for tests with small arenas */
  constructor(io: Io, sizes: StreamSizes = { segments: 4096, headers: 128 * 1024 }) {
    this.streams = [];
    this.scratch = [];
    for (let i = 0; i < LINK_CONNECTIONS; i++) {
      this.streams.push(new StreamMemory(io, { ...sizes, client: true }));
      this.scratch.push(io.arena.reserve(MAX_ERROR_BYTES, 64));
    }
    this.adopt = io.arena.reserve(ADOPT_BYTES, 64);
  }
}

/** Who owns links: the volume. All calls come from the loop. */
export interface LinkOwner {
  /** See {@linkcode FrameClientOwner.destination}. */
  destination(link: Link, sequence: number, length: number): number;
  /** A request was answered; see {@linkcode FrameClientOwner.onReply}. */
  onReply(link: Link, sequence: number, result: number, length: number, text: string): void;
  /** Data that was arriving for a request will not be completed; its buffer is not written to any more. */
  onFillAborted(link: Link, sequence: number): void;
  /** A payload lent to the link for a slot is free again. */
  onSent(link: Link, slot: number): void;
  /** Both connections stand; requests may be sent. */
  onUp(link: Link): void;
  /** The link failed or was closed: no reply will come any more. Buffers may still be lent out until `onGone`. */
  onDown(link: Link, reason: string): void;
  /** Nothing of the link is under way any more; its memory may be used again. */
  onGone(link: Link): void;
}

const DIALED = 0;
const DIAL_TIMEOUT = 8;
/** Token of ADOPT payloads, which lie in the link's own memory. */
const ADOPT_TOKEN = 0x7fff_ffff;

/** A link; see the module text. */
export class Link implements FrameClientOwner, Completer {
  /** What the replica is used for. Set by the volume. */
  mode: Mode = "WO";
  /** Why the mode is ERR. */
  reason = "";
  /** Its lower layers are still to come: only whole blocks may be written to it. Set by the volume. */
  layered = false;
  /** What it missed and is being copied to it, or undefined. */
  catchingUp: BlockSet | undefined;
  /** What was trimmed while it was layered, or undefined. */
  trims: BlockSet | undefined;
  /** Bit of this link in the volume's masks. */
  readonly bit: number;
  /** Requests sent and not answered, without pings. */
  outstanding = 0;
  readonly #clients: (FrameClient | undefined)[] = new Array(LINK_CONNECTIONS).fill(undefined);
  /** Sequence of the reply whose data is arriving on each connection, or -1. */
  readonly #filling = new Float64Array(LINK_CONNECTIONS).fill(-1);
  #dialing = 0;
  #open = 0;
  #timer = NO_TIMER;
  #state: "dialing" | "up" | "down" | "gone" = "dialing";
  #pingSentAt = 0;
  #pinging = false;
  #adopting = 0;
  #joined = false;
  #adoptResult = 0;

  /**
   * Starts to connect; `onUp` or `onDown` follows.
   *
   * @param index position in the volume, 0 to MAX_REPLICAS - 1
   * @param name the address people know the replica by, such as `tcp://10.0.0.7:10000`
   * @param data where its data server listens
   * @param id the replica's own identifier, "" when it has none
   * @param features bits of `Feature` that the replica announced
   */
  constructor(
    readonly io: Io,
    readonly index: number,
    readonly name: string,
    readonly data: Address,
    readonly id: string,
    readonly features: number,
    readonly memory: LinkMemory,
    readonly owner: LinkOwner,
  ) {
    this.bit = 1 << index;
    for (let i = 0; i < LINK_CONNECTIONS; i++) {
      this.#dialing++;
      io.connect(data, this, DIALED + i);
    }
    this.#timer = io.timer(DIAL_TIMEOUT_MS, this, DIAL_TIMEOUT);
  }

  /** True while requests may be sent. */
  get up(): boolean {
    return this.#state === "up";
  }

  /** Sends a request of a slot. A payload is lent until `onSent(link, slot)`. */
  send(
    slot: number,
    sequence: number,
    type: number,
    offset: number,
    size: number,
    at: number,
    length: number,
  ): void {
    this.outstanding++;
    const client = this.#clients[Math.max(size, length) >= LARGE_BYTES ? 1 : 0];
    // Not `assert()`, here and in other hot places: that makes an array of its arguments on every call.
    if (client === undefined) assert.fail("request on a link that is down");
    client.request(sequence, type, offset, size, at, length, slot);
  }

  /**
   * Sends ADOPT: the first time on all connections (the replica accepts changes only on connections of the
   * generation it adopted), later on the first. One at a time; its end comes as a reply of ADOPT_SLOT.
   */
  adopt(json: Uint8Array): void {
    assert(this.#adopting === 0 && json.length <= ADOPT_BYTES, "adopt under way or too long");
    this.io.arena.u8.set(json, this.memory.adopt);
    this.#adoptResult = 0;
    for (const client of this.#joined ? this.#clients.slice(0, 1) : this.#clients) {
      this.#adopting++;
      client?.request(ADOPT_SLOT, FrameType.ADOPT, 0, 0, this.memory.adopt, json.length, ADOPT_TOKEN);
    }
    this.#joined = true;
  }

  /** A new generation begins: the next ADOPT goes to all connections again. */
  rejoin(): void {
    this.#joined = false;
  }

  /** True while an ADOPT is not answered. */
  get adopting(): boolean {
    return this.#adopting > 0;
  }

  /** Milliseconds since a ping was sent that has no answer yet; 0 when there is none. */
  pingAge(now: number): number {
    return this.#state === "up" && this.#pinging ? now - this.#pingSentAt : 0;
  }

  /** Pings when it is time. How long to wait for an answer is not for one link to decide: see patience.ts. */
  tick(): void {
    if (this.#state !== "up") return;
    const now = this.io.now();
    if (!this.#pinging && now - this.#pingSentAt >= PING_INTERVAL_MS - 10) {
      this.#pinging = true;
      this.#pingSentAt = now;
      this.#clients[0]?.request(PING_SLOT, FrameType.PING, 0, 0, 0, 0, 0);
    }
  }

  /** Gives the link up. `onDown` is called at once if it was not down, `onGone` later from the loop. */
  close(reason: string): void {
    if (this.#state === "down" || this.#state === "gone") return;
    this.#state = "down";
    this.io.cancel(this.#timer);
    this.outstanding = 0;
    this.#adopting = 0;
    for (const client of this.#clients) client?.stream.close();
    this.owner.onDown(this, reason);
    this.#settle();
  }

  #settle(): void {
    if (this.#state !== "down" || this.#dialing > 0 || this.#open > 0) return;
    this.#state = "gone";
    this.owner.onGone(this);
  }

  /** Ends of dialing and its timeout. */
  complete(tag: number, result: number): void {
    if (tag === DIAL_TIMEOUT) {
      if (this.#state === "dialing") this.close(`cannot connect to ${formatAddress(this.data)}: timed out`);
      return;
    }
    this.#dialing--;
    if (this.#state === "down") {
      if (result >= 0) this.io.close(result);
      return this.#settle();
    }
    if (result < 0) return this.close(`cannot connect to ${formatAddress(this.data)}: ${errnoText(result)}`);
    const i = tag - DIALED;
    this.#open++;
    this.#clients[i] = new FrameClient(this.io, result, this.memory.streams[i], this.memory.scratch[i], this);
    if (this.#dialing > 0) return;
    this.#state = "up";
    this.io.cancel(this.#timer);
    this.#pingSentAt = this.io.now();
    this.owner.onUp(this);
  }

  /** See {@linkcode FrameClientOwner}. */
  destination(client: FrameClient, sequence: number, length: number): number {
    if (this.#state !== "up") return DROP;
    const to = this.owner.destination(this, sequence, length);
    if (to >= 0) this.#filling[client === this.#clients[0] ? 0 : 1] = sequence;
    return to;
  }

  /** See {@linkcode FrameClientOwner}. */
  onReply(client: FrameClient, sequence: number, result: number, length: number, text: string): void {
    const i = client === this.#clients[0] ? 0 : 1;
    if (this.#state !== "up") return;
    if (length > 0) this.#filling[i] = -1;
    if (sequence === PING_SLOT) {
      this.#pinging = false;
      if (result < 0) this.close(`ping failed: ${text}`);
      return;
    }
    if (sequence === ADOPT_SLOT) {
      if (this.#adopting === 0) return;
      if (result < 0) this.#adoptResult = result;
      if (--this.#adopting === 0) this.owner.onReply(this, sequence, this.#adoptResult, 0, text);
      return;
    }
    this.owner.onReply(this, sequence, result, length, text);
  }

  /** See {@linkcode FrameClientOwner}. */
  onSent(_client: FrameClient, token: number): void {
    if (token !== ADOPT_TOKEN) this.owner.onSent(this, token);
  }

  /** See {@linkcode FrameClientOwner}. */
  onClosed(client: FrameClient, result: number): void {
    this.#open--;
    const i = this.#clients.indexOf(client);
    if (i >= 0) this.#clients[i] = undefined;
    if (this.#filling[i] >= 0) {
      this.owner.onFillAborted(this, this.#filling[i]);
      this.#filling[i] = -1;
    }
    if (result === -Errno.EPROTO) this.close("broke the data protocol");
    else {this.close(
        result < 0 ? `data connection failed: ${errnoText(result)}` : "data connection closed by the replica",
      );}
    this.#settle();
  }
}
