/**
 * The loop of a simulated process: operations, completions, timers, deferred work, clocks.
 *
 * Completions are collected and handed over at wake-ups, several at a time when they fall together, as a real
 * loop does; then what was deferred runs. Nothing completes inside the submitting call.
 *
 * @module
 */
import type { Arena } from "../arena.ts";
import { MAX_DEFERRED } from "../deferred.ts";
import { type Completer, type Deferred, MAX_OPERATIONS, MAX_TIMERS } from "../io.ts";
import { OpenFile } from "./descriptors.ts";
import { abandonOperation, applyOperation, drawPart, type Effect, endOperation } from "./file_operations.ts";
import { Kind, NOBODY, Operation, type OperationOwner } from "./operation.ts";
import type { SimProcess } from "./process.ts";
import type { Target } from "./queue.ts";
import { Verb } from "./trace.ts";

/** Handles of timers are `index + generation * HANDLES`. */
const HANDLES = MAX_OPERATIONS + MAX_TIMERS;

/** Event codes of operations, besides {@linkcode Effect}, which means the end: half of the effect, a timer. */
export const HALF = 3;
const TIMER = 4;

/** See the module. */
export class SimLoop implements OperationOwner, Target {
  /** See {@linkcode OperationOwner.memory}. */
  readonly memory: Uint8Array<ArrayBuffer>;
  /** Whose loop this is. */
  protected readonly process: SimProcess;
  #operations: Operation[] = [];
  #free: Operation[] = [];
  #ready: Operation[] = [];
  #delivering: Operation[] = [];
  #deferred: Deferred[] = [];
  #underWay = 0;
  #timers = 0;
  #wakePending = false;
  #stopped = false;
  #now: number;
  #wallClock: number;

  /** A loop with nothing under way. */
  constructor(process: SimProcess, readonly arena: Arena) {
    this.process = process;
    this.memory = arena.u8;
    this.#now = process.host.monotonic();
    this.#wallClock = process.host.wallClock();
  }

  /** Operations under way, timers apart. */
  get underWay(): number {
    return this.#underWay;
  }

  /** See {@linkcode Io.now}. */
  now(): number {
    return this.#now;
  }

  /** See {@linkcode Io.wallClock}. */
  wallClock(): number {
    return this.#wallClock;
  }

  /** The loop wakes up: the clocks move. */
  tick(): void {
    this.#now = this.process.host.monotonic();
    this.#wallClock = this.process.host.wallClock();
  }

  /** See {@linkcode Io.random32}. */
  random32(): number {
    return this.process.random.next32();
  }

  /** An operation from the pool, counted as under way. */
  protected take(kind: Kind, who: Completer, tag: number): Operation {
    this.process.assertAlive();
    if (this.#underWay >= MAX_OPERATIONS) {
      throw new RangeError(`more than ${MAX_OPERATIONS} operations under way in one Io`);
    }
    let operation = this.#free.pop();
    if (operation === undefined) {
      operation = new Operation(this, this.#operations.length);
      this.#operations.push(operation);
    }
    this.#underWay++;
    operation.kind = kind;
    operation.who = who;
    operation.tag = tag;
    operation.result = 0;
    operation.finished = false;
    operation.cancelled = false;
    operation.descriptor = null;
    operation.done = 0;
    operation.fault = 0;
    return operation;
  }

  /** See {@linkcode OperationOwner.operationEvent}. */
  operationEvent(operation: Operation, code: number): void {
    if (code === TIMER) {
      this.#timers--;
      operation.result = 0;
      operation.finished = true;
      this.#ready.push(operation);
      // Late by the loop, not by the timer: timers of one process keep their order.
      if (!this.#wakePending) {
        this.#wake(this.process.random.unit() * this.process.host.cluster.options.process.timerSlackMs);
      }
      return;
    }
    // A killed process's writes go on until its descriptors close.
    const { disk } = this.process.host;
    if (code !== HALF) return this.finish(operation, endOperation(disk, operation, code as Effect));
    const whole = operation.length === 0 || operation.kind === Kind.PUNCH ||
      operation.kind === Kind.FALLOCATE;
    if (!whole) applyOperation(disk, operation, drawPart(disk, operation));
  }

  /** See {@linkcode OperationOwner.finish}. */
  finish(operation: Operation, result: number): void {
    operation.result = result;
    operation.finished = true;
    this.#ready.push(operation);
    if (!this.#wakePending) this.#wake(0);
  }

  #wake(slack: number): void {
    this.#wakePending = true;
    const { random, host, pausedUntil } = this.process;
    const { options, now } = host.cluster;
    const { wakeMs, wakeAtOnce } = options.process;
    const delay = slack + (random.chance(wakeAtOnce) ? 0 : -wakeMs * Math.log(1 - random.unit()));
    host.cluster.push(Math.max(now + delay, pausedUntil), this, 0, 0);
  }

  /** The loop wakes up. */
  fire(_code: number, _value: number): void {
    const { cluster } = this.process.host;
    if (cluster.now < this.process.pausedUntil) {
      cluster.push(this.process.pausedUntil, this, 0, 0);
      return;
    }
    this.#wakePending = false;
    this.process.enter(this.#deliver);
  }

  readonly #deliver = (): void => {
    const batch = this.#ready;
    this.#ready = this.#delivering;
    this.#delivering = batch;
    this.process.record(Verb.WAKE, batch.length, 0);
    let index = 0;
    try {
      while (index < batch.length && this.process.alive) {
        const operation = batch[index++];
        if (operation !== undefined) this.#complete(operation);
      }
    } finally {
      // Something was thrown: who catches it outside of the run may go on with the rest.
      if (index < batch.length && this.process.alive) {
        this.#ready.unshift(...batch.slice(index));
        if (!this.#wakePending) this.#wake(0);
      }
      batch.length = 0;
    }
  };

  #complete(operation: Operation): void {
    const { who, tag, result, cancelled } = operation;
    this.#release(operation);
    if (cancelled) return;
    this.process.record(Verb.COMPLETE, tag, result);
    who.complete(tag, result);
  }

  #release(operation: Operation): void {
    if (operation.kind !== Kind.TIMER) this.#underWay--;
    if (operation.descriptor !== null) operation.descriptor.underWay--;
    operation.kind = Kind.NONE;
    operation.descriptor = null;
    operation.who = NOBODY;
    operation.generation++;
    this.#free.push(operation);
  }

