/**
 * What the engine's main thread is told at its start, and what it needs of others.
 *
 * @module
 */
import type { Logger } from "../log/log.ts";
import type { Backend, BackendInfo } from "./backend.ts";
import type { Election, ElectionRules } from "./election.ts";
import type { Freezer, SnapshotLimits } from "./changes.ts";
import type { Copy } from "./copy_table.ts";
import type { HandedSettings } from "./handover_messages.ts";
import type { FrontendEvent } from "./thread.ts";

/**
 * The main thread's share of a frontend, for kinds that have one: a loop device, for instance, is attached by
 * the main thread while the volume thread answers.
 */
export interface FrontendHost {
  /**
   * Starts a frontend.
   * @param inThread starts its part in the volume thread with these options; gives that part's endpoint
   * @param stopInThread stops that part, for another attempt; after an error the caller does
   * @returns the endpoint for people
   */
  start(
    kind: string,
    options: unknown,
    inThread: (options: unknown) => Promise<string>,
    stopInThread: () => Promise<void>,
  ): Promise<string>;
  /** Stops it. @throws when it is in use: then it goes on */
  stop(kind: string, inThread: () => Promise<void>): Promise<void>;
  /** Tells the host that the volume has grown, for kinds where it does not find out by itself. */
  grow?(kind: string, bytes: number): Promise<void>;
  /** Told what the part in the volume thread has to say. */
  onEvent(event: FrontendEvent): void;
  /**
   * The host's share as plain data (JSON), for the engine that takes over in a live upgrade. The share stays as it is:
   * the device goes on existing while nobody answers for a moment.
   * @throws when this kind cannot be handed over
   */
  give(kind: string): unknown;
  /**
   * The options for the part in the volume thread that goes with what another engine gave; asked before `take`.
   * Default: the options of this engine, unchanged.
   */
  optionsFor?(kind: string, given: unknown, options: unknown): unknown;
  /** What was given belongs to another engine now: from here on nothing of it may be touched, at the end least of all. */
  forget(): void;
  /** Takes over what another engine gave, instead of `start`. */
  take(kind: string, given: unknown): void;
}

/** A replica that can be used at a start. */
export interface Opened {
  /** Its control service. */
  readonly backend: Backend;
  /** What it tells. */
  readonly info: BackendInfo;
  /** It was not closed cleanly before. */
  readonly unclean: boolean;
}

/**
 * A live upgrade from the side of the engine that takes over; takes the place of some steps of a start. See
 * `handover_taker.ts`.
 */
export interface Takeover {
  /** Dials a replica without opening it: the running engine still uses it. */
  prepare(backend: Backend): Promise<Opened>;
  /** Makes the running engine stand still, and decides which replicas to go on with, and with which generation. */
  claim(prepared: readonly Opened[], unreachable: number): Promise<Election>;
  /** The volume has been started: makes the frontend from what was handed over. @returns its endpoint, "" for none */
  frontend(kind: string): Promise<string>;
  /** What was set on the running engine after its start, if it says so; asked before the commit. */
  readonly settings?: HandedSettings | undefined;
  /** The point of no return: from here on this engine is the volume's. */
  commit(): Promise<void>;
  /** The start failed before that: the running engine is to go on. */
  fail(reason: string): void;
}

/** What a live upgrade sees of a controller, and changes in it; see `handover_giver.ts`. */
export interface ControllerHand {
  /** All replicas by name. */
  readonly replicas: ReadonlyMap<string, Copy>;
  /** Of the present start. */
  readonly generation: number;
  /** While true, replicas that go are no failures. */
  leaving(on: boolean): void;
  /** The volume was started again with a higher generation. */
  regained(generation: number): void;
  /** The volume is another engine's now. */
  gone(): void;
}

/** Options of an engine. */
export interface ControllerOptions extends ElectionRules {
  /** Name of the volume. */
  readonly name: string;
  /** Makes the backend of an address. */
  readonly backend: (address: string) => Backend;
  /** Kind of frontend, "" for none, and its options. */
  readonly frontend: string;
  /** What the frontend is told. */
  readonly frontendOptions?: unknown;
  /** Default: all of a frontend is in the volume thread. */
  readonly frontendHost?: FrontendHost;
  /** Takes a running engine's place; absent: starts from closed replicas. */
  readonly takeover?: Takeover;
  /** Start although members of the newest record are missing. The caller knows that they hold nothing newer. */
  readonly allowMissing: boolean;
  /** Where replicas that fail are told. */
  readonly log: Logger;
  /** Limits for snapshots at the start. What is not given here is taken over in a live upgrade; likewise the next two. */
  readonly limits?: Partial<SnapshotLimits>;
  /** Unmaps mark the snapshots below the head as removed, at the start. */
  readonly unmapMark?: boolean;
  /** Copies that a rebuild reads from at the same time, at most, at the start. */
  readonly rebuildSources?: number;
  /** Freezes file systems on the volume, where there can be any. */
  readonly freezer?: Freezer;
  /** Wall clock, milliseconds since 1970. */
  readonly wallClock: () => number;
  /** Makes names for snapshots. */
  readonly newName: () => string;
}

/** A volume cannot start. `exitCode` is what the process ends with; 61 marks every replica as failed. */
export class StartError extends Error {
  /** The class, for logs. */
  override readonly name = "StartError";
  /** Says why, and what the process ends with. */
  constructor(message: string, readonly exitCode: number, options?: ErrorOptions) {
    super(message, options);
  }
}
