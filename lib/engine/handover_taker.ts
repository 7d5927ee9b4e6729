/**
 * A live upgrade from the side of the engine that comes: connects to the running one, gets ready beside it, takes its
 * replicas, clients and devices over, and goes on. The steps: `handover_messages.ts`.
 *
 * When the running engine dies on the way:
 *
 * | before | this engine |
 * |---|---|
 * | it sent the parcel | takes its replicas as a crash left them: they are made equal; clients have to connect again |
 * | it said `go` | goes on with what it was given |
 *
 * @module
 */
import { closeAll, connectForPassing, peerCredentials } from "../io/passing.ts";
import type { Logger } from "../log/log.ts";
import { type Backend, plainReason } from "./backend.ts";
import { type FrontendHost, type Opened, StartError, type Takeover } from "./controller_options.ts";
import type { VolumeCalls } from "./copy_table.ts";
import { elect, type Election, type ElectionRules } from "./election.ts";
import {
  type HandedSettings,
  HANDOVER_FORMAT,
  HandoverChannel,
  type ParcelMessage,
  type Received,
} from "./handover_messages.ts";
import type { UnpackBody, Unpacked } from "./handover_thread.ts";
import { THREAD_TIMEOUT_MS } from "./limits.ts";
import type { DialBody } from "./thread.ts";

/** How long the running engine may take to say hello, milliseconds. */
const HELLO_MS = 10_000;
/** How long it may take to come to rest and to close replicas, milliseconds. */
const PARCEL_MS = 120_000;
/** How often replicas that somebody still holds are opened again, and the pause in between, milliseconds. */
const OPEN_TRIES = 60, OPEN_PAUSE_MS = 250;

/** What a taker needs once its volume thread runs. */
export interface TakerParts {
  /** The volume thread. */
  readonly thread: VolumeCalls;
  /** Rules of the start, for the case that the running engine dies. */
  readonly rules: ElectionRules;
  /** Kind of frontend, and what it would be made of. */
  readonly frontend: string;
  /** See {@linkcode TakerParts.frontend}. */
  readonly frontendOptions: unknown;
  /** The host's share. */
  readonly host: FrontendHost | undefined;
}

/** See the module text. */
export class HandoverTaker implements Takeover {
  #parts: TakerParts | undefined;
  #parcel: ParcelMessage | undefined;
  #memory = -1;
  #listener = -1;
  #descriptors: readonly number[] = [];
  #backends: readonly Backend[] = [];
  #orphaned = false;
  #committed = false;

  private constructor(
    readonly channel: HandoverChannel,
    readonly log: Logger,
    /** Size of the volume as the running engine has it. */
    readonly bytes: number,
  ) {}

  /**
   * Connects to the running engine of a volume.
   *
   * @returns undefined when there is none, or none that hands over: then a start without it is what is left
   * @throws {StartError} when it is another volume's or speaks another format
   */
  static async connect(path: string, volume: string, log: Logger): Promise<HandoverTaker | undefined> {
    const fd = connectForPassing(path);
    if (fd === undefined) return undefined;
    const { uid } = peerCredentials(fd);
    if (uid !== Deno.uid()) {
      closeAll([fd]);
      throw new StartError(`who listens on ${path} is user ${uid}, not this one`, 1);
    }
    const channel = new HandoverChannel(fd), hello = await channel.next(HELLO_MS);
    if (hello === "end" || hello === "late") {
      channel.close();
      if (hello === "end") return undefined;
      throw new StartError("the running engine does not answer; it may be busy with another upgrade", 1);
    }
    const { message } = hello;
    closeAll(hello.descriptors);
    if (message.type === "hello" && message.format === HANDOVER_FORMAT && message.volume === volume) {
      return new HandoverTaker(channel, log, message.bytes);
    }
    channel.close();
    throw new StartError(
      `the engine that listens on ${path} is not one of volume ${volume} that can be relieved`,
      1,
    );
  }

  /** To be told before a start. */
  use(parts: TakerParts): void {
    this.#parts = parts;
  }

  /** The listener for the next upgrade, after a commit; undefined when none was handed over. */
  get listener(): number | undefined {
    return this.#committed && this.#listener >= 0 ? this.#listener : undefined;
  }

  get #with(): TakerParts {
    if (!this.#parts) throw new TypeError("the taker was not told what it works with");
    return this.#parts;
  }

  /** See {@linkcode Takeover.prepare}. */
  async prepare(backend: Backend): Promise<Opened> {
    const info = await backend.get();
    const dial: DialBody = { name: backend.name, data: backend.data, id: info.id, features: info.features };
    await this.#with.thread.call("dial", dial, THREAD_TIMEOUT_MS);
    return { backend, info, unclean: false };
  }

