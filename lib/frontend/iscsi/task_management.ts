/**
 * Task management functions (RFC 7143 sections 11.5 and 11.6, SAM-5 chapter 7).
 *
 * A function is answered when nothing of the tasks it ended happens any more: a write that the disk already has
 * is waited for. Until then the initiator must not take the tag as free.
 *
 * @module
 */
import type { Connection } from "./connection.ts";
import { Field, FunctionResponse, TaskFunction } from "./pdu.ts";
import { Asc } from "./scsi/sense.ts";
import { type AbortWait, type Task, TaskState } from "./scsi/task.ts";
import type { Session } from "./session.ts";

/** A function on its way: answers after its last task. */
class PendingFunction implements AbortWait {
  #waiting = 1;

  constructor(readonly done: () => void) {}

  /** Aborts a task and waits for its end. */
  add(session: Session, task: Task): void {
    if (task.state === TaskState.FREE || task.aborted) return;
    task.abort = this;
    this.#waiting++;
    session.abort(task);
  }

  /** Every task of a session. */
  addAll(session: Session): void {
    for (const task of session.tasks) this.add(session, task);
  }

  taskGone(): void {
    if (--this.#waiting === 0) this.done();
  }
}

/** Handles the Task Management Function Request in `connection.bhs`. */
export function manageTasks(connection: Connection, session: Session): void {
  const { bhs, io, sender, target } = connection;
  const { view, u8 } = io.arena;
  const tag = view.getUint32(bhs + Field.TASK_TAG);
  const fn = u8[bhs + Field.FLAGS] & 0x7f;
  const answer = (response: number): void => {
    if (!connection.closing) sender.taskManagement(tag, response);
  };
  const ours = target.isOurs(view.getUint32(bhs + Field.LUN), view.getUint32(bhs + Field.LUN + 4));
  const wholeTarget = fn === TaskFunction.TARGET_WARM_RESET || fn === TaskFunction.TARGET_COLD_RESET;
  if (fn === TaskFunction.TASK_REASSIGN) return answer(FunctionResponse.REASSIGN_NOT_SUPPORTED);
  if (fn === 0 || fn > TaskFunction.TASK_REASSIGN || fn === TaskFunction.CLEAR_ACA) {
    return answer(FunctionResponse.NOT_SUPPORTED);
  }
  if (!ours && !wholeTarget) return answer(FunctionResponse.NO_LUN);
  const pending = new PendingFunction(() => {
    answer(FunctionResponse.COMPLETE);
    if (fn === TaskFunction.TARGET_COLD_RESET) target.closeAll("reset", "target cold reset");
  });
  if (fn === TaskFunction.ABORT_TASK) {
    const task = session.find(view.getUint32(bhs + Field.REFERENCED_TAG));
    if (!task) return answer(FunctionResponse.NO_TASK);
    pending.add(session, task);
  } else if (fn === TaskFunction.ABORT_TASK_SET) pending.addAll(session);
  else {
    for (const other of target.sessions) {
      if (fn === TaskFunction.CLEAR_TASK_SET && other !== session && other.live > 0) {
        other.nexus.attend(Asc.COMMANDS_CLEARED);
      }
      pending.addAll(other);
    }
    if (fn !== TaskFunction.CLEAR_TASK_SET) session.unit.reset();
  }
  pending.taskGone(); // the one it started with
}
