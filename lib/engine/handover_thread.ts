/**
 * The volume thread's part of a live upgrade: comes to rest, packs what the other process needs, goes on or lets go;
 * and on the other side unpacks it.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Completer, Io } from "../io/io.ts";
import type { Handlers, Reply } from "../io/mailbox_server.ts";
import { memoryOf, readMemory } from "../io/passing.ts";
import type { Baggage } from "./handover_messages.ts";
import type { MemberRecord } from "./membership.ts";
import type { ThreadFrontend } from "./thread.ts";
import type { Volume } from "./volume.ts";

/** How often is looked whether the last request has ended, milliseconds. */
const LOOK_MS = 1;

/** What the handlers need of the volume thread. */
export interface HandoverHost {
  /** Its world. */
  readonly io: Io;
  /** The volume. */
  readonly volume: Volume;
  /** The frontend that is up. */
  frontend: ThreadFrontend | undefined;
  /** Makes one. */
  makeFrontend(kind: string, options: unknown, device: Volume): ThreadFrontend;
  /** Makes copies equal a little later. */
  onDiffer(): void;
}

/** Answer of `suspend`. */
export interface Packed {
  /** Descriptor of memory with {@linkcode Baggage}; the caller closes it. */
  readonly memory: number;
  /** The frontend's; still the frontend's own. */
  readonly descriptors: readonly number[];
  /** The record of members as it is. */
  readonly record: MemberRecord;
  /** Copies may differ. */
  readonly readsFromOne: boolean;
  /** Names of the complete copies. */
  readonly complete: readonly string[];
}

/** Body of `unpack`. */
export interface UnpackBody {
  /** Kind of the frontend as it is called outside, "" for none. */
  readonly kind: string;
  /** What it would be made of without a handover. */
  readonly options: unknown;
  /** As they came: memory, then the frontend's. */
  readonly memory: number;
  /** The frontend's. */
  readonly descriptors: readonly number[];
}

/** Answer of `unpack`. */
export interface Unpacked {
  /** Identifiers of copies that are away and missed more than could be handed over: they must be rebuilt. */
  readonly lost: readonly string[];
}

/** The calls of the main thread that belong to a live upgrade. */
export function handoverHandlers(host: HandoverHost): Handlers {
  const { io, volume } = host;
  return {
    suspend: (body, reply) => {
      const { graceMs } = body as { graceMs: number };
      const rest = () => new Rest(io, host, graceMs, reply).begin();
      if (!host.frontend) return rest();
      host.frontend.suspend(graceMs, (problem) => {
        if (problem === "") return rest();
        host.frontend?.resume();
        reply.error(new Error(problem));
      });
    },
    unpack: (body, reply) => {
      const { kind, options, memory, descriptors } = body as UnpackBody;
      const baggage = JSON.parse(new TextDecoder().decode(readMemory(memory))) as Baggage;
      volume.regions.adopt(new Uint8Array(Buffer.from(baggage.regions, "base64")));
      const lost = volume.journals.adopt(baggage.journals ?? [], volume.bytes, io.now());
      if (kind !== "") {
        const handed = { state: baggage.frontend, descriptors };
        host.frontend = host.makeFrontend(baggage.served, { ...options as object, handed }, volume);
      }
      reply.ok({ lost } satisfies Unpacked);
    },
    resume: (_body, reply) => {
      host.frontend?.resume();
      reply.ok();
    },
    leave: (_body, reply) => {
      host.frontend?.leave();
      host.frontend = undefined;
      volume.close();
      reply.ok();
    },
  };
}

/** Waits for the end of what the volume does by itself, when no frontend asks any more. */
class Rest implements Completer {
  readonly #until: number;

  constructor(readonly io: Io, readonly host: HandoverHost, graceMs: number, readonly reply: Reply) {
    this.#until = io.now() + graceMs;
  }

  begin(): void {
    // A copy that fails on the way is to be recorded as gone before anything that it missed is answered.
    this.host.volume.rest();
    this.complete();
  }

  complete(): void {
    const { volume } = this.host;
    if (volume.used === 0 && volume.settled) return this.#pack();
    if (this.io.now() < this.#until) return void this.io.timer(LOOK_MS, this, 0);
    this.#back(new Error("requests under way do not end"));
  }

  #pack(): void {
    const { volume, frontend } = this.host;
    volume.retire();
    try {
      const parcel = frontend?.parcel();
      const baggage: Baggage = {
        served: frontend?.kind ?? "",
        frontend: parcel?.state ?? null,
        regions: Buffer.from(volume.regions.map()).toString("base64"),
        journals: volume.journals.pack(this.io.now()),
      };
      const packed: Packed = {
        memory: memoryOf(new TextEncoder().encode(JSON.stringify(baggage))),
        descriptors: parcel?.descriptors ?? [],
        record: volume.record,
        readsFromOne: volume.turns.single,
        complete: volume.replicas.readers.map((link) => link.name),
      };
      this.reply.ok(packed);
    } catch (error) {
      this.#back(error);
    }
  }

  #back(error: unknown): void {
    const { host } = this;
    host.volume.goOn();
    if (host.volume.turns.single) host.onDiffer();
    host.frontend?.resume();
    this.reply.error(error);
  }
}