  /** See {@linkcode Io.timer}. */
  timer(ms: number, who: Completer, tag: number): number {
    if (this.#timers >= MAX_TIMERS) throw new RangeError(`more than ${MAX_TIMERS} timers armed in one Io`);
    const operation = this.take(Kind.TIMER, who, tag);
    this.#underWay--;
    this.#timers++;
    const { cluster } = this.process.host;
    cluster.push(cluster.now + Math.max(0, ms), operation, TIMER, operation.generation);
    return operation.index + HANDLES * operation.generation;
  }

  /** See {@linkcode Io.cancel}. */
  cancel(timer: number): void {
    const operation = this.#operations[timer % HANDLES];
    if (operation === undefined || operation.kind !== Kind.TIMER) return;
    if (operation.generation !== Math.floor(timer / HANDLES)) return;
    if (operation.finished) operation.cancelled = true;
    else {
      this.#timers--;
      this.#release(operation);
    }
  }

  /** See {@linkcode Io.defer}. */
  defer(task: Deferred): void {
    this.process.assertAlive();
    if (this.#deferred.length >= MAX_DEFERRED) {
      throw new RangeError(`more than ${MAX_DEFERRED} tasks deferred`);
    }
    this.#deferred.push(task);
    if (!this.#wakePending) this.#wake(0);
  }

  /** Runs what was deferred, and what that defers. */
  runDeferred(): void {
    for (let index = 0; index < this.#deferred.length && this.process.alive; index++) {
      this.#deferred[index]?.runDeferred();
    }
    this.#deferred.length = 0;
  }

  /**
   * Drives the whole world until {@linkcode stop}: for tests that are written for any Io. Code that runs
   * inside the world returns to it instead, and its process lives on in its completions.
   *
   * @throws Error when nothing is left that could happen
   */
  run(): void {
    const { cluster } = this.process.host;
    if (!this.process.alive) throw new Error(`the Io of ${this.process.name} is disposed`);
    this.#stopped = false;
    while (!this.#stopped && this.process.alive) {
      if (!cluster.step()) throw new Error(`${this.process.name}: the loop waits for nothing (deadlock)`);
    }
  }

  /** See {@linkcode Io.stop}. */
  stop(): void {
    this.#stopped = true;
  }

  /** The kernel's part of a death: file operations under way are decided. */
  abandon(): void {
    const { disk } = this.process.host;
    for (const operation of this.#operations) {
      if (operation.descriptor instanceof OpenFile && !operation.finished) abandonOperation(disk, operation);
      operation.generation++;
    }
    this.#ready.length = 0;
    this.#deferred.length = 0;
  }

  /** The process ends. */
  [Symbol.dispose](): void {
    this.process.kill();
  }
}
