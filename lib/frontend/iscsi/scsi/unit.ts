/**
 * The logical unit: takes tasks, checks who may do what, runs them against the block device and keeps the
 * bounds: device operations under way, memory, and one scratch buffer for commands that compare or repeat.
 *
 * @module
 */
import {
  type BlockDevice,
  FRONTEND_DEPTH,
  MAX_TRANSFER_BYTES,
  Op,
  SECTOR_BYTES,
} from "../../../block/device.ts";
import { Errno } from "../../../io/errno.ts";
import { type BufferPool, NO_BUFFER } from "../../../io/pool.ts";
import { Access, type CommandTable } from "./command.ts";
import type { Identity } from "./identity.ts";
import { TaskMemory } from "./memory.ts";
import { ModePages } from "./mode_pages.ts";
import type { Nexus } from "./nexus.ts";
import { Reservations } from "./reservations.ts";
import { Asc, Key, NOTHING, Status } from "./sense.ts";
import { NO_OP, type Task, TaskQueue, TaskState } from "./task.ts";
import { TaskSet } from "./task_set.ts";

/** Bytes of the scratch buffer: what VERIFY, WRITE SAME and their like work in at a time. */
export const SCRATCH_BYTES = 256 * 1024;

/** A disk with its SCSI state; see the module text. */
export class LogicalUnit {
  /** Bytes of the arena. */
  readonly u8: Uint8Array;
  /** The same as numbers. */
  readonly view: DataView;
  /** Its mode pages. */
  readonly mode = new ModePages();
  /** Tasks that run or wait to run. */
  readonly set = new TaskSet();
  /** Initiator ports that are logged in. */
  readonly nexuses: Nexus[] = [];
  /** Who holds it. */
  readonly reservations = new Reservations(this.nexuses);
  /** Aborts all tasks of an initiator port; the transport, which knows them all, sets it. */
  abortTasksOf: (nexus: Nexus) => void = () => {};
  /** Largest transfer of one command, blocks. */
  readonly maxBlocks: number;
  /** Buffers for data of tasks. */
  readonly memory: TaskMemory;
  /** Arena offset of the scratch buffer. */
  readonly scratch: number;
  #scratchUser: Task | undefined;
  readonly #scratchWaiters = new TaskQueue();
  readonly #delayed = new TaskQueue();
  #underWay = 0;
  #admitting = false;

  /**
   * Makes a unit without initiators.
   *
   * @param device the disk
   * @param pool memory for data
   * @param table the commands it knows
   * @param identity what it tells about itself
   * @param initiators most of them at once
   * @throws {RangeError} when the pool has no room for the scratch buffer
   */
  constructor(
    readonly device: BlockDevice,
    readonly pool: BufferPool,
    readonly table: CommandTable,
    readonly identity: Identity,
    initiators: number,
  ) {
    this.u8 = pool.arena.u8;
    this.view = pool.arena.view;
    this.maxBlocks = Math.min(MAX_TRANSFER_BYTES, pool.largest) / SECTOR_BYTES;
    this.scratch = pool.allocate(SCRATCH_BYTES);
    if (this.scratch === NO_BUFFER) throw new RangeError("iscsi: no memory for the scratch buffer");
    this.memory = new TaskMemory(
      pool,
      initiators,
      Math.min(MAX_TRANSFER_BYTES, pool.largest),
      (task) => this.#fed(task),
    );
    device.onResize(() => this.attendAll(Asc.CAPACITY_CHANGED));
  }

  /** Number of blocks. */
  get capacity(): number {
    return Math.floor(this.device.bytes / SECTOR_BYTES);
  }

  /** True when nothing runs, waits or is under way. */
  get idle(): boolean {
    return this.#underWay === 0 && this.set.running === 0;
  }

  /** Gives the unit's own memory back. Only when {@linkcode idle}. */
  dispose(): void {
    this.pool.release(this.scratch);
  }

  // ---- nexuses ---------------------------------------------------------------------------------------------

  /** Notes a unit attention for every initiator port, except one. */
  attendAll(asc: number, except?: Nexus): void {
    for (const nexus of this.nexuses) if (nexus !== except) nexus.attend(asc);
  }

