/**
 * A live upgrade from the side of the engine that runs: listens for the one that is to take its place, comes to rest,
 * hands everything over, and takes it back when the other one fails. The steps: `handover_messages.ts`.
 *
 * What each step may be interrupted at, and what then holds:
 *
 * | the taker ends | the giver |
 * |---|---|
 * | before `want` | has not noticed anything |
 * | before it recorded its generation | records the next but one, and goes on |
 * | after that, before `taken` | the same: its generation is above the taker's, who can neither write nor adopt any more |
 * | after `taken` | is not concerned: the volume had an engine that died |
 *
 * What an engine holds in memory, and what becomes of it:
 *
 * | what | at an upgrade |
 * |---|---|
 * | requests, clients, what was received of them | the frontend comes to rest; its parcel has the rest (`Parcel`) |
 * | who the members are | in the parcel; recorded anew with the next generation |
 * | what copies missed that are away (`Journals`) | handed over up to a bound; beyond it the taker is told that it is lost, and such a copy is rebuilt |
 * | dirty regions and their clock | the map is handed over; a region is cleaned in the taker's time |
 * | copies may differ, reads go to one | handed over, with the order of the copies, so that hosts go on reading the same one; making them equal begins anew from the regions that the copies recorded. Refused with other replica processes: closing would say that they are equal |
 * | a copy that is being filled or rebuilt, what was trimmed behind it | refused: what it got so far is known here only |
 * | a snapshot, a revert, an addition or removal of a copy | its end is waited for: all have one order (`CopyTable.exclusively`) |
 * | an expansion | refused while it runs; how the last one ended is handed over |
 * | limits for snapshots, the mark of unmaps, sources of a rebuild | handed over; the taker's own command line goes before |
 * | time-outs, the local replica, what frontends are made of | the taker's command line |
 * | why copies are out | not handed over: the taker knows only the copies it was started with |
 * | counters for metrics | begin at zero |
 *
 * Where the taker has other replica processes on the same directories, the giver closes its own before step 3, and
 * closes the taker's before it opens its own again.
 *
 * @module
 */
import { acceptPassing, closeAll, peerCredentials, readable } from "../io/passing.ts";
import { libc } from "../io/libc.ts";
import type { Logger } from "../log/log.ts";
import { type Backend, plainReason } from "./backend.ts";
import type { Controller } from "./controller.ts";
import type { VolumeCalls } from "./copy_table.ts";
import { HANDOVER_FORMAT, HandoverChannel, type ParcelMessage, type Want } from "./handover_messages.ts";
import { settingsOf } from "./handover_settings.ts";
import type { Packed } from "./handover_thread.ts";
import { THREAD_TIMEOUT_MS } from "./limits.ts";
import type { StartBody } from "./thread.ts";

/** How long clients get to send what they have begun and to take their answers, milliseconds. */
export const REST_MS = 3_000;
/** How long a taker may take to get ready before it says what it wants, milliseconds. */
const WANT_MS = 60_000;
/** How long a taker may take from the parcel to `ready`, milliseconds. Clients wait meanwhile. */
export const READY_MS = 15_000;
/** Pause after a failure, milliseconds: one that repeats itself must not fill the log. */
const PAUSE_MS = 500;
/** How often own replicas are opened again, and the pause in between, milliseconds. */
const REOPEN_TRIES = 40, REOPEN_PAUSE_MS = 250;

/** How a giver is set up. */
export interface GiverOptions {
  /** Name of the volume. */
  readonly volume: string;
  /** Where it listens: a descriptor. It is the giver's from here on. */
  readonly listener: number;
  /** For the log. */
  readonly log: Logger;
  /** See {@linkcode READY_MS}. */
  readonly readyMs?: number;
}

/** See the module text. */
export class HandoverGiver {
  /** Resolves when the volume has been handed over. */
  readonly given: Promise<void>;
  #resolveGiven: () => void = () => {};
  #stopping = false;
  #handedOver = false;
  /** Gets ready, and has not said yet what it wants: may be sent away. */
  #greeted: HandoverChannel | undefined;
  /** Waits for the next one; else it is busy with one, who may have the listener as well. */
  #waiting = false;
  readonly #loop: Promise<void>;

