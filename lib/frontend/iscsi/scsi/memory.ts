/**
 * Buffers for the data of tasks. Who gets none waits, in order of arrival; but every initiator can have one buffer,
 * whatever others hold: one that is asked for the data of its writes and sends none keeps nobody else from work.
 *
 * @module
 */
import type { Deferred } from "../../../io/io.ts";
import { type BufferPool, NO_BUFFER } from "../../../io/pool.ts";
import { PoolShares } from "../../../io/pool_shares.ts";
import { type Task, TaskQueue, type Transport } from "./task.ts";

/** See the module text. */
export class TaskMemory implements Deferred {
  readonly #pool: BufferPool;
  readonly #shares: PoolShares;
  readonly #ready: (task: Task) => void;
  readonly #starved = new TaskQueue();
  /** Those of whom a task that came earlier got nothing in this turn. */
  readonly #passed = new Set<Transport>();
  #waits = false;

  /**
   * Shares a pool.
   *
   * @param initiators most of them
   * @param most largest buffer of a task, bytes
   * @param ready told of a task that got the buffer that it waited for
   */
  constructor(pool: BufferPool, initiators: number, most: number, ready: (task: Task) => void) {
    this.#pool = pool;
    this.#shares = new PoolShares(pool, initiators, most);
    this.#ready = ready;
  }

  /** True when tasks wait for memory. */
  get starving(): boolean {
    return this.#starved.head !== undefined;
  }

  /** True when tasks of others than this one wait for memory. */
  starvesBeside(transport: Transport): boolean {
    for (let task = this.#starved.head; task; task = task.next) if (task.transport !== transport) return true;
    return false;
  }

  /** Gives a task a buffer, if there is one for it now. @returns whether it has one */
  take(task: Task, bytes: number): boolean {
    const { transport } = task;
    task.bufferBytes = bytes;
    // Nobody overtakes others who wait, and nobody's own tasks overtake each other.
    if (this.starving) return transport.starved === 0 && this.#own(task);
    return this.#given(task, this.#shares.take(bytes, !transport.holdsMemory));
  }

  #own(task: Task): boolean {
    return this.#given(task, this.#shares.takeOwn(task.bufferBytes, !task.transport.holdsMemory));
  }

  /** Nobody goes before those who were passed over, but for what is kept for it. */
  #feed(task: Task): boolean {
    if (this.#passed.size > 0) return this.#own(task);
    return this.#given(task, this.#shares.take(task.bufferBytes, !task.transport.holdsMemory));
  }

  #given(task: Task, buffer: number): boolean {
    if (buffer === NO_BUFFER) return false;
    task.buffer = buffer;
    task.transport.buffers++;
    return true;
  }

  /** Lets a task wait for a buffer of `task.bufferBytes`. */
  starve(task: Task): void {
    task.transport.starved++;
    this.#starved.push(task);
    this.#wait();
  }

  /** A task that waits does not do so any more. */
  forget(task: Task): void {
    if (this.#starved.remove(task)) task.transport.starved--;
  }

  #wait(): void {
    if (this.#waits) return;
    this.#waits = true;
    this.#pool.wait(this);
  }

  /** Memory came back: serves those who wait. */
  runDeferred(): void {
    this.#waits = false;
    this.#passed.clear();
    for (let task = this.#starved.head; task;) {
      const { transport } = task;
      if (this.#passed.has(transport) || !this.#feed(task)) {
        this.#passed.add(transport);
        task = task.next;
        continue;
      }
      this.forget(task);
      this.#ready(task);
      // That may have changed the queue.
      task = this.#starved.head;
    }
    this.#passed.clear();
    if (this.starving) this.#wait();
  }
}
