/**
 * One simulated process: descriptors, memory, an Io, and a death that may come between any two events.
 *
 * @module
 */
import { Arena } from "../arena.ts";
import { IoError } from "../errno.ts";
import type { Socket } from "./socket.ts";
import { DescriptorTable } from "./descriptors.ts";
import type { SimHost } from "./host.ts";
import { SimIo } from "./io.ts";
import type { Target } from "./queue.ts";
import type { Random } from "./random.ts";
import { Verb } from "./trace.ts";

/** Memory of a process unless told otherwise, bytes. */
export const DEFAULT_ARENA_BYTES = 1024 * 1024;

/** Events of a process. */
const LINGER_OVER = 0, EXITED = 1;

/**
 * Thrown through a process's code to end it there: by a crash point, or because the process is already dead.
 * It ends the process and nothing else.
 */
export class SimCrash extends Error {
  /** The class's name. */
  override readonly name = "SimCrash";

  /** Says where the process ends. @param power the host loses its power too */
  constructor(message: string, readonly power = false) {
    super(message);
  }
}

/**
 * Called before every operation that changes the state of a disk (syncs included). May throw
 * {@linkcode SimCrash} to end the process just there.
 *
 * @param name of the operation, such as `rename`
 * @param path of the file
 * @param number of the operation in this process, from 0
 */
export type MutationHook = (name: string, path: string, number: number) => void;

/** A crash point: the process dies before its mutation number `mutation` (counted from 0). */
export function crashBefore(mutation: number, power = false): MutationHook {
  return (name, path, number) => {
    if (number === mutation) throw new SimCrash(`crash before mutation ${number}, ${name} ${path}`, power);
  };
}

/** Options of a process. */
export interface SimProcessOptions {
  /** Size of its arena, bytes; default 1 MiB. */
  readonly arenaBytes?: number;
  /** See {@linkcode MutationHook}. */
  readonly onMutation?: MutationHook;
  /** Called from the world, outside any process, when it died. */
  readonly onExit?: (dead: SimProcess) => void;
}

/** See the module. */
export class SimProcess implements Target {
  /** False as soon as it is killed. */
  alive = true;
  /** The loop does not run before this virtual time, ms: a paused process. */
  pausedUntil = 0;
  /** State-changing operations so far. */
  mutations = 0;
  /** Its world. */
  readonly io: SimIo;
  /** Its descriptors. */
  readonly descriptors: DescriptorTable = new DescriptorTable();
  /** Its chance. */
  readonly random: Random;
  readonly #options: SimProcessOptions;
  readonly #traceId: number;
  #lingering = false;

  /** Made by {@linkcode SimHost.spawn}. */
  constructor(readonly host: SimHost, readonly name: string, options: SimProcessOptions, random: Random) {
    this.#options = options;
    this.random = random;
    this.#traceId = host.cluster.trace.id(`${host.name}/${name}`);
    this.io = new SimIo(
      this,
      new Arena(host.cluster.takeBuffer(options.arenaBytes ?? DEFAULT_ARENA_BYTES), 0n),
    );
    this.record(Verb.START, 0, 0);
  }

  /** Adds an event to the trace. */
  record(verb: Verb, first: number, second: number): void {
    const { cluster } = this.host;
    cluster.trace.record(cluster.now, verb, this.#traceId, first, second);
  }

  /** Stops code of a dead process. @throws SimCrash in code of a process that is dead and does not know it yet */
  assertAlive(): void {
    if (!this.alive) throw new SimCrash(`${this.name} is dead`);
  }

  /**
   * To be called before a state-changing operation.
   *
   * @param label what the trace shows: an id of its label
   */
  mutate(name: string, path: string, label: number = this.host.trace.id(`${name} ${path}`)): void {
    const number = this.mutations++;
    this.record(Verb.MUTATION, number, label);
    try {
      this.#options.onMutation?.(name, path, number);
    } catch (error) {
      // Here and not in enter: the code may catch what it does not know.
      if (error instanceof SimCrash) this.#crash(error);
      throw error;
    }
    this.assertAlive();
  }

  /**
   * Runs code of the process now, as its loop would: then what it deferred. Does nothing when it is dead.
   * A {@linkcode SimCrash} kills the process; anything else thrown comes out.
   */
  enter(code: () => void): void {
    if (!this.alive) return;
    this.io.tick();
    try {
      code();
      this.io.runDeferred();
    } catch (error) {
      if (!(error instanceof SimCrash)) throw this.host.cluster.failure(error);
      this.#crash(error);
    }
  }

  #crash(crash: SimCrash): void {
    if (!this.alive) return;
    this.kill();
    if (crash.power) this.host.powerCut();
  }

  /** Gives a connection a descriptor. @returns it, or a negative error number */
  installSocket(socket: Socket): number {
    try {
      return this.descriptors.install(socket);
    } catch (error) {
      socket.released(true);
      if (error instanceof IoError) return -error.errno;
      throw error;
    }
  }

  /** Stops the loop for a while, as a debugger, a full host or a long collection does. */
  pause(ms: number): void {
    this.pausedUntil = Math.max(this.pausedUntil, this.host.cluster.now + ms);
  }

  /** SIGKILL. Descriptors close now or a little later, writes under way happen in full, in part, or not. */
  kill(): void {
    if (!this.alive) return;
    this.alive = false;
    this.record(Verb.KILL, this.io.underWay, 0);
    const { cluster } = this.host;
    const { lingerMs } = cluster.options.process;
    this.#lingering = true;
    cluster.push(cluster.now, this, EXITED, 0);
    if (lingerMs > 0 && this.random.chance(0.5)) {
      cluster.push(cluster.now + this.random.unit() * lingerMs, this, LINGER_OVER, 0);
    } else this.finishDeath();
  }

  /** The kernel's part of the death: what was under way ends, descriptors close. */
  finishDeath(): void {
    if (!this.#lingering) return;
    this.#lingering = false;
    this.io.abandon();
    this.descriptors.closeAll();
    this.host.forget(this);
  }

  /** See {@linkcode Target.fire}. */
  fire(code: number, _value: number): void {
    if (code === LINGER_OVER) this.finishDeath();
    else this.#options.onExit?.(this);
  }
}