  /** Listens. @param control a volume that runs */
  constructor(readonly control: Controller, readonly thread: VolumeCalls, readonly options: GiverOptions) {
    this.given = new Promise((resolve) => this.#resolveGiven = resolve);
    this.#loop = this.#listen();
  }

  /** True when this process has no volume any more. */
  get handedOver(): boolean {
    return this.#handedOver;
  }

  /** Listens no longer; a handover under way ends first. */
  async stop(): Promise<void> {
    this.#stopping = true;
    if (this.#greeted !== undefined) libc.shutdown(this.#greeted.fd, 2);
    if (this.#waiting) libc.shutdown(this.options.listener, 2);
    await this.#loop;
  }

  async #listen(): Promise<void> {
    const { listener, log } = this.options;
    while (!this.#stopping && !this.#handedOver) {
      this.#waiting = true;
      await readable(listener, -1);
      this.#waiting = false;
      if (this.#stopping) break;
      try {
        const fd = acceptPassing(listener);
        if (fd !== undefined) await this.#serve(new HandoverChannel(fd));
      } catch (error) {
        log.error("a live upgrade failed", { reason: plainReason(error) });
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    }
    closeAll([listener]);
  }

  async #serve(channel: HandoverChannel): Promise<void> {
    const { volume, log } = this.options;
    try {
      const { pid, uid } = peerCredentials(channel.fd);
      if (uid !== Deno.uid()) {
        return log.warn("a live upgrade was refused", { reason: "another user", uid, pid });
      }
      log.info("another engine is to take over", { pid });
      channel.say({ type: "hello", format: HANDOVER_FORMAT, volume, bytes: this.control.bytes });
      this.#greeted = channel;
      const asked = await channel.next(WANT_MS);
      this.#greeted = undefined;
      if (asked === "end" || asked === "late" || asked.message.type !== "want") {
        if (asked !== "end" && asked !== "late") closeAll(asked.descriptors);
        return log.warn("another engine did not take over", { reason: "it does not say what it wants" });
      }
      const want = asked.message;
      await this.control.copies.exclusively(() => this.#hand(channel, want));
    } finally {
      this.#greeted = undefined;
      channel.close();
    }
  }

  /** Why the volume cannot be handed over now; "" when it can. */
  async #obstacle(want: Want): Promise<string> {
    const { control } = this, own = control.replicas();
    if (want.format !== HANDOVER_FORMAT) return `format ${want.format} is not known here`;
    if (!Array.isArray(want.replicas) || !Array.isArray(want.ids)) return "the replicas are not named";
    if (!control.started || this.#stopping) return "the volume is not running";
    if (control.frontend.up && want.frontend !== control.frontend.kind) {
      return `the frontend is "${control.frontend.kind}", not "${want.frontend}"`;
    }
    if (control.changes.expansion.running) return "an expansion is under way; try again when it has ended";
    const info = await control.info();
    if (info.rebuild !== null || own.some(({ mode }) => mode === "WO")) {
      return "a copy is being filled; try again when it is complete";
    }
    const known = want.replicas.filter((name) => own.some((replica) => replica.name === name)).length;
    if (known > 0 && known < want.replicas.length) {
      return "some replicas are those of the running engine and some are not";
    }
    if (known > 0) return "";
    // A close would say that the copies are equal.
    if (info.readsFromOne) return "copies are being made equal; try again when they are";
    // Another volume can have the same name.
    const ids = await Promise.all(this.#complete().map((backend) => backend.get().then(({ id }) => id)));
    return ids.every((id) => id === "") || want.ids.some((id) => id !== "" && ids.includes(id))
      ? ""
      : "the replicas are not copies of this volume";
  }

  async #hand(channel: HandoverChannel, want: Want): Promise<void> {
    const { log } = this.options, { control } = this;
    const obstacle = await this.#obstacle(want);
    if (obstacle !== "") {
      log.warn("a live upgrade was refused", { reason: obstacle });
      return void channel.tell({ type: "no", reason: obstacle });
    }
    const hand = control.hand(), began = performance.now();
    let packed: Packed;
    try {
      packed = await this.thread.call("suspend", { graceMs: REST_MS }, THREAD_TIMEOUT_MS) as Packed;
    } catch (error) {
      log.warn("a live upgrade was refused", { reason: plainReason(error) });
      return void channel.tell({ type: "no", reason: plainReason(error) });
    }
    hand.leaving(true);
    const theirs = want.replicas.filter((name) => !hand.replicas.has(name));
    const problem = await this.#offer(channel, packed, theirs.length > 0).catch(plainReason);
    closeAll([packed.memory]);
    if (problem !== "") {
      channel.tell({ type: "no", reason: problem });
      await this.#takeBack(packed, theirs);
      log.warn("a live upgrade failed; this engine goes on", {
        reason: problem,
        stopped_ms: Math.round(performance.now() - began),
      });
      return;
    }
    log.info("the volume was handed over", { stopped_ms: Math.round(performance.now() - began) });
    await this.#letGo();
  }

  /** Steps 3 to 6. @returns why it came to nothing, or "" */
  async #offer(channel: HandoverChannel, packed: Packed, reopen: boolean): Promise<string> {
    const { control } = this, { kind, endpoint, up } = control.frontend;
    if (reopen) await Promise.all(this.#complete().map((backend) => backend.close(packed.readsFromOne)));
    const parcel: ParcelMessage = {
      type: "parcel",
      mode: reopen ? "reopen" : "adopt",
      bytes: control.bytes,
      ...packed.record,
      complete: packed.complete,
      readsFromOne: packed.readsFromOne,
      settings: settingsOf(control),
      frontend: up
        ? { kind, endpoint, host: control.options.frontendHost?.give(kind) ?? null }
        : { kind: "", endpoint: "", host: null },
    };
    channel.say(parcel, [packed.memory, this.options.listener, ...packed.descriptors]);
    const ready = await channel.next(this.options.readyMs ?? READY_MS);
    if (ready === "late") return "the other engine did not get ready in time";
    if (ready === "end") return "the other engine died";
    if (ready.message.type === "failed") return ready.message.reason;
    if (ready.message.type !== "ready") return `the other engine said "${ready.message.type}"`;
    channel.say({ type: "go" });
    // It may be slow now, but nobody knows what it does: only its end says that it did nothing.
    const taken = await channel.next(-1);
    return taken !== "end" && taken !== "late" && taken.message.type === "taken"
      ? ""
      : "the other engine died";
  }

  /** Control services of the complete copies. */
  #complete(): Backend[] {
    return this.control.copies.in("RW").map(({ backend }) => backend);
  }

  /** Goes on as if nothing had been, with a generation above the one that the other engine may have recorded. */
  async #takeBack(packed: Packed, theirs: readonly string[]): Promise<void> {
    const { control, thread } = this, hand = control.hand();
    if (theirs.length > 0) await this.#reopen(theirs);
    const generation = packed.record.generation + 2;
    const body: StartBody = { names: [], generation, readFromOne: packed.readsFromOne };
    try {
      await thread.call("start", body, THREAD_TIMEOUT_MS);
    } finally {
      hand.regained(generation);
      hand.leaving(false);
      for (const { name, mode, reason } of (await control.info()).replicas) {
        if (mode === "ERR") control.copies.failed(name, reason);
      }
      await thread.call("resume");
    }
  }

  /** Opens the own replicas again; those of the other engine, which lock the directories, are closed first. */
  async #reopen(theirs: readonly string[]): Promise<void> {
    const others = theirs.map((name) => this.control.backend(name));
    for (const backend of others) backend.inherit();
    await Promise.all(
      this.#complete().map(async (own) => {
        for (let left = REOPEN_TRIES;; left--) {
          await Promise.all(others.map((backend) => backend.close().catch(() => {})));
          try {
            // It may be one that could not be closed.
            if ((await own.get()).state === "closed") await own.open(true, this.control.bytes);
            return;
          } catch (error) {
            if (left === 0) return this.control.copies.fail(own.name, plainReason(error));
            await new Promise((resolve) => setTimeout(resolve, REOPEN_PAUSE_MS));
          }
        }
      }),
    );
    for (const backend of others) backend.dispose();
  }

  /** The volume is the other engine's. */
  async #letGo(): Promise<void> {
    this.#handedOver = true;
    this.control.options.frontendHost?.forget();
    await this.thread.call("leave");
    this.control.hand().gone();
    this.#resolveGiven();
  }
}
