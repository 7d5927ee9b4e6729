/**
 * The volume thread of the engine: the volume, its frontend, and the calls that the main thread may make. Each
 * call is a function of JSON to JSON; bodies come from our own main thread, so they are trusted in shape.
 *
 * @module
 */
import type { BlockDevice } from "../block/device.ts";
import type { Address, Io } from "../io/io.ts";
import type { Handlers, Reply } from "../io/mailbox_server.ts";
import type { BufferPool } from "../io/pool.ts";
import type { MemberRecord } from "./membership.ts";
import type { ReplicaView } from "./replica_set.ts";
import { handoverHandlers } from "./handover_thread.ts";
import { Joining } from "./joining.ts";
import { ADMIT_RETRY_MS, HOLD_TIMEOUT_MS, RESYNC_RETRY_MS } from "./limits.ts";
import type { RebuildProgress } from "./rebuild.ts";
import { Resync } from "./resync.ts";
import type { Meters } from "./meters.ts";
import { Volume } from "./volume.ts";
import type { VolumeEvents, VolumeOptions } from "./volume_options.ts";

/** A frontend as the engine needs it; the rooms of the frontends implement it. */
export interface ThreadFrontend {
  /** See `Frontend.kind`. */
  readonly kind: string;
  /** Where hosts find the disk. */
  readonly endpoint: string;
  /** Stops serving; `done` is called when nothing of it is left. */
  stop(done: () => void): void;
  /** See `Frontend.suspend`. */
  suspend(graceMs: number, done: (problem: string) => void): void;
  /** See `Frontend.parcel`. */
  parcel(): { readonly state: unknown; readonly descriptors: readonly number[] };
  /** See `Frontend.resume`. */
  resume(): void;
  /** See `Frontend.leave`. */
  leave(): void;
}

/** Makes a frontend. @throws when the kind is unknown or it cannot listen */
export type FrontendMaker = (kind: string, options: unknown, device: BlockDevice) => ThreadFrontend;

/** Body of `dial`. */
export interface DialBody {
  /** Address people know the replica by. */
  readonly name: string;
  /** Where its data server listens. */
  readonly data: Address;
  /** Its own identifier, "" when it has none. */
  readonly id: string;
  /** Bits of `Feature` that it announced. */
  readonly features: number;
}

/** Body of `start`. */
export interface StartBody {
  /** Dialed replicas to admit as RW. */
  readonly names: readonly string[];
  /** Of this engine, to be recorded by all. */
  readonly generation: number;
  /** Copies may differ: read from one only. */
  readonly readFromOne: boolean;
}

/** Answer of `info`. */
export interface ThreadInfo {
  /** Size of the volume. */
  readonly bytes: number;
  /** Requests under way. */
  readonly requests: number;
  /** All copies that were dialed and not removed. */
  readonly replicas: readonly ReplicaView[];
  /** Counters since the start. */
  readonly totals: ReturnType<Meters["totals"]>;
  /** Copies may differ, and reads go to the first. */
  readonly readsFromOne: boolean;
  /** Which copies are complete is recorded as it is; meanwhile some may have what others lack. */
  readonly settled: boolean;
  /** The copy that is being filled, if one is. */
  readonly rebuild: RebuildProgress | null;
}

/**
 * What a frontend tells the main thread: the volume has a new size (`value`: bytes), or the host has ended the
 * frontend without being asked (`value`: 0 or `-errno`).
 */
export interface FrontendEvent {
  /** Tells it from other events. */
  readonly event: "frontend";
  /** What happened. */
  readonly what: "resized" | "ended";
  /** Bytes, or 0 or `-errno`. */
  readonly value: number;
}

/** What the volume thread tells unasked. */
export type ThreadEvent =
  | FrontendEvent
  | { readonly event: "failed"; readonly name: string; readonly reason: string }
  | { readonly event: "equal"; readonly bytes: number; readonly copied: number }
  | { readonly event: "filled"; readonly name: string; readonly failure: string; readonly bytes: number }
  | { readonly event: "members"; readonly record: MemberRecord };

/** See the module text. */
export class EngineThread implements VolumeEvents {
  /** The volume. */
  readonly volume: Volume;
  /** What is up. */
  frontend: ThreadFrontend | undefined;
  readonly #joining: Joining;
  /** When changes were kept from starting, `io.now()`. */
  #heldAt = 0;
  readonly #dialing = new Map<string, Reply>();
  #starting: Reply | undefined;