  /** Adds an initiator port that logged in. */
  addNexus(nexus: Nexus): void {
    this.nexuses.push(nexus);
    this.reservations.refresh();
  }

  /** Forgets an initiator port: its RESERVE(6) ends, its registrations stay (SPC-4 section 5.13). */
  removeNexus(nexus: Nexus): void {
    const at = this.nexuses.indexOf(nexus);
    if (at >= 0) this.nexuses.splice(at, 1);
    this.reservations.nexusLost(nexus);
  }

  /** What a logical unit reset undoes (SAM-5 section 6.3.3); aborting tasks is the transport's part. */
  reset(): void {
    this.reservations.reset();
    this.mode.reset();
    for (const nexus of this.nexuses) {
      nexus.preventsRemoval = false;
      nexus.attend(Asc.BUS_DEVICE_RESET);
    }
  }

  // ---- the life of a task ----------------------------------------------------------------------------------

  /**
   * Looks at a command that arrived: sets what data it needs, or refuses it.
   * @returns false when it is refused; the task has its status, and {@linkcode start} must not be called
   */
  begin(task: Task): boolean {
    const opcode = this.u8[task.cdb];
    const spec = this.table.find(opcode, this.u8[task.cdb + 1] & 0x1f);
    if (task.nexus.attentions !== 0 && !spec?.passesAttention && task.lunKnown) {
      return this.refuse(task, Key.UNIT_ATTENTION, task.nexus.take());
    }
    if (!spec) {
      if (!task.lunKnown) return this.refuse(task, Key.ILLEGAL_REQUEST, Asc.LUN_NOT_SUPPORTED);
      return this.table.knows(opcode)
        ? this.invalidField(task, 1)
        : this.refuse(task, Key.ILLEGAL_REQUEST, Asc.INVALID_OPCODE, 0);
    }
    // Only what SPC-4 section 5.2 lets every target answer is answered for other units.
    if (!task.lunKnown && !(spec.passesAttention && spec.access === Access.ALWAYS)) {
      return this.refuse(task, Key.ILLEGAL_REQUEST, Asc.LUN_NOT_SUPPORTED);
    }
    if (spec.access >= task.nexus.conflictFrom && spec.access !== Access.OWN) {
      task.status = Status.RESERVATION_CONFLICT;
      return false;
    }
    const usage = spec.usage;
    for (let i = 1; i < usage.length; i++) {
      if (this.u8[task.cdb + i] & ~usage[i]) return this.invalidField(task, i);
    }
    task.spec = spec;
    return spec.prepare(this, task);
  }

  /** Runs a task whose Data-Out is at hand, now or when the task set lets it. */
  start(task: Task): void {
    task.state = TaskState.RUNNING;
    if (this.set.enter(task)) task.spec?.run(this, task);
  }

