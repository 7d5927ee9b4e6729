/**
 * The task set: which tasks may run beside each other.
 *
 * SIMPLE tasks run as they come; hosts that want an order wait for completions. Two kinds of tasks need more:
 * ORDERED ones (everything before them first, everything after them later) and exclusive ones such as
 * COMPARE AND WRITE, whose blocks nobody else may touch meanwhile. As long as there are none of these, which
 * is nearly always, a task costs two pointers here.
 *
 * @module
 */
import { Attribute, type Task, TaskQueue, TaskState } from "./task.ts";

/** All tasks that run or wait to run; see the module text. */
export class TaskSet {
  #first: Task | undefined;
  readonly #waiting = new TaskQueue();
  /** Tasks in the set or waiting that are ordered or exclusive. */
  #special = 0;
  #running = 0;

  /** Number of tasks that run. */
  get running(): number {
    return this.#running;
  }

  /** The first running task; the others follow by `setNext`. */
  get first(): Task | undefined {
    return this.#first;
  }

  /**
   * Lets a task in, or queues it.
   * @returns true when it may run now
   */
  enter(task: Task): boolean {
    task.barrier = task.attribute === Attribute.ORDERED;
    if (task.barrier || task.exclusive) this.#special++;
    if (this.#special === 0 || task.attribute === Attribute.HEAD_OF_QUEUE || !this.#blocked(task)) {
      this.#link(task);
      return true;
    }
    task.state = TaskState.GATED;
    this.#waiting.push(task);
    return false;
  }

  /** Takes a running task out. Call {@linkcode admit} afterwards. */
  leave(task: Task): void {
    if (!task.inSet) return;
    if (task.setPrevious) task.setPrevious.setNext = task.setNext;
    else this.#first = task.setNext;
    if (task.setNext) task.setNext.setPrevious = task.setPrevious;
    task.setNext = task.setPrevious = undefined;
    task.inSet = false;
    this.#running--;
    if (task.barrier || task.exclusive) this.#special--;
  }

  /** Takes a waiting task out. @returns false when it does not wait here */
  withdraw(task: Task): boolean {
    if (!this.#waiting.remove(task)) return false;
    if (task.barrier || task.exclusive) this.#special--;
    return true;
  }

  /**
   * Finds who may run after a task left.
   *
   * @returns a waiting task that may run now and is in the set, or undefined
   */
  admit(): Task | undefined {
    for (let task = this.#waiting.head; task; task = task.next) {
      if (this.#blocked(task)) continue;
      this.#waiting.remove(task);
      this.#link(task);
      return task;
    }
    return undefined;
  }

  #link(task: Task): void {
    task.setPrevious = undefined;
    task.setNext = this.#first;
    if (this.#first) this.#first.setPrevious = task;
    this.#first = task;
    task.inSet = true;
    this.#running++;
  }

  /** True when a running task, or one that waits longer, is in the way. */
  #blocked(task: Task): boolean {
    for (let other = this.#first; other; other = other.setNext) if (conflict(task, other)) return true;
    for (let other = this.#waiting.head; other && other !== task; other = other.next) {
      if (conflict(task, other)) return true;
    }
    return false;
  }
}

function conflict(a: Task, b: Task): boolean {
  if (a.barrier || b.barrier) return true;
  if (!a.exclusive && !b.exclusive) return false;
  return a.lba < b.lba + b.blocks && b.lba < a.lba + a.blocks;
}
