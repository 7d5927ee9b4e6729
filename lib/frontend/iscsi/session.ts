/**
 * A session: its tasks, the window of command numbers, and the way of a command from the connection to the
 * logical unit and back.
 *
 * There is one connection per session and no error recovery beyond a new session (ErrorRecoveryLevel 0). A
 * session has {@linkcode SESSION_DEPTH} tasks; MaxCmdSN tells the initiator how many of them are free, so a task
 * is there for every command that may come. Immediate commands have a few tasks of their own.
 *
 * @module
 */
import { type BufferPool, NO_BUFFER } from "../../io/pool.ts";
import type { HandedSession } from "./handing.ts";
import { IMMEDIATE_TASKS, SESSION_DEPTH, type SessionMemory } from "./session_memory.ts";
import type { Parameters } from "./negotiation.ts";
import { NO_TAG } from "./pdu.ts";
import type { CommandWindow, Sender } from "./sender.ts";
import type { Nexus } from "./scsi/nexus.ts";
import { Key, NOTHING, Status } from "./scsi/sense.ts";
import { Task, TaskQueue, TaskState, type Transport } from "./scsi/task.ts";
import type { LogicalUnit } from "./scsi/unit.ts";

/** What a session needs of its connection. */
export interface SessionConnection {
  /** What answers. */
  readonly sender: Sender;
  /** True when nothing can be sent any more. */
  readonly closing: boolean;
  /** True while bytes of the socket go into this task's buffer. */
  isFilling(task: Task): boolean;
}

/** Called when the last task of an ended session has ended. */
export type SessionEnd = (session: Session) => void;

/** One session; see the module text. */
export class Session implements Transport, CommandWindow {
  /** All tasks, in use or not. */
  readonly tasks: readonly Task[];
  expCmdSN = 0;
  /** See {@linkcode Transport.buffers}. */
  buffers = 0;
  /** See {@linkcode Transport.starved}. */
  starved = 0;
  readonly #free: number[];
  readonly #freeImmediate: number[];
  /** Tasks whose answers, data or R2Ts wait for room in the send queue. */
  readonly #ready = new TaskQueue();
  /** The task whose answer is being queued. */
  #answering: Task | undefined;
  #serial = 0;
  #over: SessionEnd | undefined;
  #frozen = false;
  #frozenAt = 0;

  /**
   * Opens a session with all its tasks free.
   *
   * @param tsih session handle we gave
   * @param parameters agreed on at login
   */
  constructor(
    readonly tsih: number,
    readonly parameters: Parameters,
    readonly nexus: Nexus,
    readonly unit: LogicalUnit,
    readonly pool: BufferPool,
    readonly memory: SessionMemory,
    readonly connection: SessionConnection,
  ) {
    this.tasks = memory.cdbs.map((cdb, i) => new Task(this, unit, nexus, i, cdb));
    this.#free = [];
    this.#freeImmediate = [];
    for (let i = SESSION_DEPTH - 1; i >= 0; i--) this.#free.push(i);
    for (let i = 0; i < IMMEDIATE_TASKS; i++) this.#freeImmediate.push(SESSION_DEPTH + i);
  }