  /** Ends a task with the status it has. */
  end(task: Task): void {
    if (this.#scratchUser === task) this.#passScratchOn();
    this.set.leave(task);
    task.state = TaskState.ENDED;
    task.transport.taskEnded(task);
    this.#admit();
  }

  #admit(): void {
    if (this.#admitting) return; // a task that ends at once ends inside this loop
    this.#admitting = true;
    for (let task = this.set.admit(); task; task = this.set.admit()) {
      task.state = TaskState.RUNNING;
      task.spec?.run(this, task);
    }
    this.#admitting = false;
  }

  /** Sets the status and sense of a command that is refused before it ran. @returns false */
  refuse(
    task: Task,
    senseKey: number,
    asc: number,
    field: number = NOTHING,
    information: number = NOTHING,
  ): false {
    task.status = Status.CHECK_CONDITION;
    task.senseKey = senseKey;
    task.asc = asc;
    task.field = field;
    task.information = information;
    task.inBytes = 0;
    return false;
  }

  /** Refuses for a field of the CDB. @returns false */
  invalidField(task: Task, byte: number): false {
    return this.refuse(task, Key.ILLEGAL_REQUEST, Asc.INVALID_FIELD_IN_CDB, byte);
  }

  /** Ends a running task with CHECK CONDITION. */
  fail(
    task: Task,
    senseKey: number,
    asc: number,
    field: number = NOTHING,
    information: number = NOTHING,
  ): void {
    this.refuse(task, senseKey, asc, field, information);
    this.end(task);
  }

  /**
   * Stops a task that has begun and not ended. The transport is told at once, or when the device operation
   * under way ends: only then nothing of the task happens any more.
   */
  abort(task: Task): void {
    task.aborted = true;
    if (task.state === TaskState.STARVED) this.memory.forget(task);
    else if (task.state === TaskState.GATED) this.set.withdraw(task);
    else if (task.state === TaskState.RUNNING) {
      if (task.op !== NO_OP && !this.#delayed.remove(task)) return; // the device has it
      if (task.op === NO_OP && this.#scratchUser !== task) this.#scratchWaiters.remove(task);
      task.op = NO_OP;
    }
    this.end(task);
  }

  // ---- memory ----------------------------------------------------------------------------------------------

  /**
   * Gets the task a buffer for data to the initiator.
   * @returns false when there is none now: the task is queued and its `run` called again
   */
  take(task: Task, bytes: number): boolean {
    if (task.buffer !== NO_BUFFER) return true; // called again with the memory it waited for
    if (this.memory.take(task, bytes)) return true;
    this.starve(task);
    return false;
  }

  /** Queues a task for a buffer of `task.bufferBytes`. */
  starve(task: Task): void {
    task.state = TaskState.STARVED;
    this.memory.starve(task);
  }

  #fed(task: Task): void {
    if (!task.inSet) return task.transport.bufferReady(task);
    task.state = TaskState.RUNNING;
    task.spec?.run(this, task);
  }

  /**
   * Gets the task the scratch buffer.
   * @returns false when another has it: the task is queued and its `run` called again
   */
  borrowScratch(task: Task): boolean {
    if (this.#scratchUser === task) return true;
    if (!this.#scratchUser) {
      this.#scratchUser = task;
      return true;
    }
    this.#scratchWaiters.push(task);
    return false;
  }

  #passScratchOn(): void {
    const next = this.#scratchWaiters.shift();
    this.#scratchUser = next;
    if (next) next.spec?.run(this, next);
  }

  // ---- the device ------------------------------------------------------------------------------------------

  /** Starts a device operation for a task; `spec.step` follows. At most one at a time per task. */
  submit(task: Task, op: Op, offset: number, length: number, at: number): void {
    task.op = op;
    task.opOffset = offset;
    task.opLength = length;
    task.opAt = at;
    if (this.#underWay >= FRONTEND_DEPTH) return this.#delayed.push(task);
    this.#underWay++;
    this.device.submit(op, offset, length, at, task, 0);
  }

  /** Called by the task when its operation ended. */
  operationEnded(task: Task, result: number): void {
    this.#underWay--;
    const op = task.op;
    task.op = NO_OP;
    const waiting = this.#delayed.shift();
    if (waiting) {
      this.#underWay++;
      this.device.submit(waiting.op as Op, waiting.opOffset, waiting.opLength, waiting.opAt, waiting, 0);
    }
    if (task.aborted) this.end(task);
    else if (result < 0) this.#deviceFailed(task, op, -result);
    else task.spec?.step(this, task, result);
  }

  #deviceFailed(task: Task, op: number, errno: number): void {
    const lba = task.lba + task.cursor;
    if (errno === Errno.ENOSPC || errno === Errno.EDQUOT) {
      return this.fail(task, Key.DATA_PROTECT, Asc.SPACE_ALLOCATION_FAILED);
    }
    if (errno === Errno.EROFS) return this.fail(task, Key.DATA_PROTECT, Asc.WRITE_PROTECTED);
    if (errno === Errno.EIO && op === Op.READ) {
      return this.fail(task, Key.MEDIUM_ERROR, Asc.UNRECOVERED_READ_ERROR, NOTHING, lba);
    }
    if (errno === Errno.EIO) return this.fail(task, Key.MEDIUM_ERROR, Asc.WRITE_ERROR, NOTHING, lba);
    // EINVAL: the disk is smaller than it was when the command arrived.
    if (errno === Errno.EINVAL) {
      return this.fail(task, Key.ILLEGAL_REQUEST, Asc.LBA_OUT_OF_RANGE, NOTHING, lba);
    }
    this.fail(task, Key.HARDWARE_ERROR, Asc.INTERNAL_TARGET_FAILURE);
  }
}