  /** See {@linkcode Takeover.claim}. */
  async claim(prepared: readonly Opened[], unreachable: number): Promise<Election> {
    const { frontend, rules } = this.#with;
    if (prepared.length === 0) throw new StartError("no available backend due to replica error", 61);
    this.#backends = prepared.map(({ backend }) => backend);
    const replicas = prepared.map(({ backend }) => backend.name);
    const ids = prepared.map(({ info }) => info.id);
    const told = this.channel.tell({ type: "want", format: HANDOVER_FORMAT, replicas, ids, frontend });
    const answer = told ? await this.channel.next(PARCEL_MS) : "end";
    if (answer === "late") throw new StartError("the running engine does not come to rest", 1);
    if (answer === "end") return await this.#inherit(prepared, unreachable);
    const parcel = this.#accept(answer);
    if (parcel.bytes !== this.bytes) {
      throw new StartError("the volume changed its size meanwhile; try again", 1);
    }
    // What they told before is old: a snapshot may have been taken between two of the answers.
    const opened = await Promise.all(prepared.map(parcel.mode === "adopt" ? lookedAt : reopened));
    const record = { generation: parcel.generation, revision: parcel.revision, members: parcel.members };
    const candidates = opened
      // Who keeps no record cannot be told from it: Longhorn's replicas are judged by their name.
      .filter(({ backend, info }) =>
        info.id !== "" || parcel.mode === "reopen" || parcel.complete.includes(backend.name)
      )
      .map(({ backend, info }) => ({
        ...info,
        ...(info.id === "" ? {} : record),
        state: parcel.mode === "adopt" ? "dirty" : info.state,
        name: backend.name,
        unclean: false,
        lostUnflushed: false,
      }))
      // Where copies may differ, hosts have seen what the first one holds: it stays the first.
      .sort((a, b) => order(parcel, a.name, a.id) - order(parcel, b.name, b.id));
    const election = elect(candidates, {
      ...rules,
      bytes: parcel.bytes,
      currentBytes: 0,
      upgrade: true,
      unopened: unreachable,
    });
    return {
      ...election,
      generation: Math.max(election.generation, parcel.generation + 1),
      unclean: parcel.readsFromOne,
    };
  }

  #accept({ message, descriptors }: Received): ParcelMessage {
    if (message.type === "parcel") {
      this.#parcel = message;
      [this.#memory, this.#listener, ...this.#descriptors] = descriptors as [number, number, ...number[]];
      return message;
    }
    closeAll(descriptors);
    const reason = message.type === "no" ? message.reason : `it said "${message.type}"`;
    throw new StartError(`the running engine does not hand over: ${reason}`, 1);
  }

  /** The running engine died before it handed anything over: its replicas are as a crash leaves them. */
  async #inherit(prepared: readonly Opened[], unreachable: number): Promise<Election> {
    this.log.warn("the running engine died before it handed anything over");
    this.#orphaned = true;
    const opened = await Promise.all(
      prepared.map((one) => one.info.state === "closed" ? reopened(one) : { ...one, unclean: true }),
    );
    const candidates = opened.map(({ backend, info, unclean }) => ({ ...info, name: backend.name, unclean }));
    return elect(candidates, { ...this.#with.rules, unopened: unreachable });
  }

  /** See {@linkcode Takeover.frontend}. */
  async frontend(kind: string): Promise<string> {
    const parcel = this.#parcel, { thread, host } = this.#with;
    if (!parcel) return "";
    if (parcel.frontend.kind !== "" && parcel.frontend.kind !== kind) {
      throw new StartError(`the running engine has the frontend "${parcel.frontend.kind}", not "${kind}"`, 1);
    }
    const own = this.#with.frontendOptions;
    const body: UnpackBody = {
      kind: parcel.frontend.kind,
      options: host?.optionsFor?.(parcel.frontend.kind, parcel.frontend.host, own) ?? own,
      memory: this.#memory,
      descriptors: this.#descriptors,
    };
    const { lost = [] } = await thread.call("unpack", body, THREAD_TIMEOUT_MS) as Unpacked;
    for (const id of lost) {
      this.log.warn("a copy that is away has missed more than is handed over; it must be rebuilt", { id });
    }
    closeAll([this.#memory]);
    this.#memory = -1;
    if (parcel.frontend.kind !== "") host?.take(kind, parcel.frontend.host);
    return parcel.frontend.endpoint;
  }

  /** See {@linkcode Takeover.settings}. */
  get settings(): HandedSettings | undefined {
    return this.#parcel?.settings;
  }

  /** See {@linkcode Takeover.commit}. */
  async commit(): Promise<void> {
    const { log, channel } = this;
    if (!this.#orphaned) {
      const heard = channel.tell({ type: "ready" });
      // However long it takes: to go on, or to give up, while the other one might do the same would be wrong.
      const answer = heard ? await channel.next(-1) : "end";
      if (answer === "end" || answer === "late") {
        log.warn("the running engine died while it was handing over");
      } else if (answer.message.type !== "go") {
        throw new StartError(
          `the running engine took it back: ${answer.message.type === "no" ? answer.message.reason : ""}`,
          1,
        );
      }
      channel.tell({ type: "taken" });
    }
    this.#committed = true;
    for (const backend of this.#backends) backend.inherit();
    channel.close();
    await this.#with.thread.call("resume");
    log.info("took the volume over", { frontend: this.#parcel?.frontend.kind ?? "" });
  }

  /** See {@linkcode Takeover.fail}. */
  fail(reason: string): void {
    if (this.#committed) return;
    this.channel.tell({ type: "failed", reason });
    this.channel.close();
    this.#with.host?.forget();
  }
}

/** Where the running engine has a copy in the order in which it reads; other replica processes are known by their copy. */
function order({ complete, members }: ParcelMessage, name: string, id: string): number {
  const at = complete.indexOf(name);
  return at >= 0 ? at : members.includes(id) ? members.indexOf(id) : complete.length;
}

/** A replica as it is now. */
async function lookedAt(one: Opened): Promise<Opened> {
  return { ...one, info: await one.backend.get() };
}

/** A replica that was closed, or is about to be, opened. */
async function reopened({ backend }: Opened): Promise<Opened> {
  for (let left = OPEN_TRIES;; left--) {
    try {
      const before = await backend.get();
      return { backend, info: await backend.open(true, 0), unclean: before.dirty };
    } catch (error) {
      if (left === 0) {
        throw new StartError(`replica ${backend.name}: ${plainReason(error)}`, 1, { cause: error });
      }
      await new Promise((resolve) => setTimeout(resolve, OPEN_PAUSE_MS));
    }
  }
}
