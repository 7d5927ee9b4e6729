/**
 * A task: one SCSI command from its arrival to its response. Tasks are made once per connection and used again;
 * nothing on the way of a command allocates.
 *
 * The transport fills in what came with the command, the logical unit runs it, the transport answers. The
 * fields of both are in one object because they live and end together.
 *
 * @module
 */
import type { Completer } from "../../../io/io.ts";
import { NO_BUFFER } from "../../../io/pool.ts";
import type { CommandSpec } from "./command.ts";
import type { Nexus } from "./nexus.ts";
import { NOTHING, Status } from "./sense.ts";
import type { LogicalUnit } from "./unit.ts";

/** Where a task is. */
export const TaskState = {
  /** Not in use. */
  FREE: 0,
  /** Data-Out is still to come. */
  RECEIVING: 1,
  /** Known to fail; the rest of the data the initiator sends unasked is thrown away. */
  DISCARDING: 2,
  /** Waits for memory. */
  STARVED: 3,
  /** Waits for other tasks of the task set. */
  GATED: 4,
  /** Runs; a device operation may be under way. */
  RUNNING: 5,
  /** Has its result; the response is not completely queued yet. */
  ENDED: 6,
} as const;

/** Task attributes, RFC 7143 section 11.3.1.1. */
export const Attribute = { UNTAGGED: 0, SIMPLE: 1, ORDERED: 2, HEAD_OF_QUEUE: 3, ACA: 4 } as const;

/** Who delivers tasks and takes them back: a session. */
export interface Transport {
  /** Buffers of its tasks. */
  buffers: number;
  /** Its tasks that wait for a buffer. */
  starved: number;
  /** True while it has a buffer, or data of one still goes out. */
  readonly holdsMemory: boolean;
  /** The task has its result. Called once per task, also for aborted ones. */
  taskEnded(task: Task): void;
  /** A Data-Out buffer was found for a task that {@linkcode LogicalUnit.starve} took in state RECEIVING. */
  bufferReady(task: Task): void;
}

/** A task management function that answers when the tasks it aborted have ended. */
export interface AbortWait {
  /** One of them ended. */
  taskGone(): void;
}

/** No operation: {@linkcode Task.op} of a task that waits for none. */
export const NO_OP = -1 as number;

/** One SCSI command; see the module text. */
export class Task implements Completer {
  /** One of {@linkcode TaskState}. */
  state: number = TaskState.FREE;

  // From the transport.
  /** Who sent it. */
  nexus: Nexus;
  /** Initiator task tag. */
  tag = 0;
  /** One of {@linkcode Attribute}. */
  attribute = 0;
  /** False when the command names another logical unit. */
  lunKnown = true;
  /** Expected data transfer length, bytes, as the initiator states it. */
  expected = 0;
  /** The initiator expects data. */
  isRead = false;
  /** The initiator has data. */
  isWrite = false;
  /** It came as an immediate command. */
  immediate = false;
  /** Its command number. */
  cmdSN = 0;
  /** The logical unit number as it came, for R2T: two words. */
  lunHigh = 0;
  /** Lower word of the logical unit number. */
  lunLow = 0;
  /** Bytes of Data-Out taken into the buffer. */
  received = 0;
  /** Bytes of Data-Out that arrived or were thrown away: the offset the next PDU must have. */
  arrived = 0;
  /** Bytes of Data-Out that will be taken: the smaller of what the CDB asks and what the initiator has. */
  wanted = 0;
  /** Refused when it arrived, or its data was wrong: it is answered when the initiator stops sending. */
  refused = false;
  /** True while the initiator sends a sequence of Data-Out, asked for or not. */
  bursting = false;
  /** Target transfer tag of the R2T under way; {@linkcode NOTHING} when there is none. */
  transferTag: number = NOTHING;
  /** Offset up to which the sequence of Data-Out under way may go. */
  burstEnd = 0;
  /** Number of Data-In PDUs sent. */
  dataSN = 0;
  /** Number of R2T PDUs sent. */
  r2tSN = 0;
  /** Data-Out sequence number expected next. */
  expectedDataSN = 0;
  /** Bytes of Data-In queued for sending. */
  sent = 0;
  /** The PDU that ends it is being queued: its place in the command window is free again. */
  answered = false;
  /** True when an R2T is to be sent. */
  wantsR2T = false;