  /** Last CmdSN a task is free for. Never goes back: a command takes a task and moves ExpCmdSN. */
  get maxCmdSN(): number {
    if (this.#frozen) return this.#frozenAt;
    const task = this.#answering;
    const last = task?.answered && !task.immediate ? 1 : 0;
    return (this.expCmdSN + this.#free.length + last - 1) >>> 0;
  }

  /** Lets the command window run out: what it shows now is the last command that may come. */
  freeze(): void {
    this.#frozenAt = this.maxCmdSN;
    this.#frozen = true;
  }

  /** Undoes {@linkcode freeze}; the next PDU to the initiator shows it. */
  thaw(): void {
    this.#frozen = false;
  }

  /** For another process, between two commands. */
  handed(): HandedSession {
    const { tsih, expCmdSN, nexus, parameters } = this;
    const { isid, preventsRemoval, pending: attentions } = nexus;
    return { tsih, expCmdSN, parameters: { ...parameters }, isid, attentions, preventsRemoval };
  }

  /** True when answers wait for room in the send queue. */
  get hasReady(): boolean {
    return this.#ready.head !== undefined;
  }

  /** Number of tasks in use. */
  get live(): number {
    return SESSION_DEPTH + IMMEDIATE_TASKS - this.#free.length - this.#freeImmediate.length;
  }

  /** Gets a task. @returns undefined only for immediate commands, when there are too many of them */
  allocate(immediate: boolean): Task | undefined {
    const index = (immediate ? this.#freeImmediate : this.#free).pop();
    if (index === undefined) return undefined;
    const task = this.tasks[index] as Task;
    task.reset();
    task.immediate = immediate;
    return task;
  }

  /** Finds a task by its tag. */
  find(tag: number): Task | undefined {
    for (const task of this.tasks) if (task.tag === tag && task.state !== TaskState.FREE) return task;
    return undefined;
  }

  /** Finds the task a Data-Out PDU belongs to. */
  findForData(tag: number, transferTag: number): Task | undefined {
    if (transferTag === NO_TAG) {
      const task = this.find(tag);
      return task?.bursting && task.transferTag === NOTHING ? task : undefined;
    }
    const task = this.tasks[transferTag & 0xff];
    return task && task.transferTag === transferTag && task.tag === tag && task.bursting ? task : undefined;
  }

  /** See {@linkcode Transport.holdsMemory}. */
  get holdsMemory(): boolean {
    return this.buffers > 0 || this.connection.sender.lent > 0;
  }

  /** True when the initiator was asked for data of a write and has not sent it all. */
  get awaitsData(): boolean {
    return this.tasks.some((task) => task.bursting && task.buffer !== NO_BUFFER);
  }

  /** True when another task waits for bytes that are behind those of `task` in the stream. */
  hasOthersReceiving(task: Task): boolean {
    return this.tasks.some((t) => t !== task && t.state === TaskState.RECEIVING);
  }

  // ---- the way of a task -----------------------------------------------------------------------------------

  /** Goes on with a task after bytes for it arrived, or when it needs none. */
  advance(task: Task): void {
    if (task.aborted) return this.#gone(task);
    if (task.bursting) {
      task.state = task.refused ? TaskState.DISCARDING : TaskState.RECEIVING;
      return;
    }
    task.transferTag = NOTHING;
    if (task.refused) {
      task.state = TaskState.ENDED;
      return this.taskEnded(task);
    }
    if (task.received >= task.wanted) return this.unit.start(task);
    task.state = TaskState.RECEIVING;
    if (task.buffer === NO_BUFFER && !this.unit.memory.take(task, task.wanted)) return this.unit.starve(task);
    this.bufferReady(task);
  }

  /** Asks for the next burst of a task that has its buffer. */
  bufferReady(task: Task): void {
    task.state = TaskState.RECEIVING;
    task.wantsR2T = true;
    this.#ready.push(task);
    this.pump();
  }

  /** The data of a task does not fit what was agreed on: it will end with CHECK CONDITION. */
  dataError(task: Task, asc: number): void {
    if (task.refused) return;
    task.refused = true;
    this.unit.refuse(task, Key.ABORTED_COMMAND, asc);
  }

  /** No memory for data that is coming: the initiator is to try again. */
  busy(task: Task): void {
    task.refused = true;
    task.status = Status.BUSY;
    task.wanted = 0;
  }

  /** See {@linkcode Transport.taskEnded}. */
  taskEnded(task: Task): void {
    if (task.aborted || this.connection.closing) return this.#gone(task);
    this.#ready.push(task);
    this.pump();
  }

  /** Queues answers as long as there is room. */
  pump(): void {
    const { sender } = this.connection;
    if (this.connection.closing) return;
    for (let task = this.#ready.head; task && !sender.stream.congested; task = this.#ready.head) {
      if (task.wantsR2T) {
        this.#ready.shift();
        this.#ask(task);
      } else {
        this.#answering = task;
        const complete = sender.result(task);
        this.#answering = undefined;
        if (!complete) return;
        this.#ready.shift();
        this.#recycle(task);
      }
    }
  }

  #ask(task: Task): void {
    const length = Math.min(this.parameters.maxBurstLength, task.wanted - task.arrived);
    this.#serial = (this.#serial + 1) & 0x7fffff;
    task.wantsR2T = false;
    task.transferTag = (this.#serial << 8) | task.index;
    task.burstEnd = task.arrived + length;
    task.expectedDataSN = 0;
    task.bursting = true;
    this.connection.sender.r2t(task, length);
  }

  /** Gives a task's memory back. Queued payloads hold references of their own. */
  #recycle(task: Task): void {
    if (task.buffer !== NO_BUFFER) {
      this.buffers--;
      this.pool.release(task.buffer);
    }
    task.buffer = NO_BUFFER;
    task.state = TaskState.FREE;
    // Data of it that is still on the way must not find it, nor who has its place next.
    task.bursting = false;
    task.transferTag = NOTHING;
    (task.immediate ? this.#freeImmediate : this.#free).push(task.index);
  }

  #gone(task: Task): void {
    const waiting = task.abort;
    this.#recycle(task);
    waiting?.taskGone();
    if (this.#over && this.live === 0) this.#over(this);
  }

  // ---- the end of tasks ------------------------------------------------------------------------------------

  /**
   * Aborts a task; no response is sent for it. `task.abort` is told when nothing of it happens any more, maybe
   * at once.
   */
  abort(task: Task): void {
    if (task.state === TaskState.FREE || task.aborted) return;
    const state = task.state;
    if (state === TaskState.STARVED || state === TaskState.GATED || state === TaskState.RUNNING) {
      return this.unit.abort(task);
    }
    task.aborted = true;
    // Bytes of the socket still go into its buffer: `advance` follows.
    if (this.connection.isFilling(task)) return;
    this.#ready.remove(task);
    this.#gone(task);
  }

  /** Ends the session: aborts everything. `over` is called when the last task is gone, maybe at once. */
  close(over: SessionEnd): void {
    this.#over = over;
    if (this.live === 0) return over(this);
    for (const task of this.tasks) this.abort(task);
  }
}
