/**
 * The calls of the main thread that change a replica's chain of disks.
 *
 * @module
 */
import { ChangeFailedError, ReplicaStateError } from "../disk/errors.ts";
import { foldProblem } from "../disk/folds.ts";
import type { ReplicaDisk } from "../disk/replica_disk.ts";
import type { Completer } from "../io/io.ts";
import type { Handlers, Reply } from "../io/mailbox_server.ts";
import { RollbackError, type RollbackOutcome } from "../rpc/errors.ts";
import type { ReplicaDescription } from "./description.ts";
import type { Quiet } from "./quiet.ts";

/** What the calls need of the replica. */
export interface ChainCallsHost {
  /** Work while no request is under way. */
  readonly quiet: Quiet;
  /** True when the directory is open. */
  readonly isOpen: boolean;
  /** The open directory. @throws {Error} when it is not open */
  opened(): ReplicaDisk;
  /** Grows the volume and what depends on its size. Only in a quiet moment. @throws {Error} */
  grow(bytes: number): void;
  /** What ReplicaGet answers. */
  describe(): ReplicaDescription;
}

type Body = Record<string, unknown>;

/** The calls. Each answers with the replica's description, except `prepareRemove`. */
export function chainHandlers(host: ChainCallsHost): Handlers {
  const quietly = (work: (body: Body) => void) => (body: unknown, reply: Reply) =>
    host.quiet.run(() => work(body as Body), (error) => answer(host, reply, error));
  // Begun in a quiet moment, answered when it is over.
  const folding =
    (begin: (disk: ReplicaDisk, body: Body, who: Completer) => void) => (body: unknown, reply: Reply) => {
      const over: Completer = {
        complete: (_tag, result) => answer(host, reply, foldProblem(result, String((body as Body).source))),
      };
      host.quiet.run(() => begin(host.opened(), body as Body, over), (error) => {
        if (error !== undefined) reply.error(error);
      });
    };
  return {
    snapshot: (body, reply) => {
      const { name, userCreated, created, labels } = body as Body;
      const given = [
        required(name, "the snapshot's name"),
        required(created, "the snapshot's time"),
      ] as const;
      afterFlush(host.opened(), () =>
        host.quiet.run(() =>
          host.opened().changes.snapshot(given[0], {
            userCreated: userCreated === true,
            created: given[1],
            labels: labelsOf(labels),
          }), (error) => answer(host, reply, error)));
    },
    expand: (body, reply) => {
      const bytes = Number((body as Body).bytes);
      const grow = () =>
        host.quiet.run(() => host.grow(bytes), (error) => answer(host, reply, rollback(error)));
      try {
        afterFlush(host.opened(), grow);
      } catch (error) {
        throw rollback(error);
      }
    },
    revert: quietly(({ name, created }) =>
      host.opened().changes.revert(required(name, "the disk's name"), required(created, "the head's time"))
    ),
    reload: (body, reply) => {
      if (!host.isOpen) return reply.ok(host.describe());
      quietly(() => host.opened().changes.reload())(body, reply);
    },
    removeDisk: quietly(({ name, force }) => host.opened().changes.remove(String(name), force === true)),
    replaceDisk: quietly(({ target, source }) =>
      host.opened().changes.replace(String(target), String(source))
    ),
    coalesce: folding((disk, { source, target }, who) =>
      disk.folds.coalesce(String(source), String(target), disk.info().head, who, 0)
    ),
    prune: folding((disk, { source }, who) => disk.folds.prune(String(source), disk.info().head, who, 0)),
    prepareRemove: (body, reply) =>
      reply.ok({ operations: host.opened().changes.prepareRemove(String((body as Body).name)) }),
    markRemoved: (body, reply) => {
      host.opened().markRemoved(String((body as Body).name));
      reply.ok(host.describe());
    },
  };
}

function answer(host: ChainCallsHost, reply: Reply, error: unknown): void {
  if (error !== undefined) return reply.error(error);
  try {
    reply.ok(host.describe());
  } catch (problem) {
    reply.error(problem);
  }
}

function required(value: unknown, what: string): string {
  if (typeof value !== "string" || value === "") throw new ReplicaStateError(`${what} is missing`);
  return value;
}

function labelsOf(labels: unknown): ReadonlyMap<string, string> | undefined {
  if (typeof labels !== "object" || labels === null) return undefined;
  const entries = Object.entries(labels);
  return entries.length === 0 ? undefined : new Map(entries.map(([key, value]) => [key, String(value)]));
}

/**
 * Syncs most of the data while requests go on, so that little is left for the quiet moment. Whether that
 * succeeded is asked then: a failed flush makes the replica bad.
 */
function afterFlush(disk: ReplicaDisk, then: () => void): void {
  if (disk.room === 0) return then();
  const flushed: Completer = { complete: () => then() };
  disk.flush(flushed, 0);
}

/** The error of an expansion, with what became of it. Nothing was changed by what is refused beforehand. */
function rollback(error: unknown): unknown {
  if (error === undefined) return undefined;
  if (!(error instanceof Error)) return error;
  let outcome: RollbackOutcome = "FunctionFailedWithoutRollback", reason = error.message, undo = "";
  if (error instanceof ChangeFailedError) {
    outcome = error.undoProblem === "" ? "FunctionFailedRollbackSucceeded" : "FunctionFailedRollbackFailed";
    reason = error.problem;
    undo = error.undoProblem;
  }
  return new RollbackError(outcome, reason, undo, { cause: error });
}