  // From the CDB.
  /** The command, when there is such a one. */
  spec: CommandSpec | undefined;
  /** First block, and number of blocks. */
  lba = 0;
  /** Number of blocks. */
  blocks = 0;
  /** Bytes of Data-Out the CDB asks for. */
  outBytes = 0;
  /** Bytes of Data-In there would be without limit, for the residual count. */
  inBytes = 0;
  /** True when other tasks must stay off these blocks meanwhile. */
  exclusive = false;
  /** True when everything before must end first and everything after must wait: ORDERED. */
  barrier = false;

  // While it runs.
  /** Data-Out, or the blocks read. */
  buffer: number = NO_BUFFER;
  /** Bytes it has, or waits for. */
  bufferBytes = 0;
  /** Step and position of commands of several operations. */
  step = 0;
  /** Position, in blocks or ranges. */
  cursor = 0;
  /** Nobody waits for its response any more. */
  aborted = false;
  /** Who waits for the end of it after an abort. */
  abort: AbortWait | undefined;
  /** The device operation it waits for, or {@linkcode NO_OP}. */
  op: number = NO_OP;
  /** Offset of the operation, bytes. */
  opOffset = 0;
  /** Length of the operation, bytes. */
  opLength = 0;
  /** Arena offset of the operation's data. */
  opAt = 0;

  // The result.
  /** One of {@linkcode Status}. */
  status: number = Status.GOOD;
  /** See {@linkcode Sense}. */
  senseKey = 0;
  /** See {@linkcode Sense}. */
  asc = 0;
  /** See {@linkcode Sense}. */
  information: number = NOTHING;
  /** See {@linkcode Sense}. */
  field: number = NOTHING;

  // Links of the lists a task can be in; at most one queue at a time, besides the task set.
  /** The next one in a {@linkcode TaskQueue}. */
  next: Task | undefined;
  /** The next one in the task set. */
  setNext: Task | undefined;
  /** The one before in the task set. */
  setPrevious: Task | undefined;
  /** True while it is in the task set. */
  inSet = false;

  /**
   * Makes a free task.
   *
   * @param index its place with its transport
   * @param cdb arena offset of 16 bytes for its CDB
   */
  constructor(
    readonly transport: Transport,
    readonly unit: LogicalUnit,
    nexus: Nexus,
    readonly index: number,
    readonly cdb: number,
  ) {
    this.nexus = nexus;
  }

  /** Makes a free task ready for a new command. */
  reset(): void {
    this.received = this.arrived = this.wanted = 0;
    this.refused = this.bursting = false;
    this.transferTag = NOTHING;
    this.burstEnd = 0;
    this.dataSN =
      this.r2tSN =
      this.expectedDataSN =
      this.sent =
        0;
    this.wantsR2T = this.answered = false;
    this.spec = undefined;
    this.lba =
      this.blocks =
      this.outBytes =
      this.inBytes =
        0;
    this.exclusive = this.barrier = false;
    this.step = this.cursor = 0;
    this.aborted = false;
    this.abort = undefined;
    this.op = NO_OP;
    this.status = Status.GOOD;
    this.senseKey = this.asc = 0;
    this.information = this.field = NOTHING;
  }

  /** The end of its device operation. */
  complete(_tag: number, result: number): void {
    this.unit.operationEnded(this, result);
  }
}

/** A first-in-first-out list of tasks that costs no memory. */
export class TaskQueue {
  #head: Task | undefined;
  #tail: Task | undefined;

  /** The task that is next. */
  get head(): Task | undefined {
    return this.#head;
  }

  /** Appends a task. */
  push(task: Task): void {
    task.next = undefined;
    if (this.#tail) this.#tail.next = task;
    else this.#head = task;
    this.#tail = task;
  }

  /** Takes the first task. */
  shift(): Task | undefined {
    const task = this.#head;
    if (!task) return undefined;
    this.#head = task.next;
    if (!this.#head) this.#tail = undefined;
    task.next = undefined;
    return task;
  }

  /** Takes a task out, wherever it is. @returns false when it is not in the list */
  remove(task: Task): boolean {
    let before: Task | undefined;
    for (let t = this.#head; t; before = t, t = t.next) {
      if (t !== task) continue;
      if (before) before.next = t.next;
      else this.#head = t.next;
      if (this.#tail === t) this.#tail = before;
      t.next = undefined;
      return true;
    }
    return false;
  }
}