  /**
   * Makes the volume, without copies and without a frontend.
   *
   * @param pool buffers for the engine's own copies
   * @param makeFrontend makes frontends over this thread's Io
   * @param notify takes events to the main thread
   */
  constructor(
    readonly io: Io,
    readonly pool: BufferPool,
    options: VolumeOptions,
    readonly makeFrontend: FrontendMaker,
    readonly notify: (event: ThreadEvent) => void,
  ) {
    this.volume = new Volume(io, options, this);
    this.#joining = new Joining(
      io,
      pool,
      this.volume,
      (name, failure, bytes) => this.notify({ event: "filled", name, failure, bytes }),
    );
  }

  /** The calls of the main thread. */
  handlers(): Handlers {
    const volume = this.volume;
    return {
      dial: (body, reply) => {
        const { name, data, id, features } = body as DialBody;
        this.#dialing.set(name, reply);
        volume.replicas.dial(name, data, id, features);
      },
      start: (body, reply) => this.#start(body as StartBody, reply),
      fail: (body, reply) => {
        const { name, reason } = body as { name: string; reason: string };
        volume.replicas.find(name).close(reason);
        // Whoever asks relies on it: a copy that is out must not be believed later.
        if (volume.replicas.readers.length === 0) reply.ok(false);
        else this.#whenRecorded(reply);
      },
      remove: (body, reply) => {
        volume.replicas.remove((body as { name: string }).name);
        this.#whenRecorded(reply);
      },
      ...this.#joining.handlers(),
      ...handoverHandlers(this),
      hold: (_body, reply) => this.#hold(reply),
      release: (body, reply) => {
        if ((body as { forget?: boolean }).forget) volume.journals.clear();
        volume.release();
        reply.ok(this.io.now() - this.#heldAt);
      },
      resize: (body, reply) => {
        volume.resize((body as { bytes: number }).bytes);
        reply.ok();
      },
      sleep: (body, reply) => {
        this.io.timer((body as { ms: number }).ms, { complete: () => reply.ok() }, 0);
      },
      promote: (body, reply) => {
        volume.promote(volume.replicas.find((body as { name: string }).name));
        reply.ok();
      },
      info: (_body, reply) => reply.ok(this.info()),
      frontend: (body, reply) => {
        const { kind, options } = body as { kind: string; options: unknown };
        if (this.frontend) throw new RangeError("a frontend is up already");
        this.frontend = this.makeFrontend(kind, options, volume);
        reply.ok(this.frontend.endpoint);
      },
      stopFrontend: (_body, reply) => {
        const { frontend } = this;
        this.frontend = undefined;
        if (frontend) frontend.stop(() => reply.ok());
        else reply.ok();
      },
      retire: (_body, reply) => {
        volume.retire();
        reply.ok();
      },
      close: (_body, reply) => {
        volume.close();
        reply.ok();
      },
    };
  }

  #start({ names, generation, readFromOne }: StartBody, reply: Reply): void {
    for (const name of names) this.volume.admit(name, "RW");
    this.volume.turns.single = readFromOne;
    this.#starting = reply;
    this.volume.start(generation);
  }

  /** Answers when the members are recorded as they are: who was removed may then be erased. */
  #whenRecorded(reply: Reply): void {
    if (this.volume.replicas.readers.length === 0) {
      return reply.error(new Error("no complete replica is left"));
    }
    if (this.volume.settled) return reply.ok();
    this.io.timer(ADMIT_RETRY_MS, { complete: () => this.#whenRecorded(reply) }, 0);
  }

  /** Syncs what was written so far, then keeps changes from starting. Answers when none is under way. */
  #hold(reply: Reply): void {
    const { volume } = this;
    let over = false;
    const timer = this.io.timer(HOLD_TIMEOUT_MS, {
      complete: () => {
        if (over) return;
        over = true;
        volume.release();
        reply.error(new Error("the requests under way did not end in time; nothing was changed"));
      },
    }, 0);
    const still = () => {
      if (over) return;
      over = true;
      this.io.cancel(timer);
      reply.ok();
    };
    // Hosts wait only for what is written between the flush and the hold.
    volume.flush({
      complete: () => {
        if (over) return;
        this.#heldAt = this.io.now();
        volume.hold(still);
      },
    });
  }

  /** Makes the copies equal, beside everything else. */
  #resync(): void {
    const resync = new Resync(
      this.io,
      this.pool,
      this.volume,
      ({ bytes, copied }) => this.notify({ event: "equal", bytes, copied }),
    );
    resync.start();
  }

  /** What `info` answers. */
  info(): ThreadInfo {
    const { volume } = this;
    return {
      bytes: volume.bytes,
      requests: volume.used,
      replicas: volume.replicas.views(),
      totals: volume.meters.totals(),
      readsFromOne: volume.turns.single,
      settled: volume.settled,
      rebuild: this.#joining.progress,
    };
  }

  /** See {@linkcode VolumeEvents}. A volume that starts makes its copies equal when their members are recorded. */
  onDiffer(): void {
    // One that stands still for a live upgrade does it when it goes on.
    this.io.timer(RESYNC_RETRY_MS, { complete: () => this.volume.working && this.#resync() }, 0);
  }

  /** See {@linkcode VolumeEvents}. */
  onConnected(name: string): void {
    this.#dialing.get(name)?.ok();
    this.#dialing.delete(name);
  }

  /** See {@linkcode VolumeEvents}. */
  onFailed(name: string, reason: string): void {
    const dialing = this.#dialing.get(name);
    this.#dialing.delete(name);
    if (dialing) dialing.error(new Error(reason));
    else this.notify({ event: "failed", name, reason });
  }

  /** See {@linkcode VolumeEvents}. */
  onRecorded(record: MemberRecord): void {
    const starting = this.#starting;
    this.#starting = undefined;
    if (starting) {
      if (this.volume.replicas.readers.length > 0) {
        starting.ok(record);
        if (this.volume.turns.single) this.#resync();
      } else starting.error(new Error("no available backend due to replica error"));
    }
    this.notify({ event: "members", record });
  }
}
