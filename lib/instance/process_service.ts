/**
 * ProcessManagerService: the processes of the node, for callers of Longhorn's instance manager.
 *
 * @module
 */
import type { Handlers } from "../rpc/mod.ts";
import type { ProcessManagerMethods } from "../rpc/imrpc.ts";
import type { LogDirectory } from "./log_file.ts";
import { checkName } from "./names.ts";
import type { ProcessSpec } from "./record.ts";
import type { ProcessTable, ProcessView } from "./table.ts";
import { managerVersion } from "./version.ts";

/** A specification as it comes in a request; fields may be absent. */
export interface SpecMessage {
  /** Name. */
  readonly name?: string | null;
  /** Program. */
  readonly binary?: string | null;
  /** Arguments. */
  readonly args?: readonly string[] | null;
  /** Ports. */
  readonly portCount?: number | null;
  /** Port arguments. */
  readonly portArgs?: readonly string[] | null;
}

/** Reads a specification; what is absent is empty, and refused later where it is needed. */
export function specOf(message: SpecMessage | null | undefined): ProcessSpec {
  return {
    name: message?.name ?? "",
    binary: message?.binary ?? "",
    args: [...message?.args ?? []],
    portCount: message?.portCount ?? 0,
    portArgs: [...message?.portArgs ?? []],
  };
}

/** A `ProcessResponse`. */
export interface ProcessMessage {
  /** What was asked for. */
  spec: { name: string; binary: string; args: string[]; portCount: number; portArgs: string[] };
  /** How it is. */
  status: {
    state: string;
    errorMsg: string;
    portStart: number;
    portEnd: number;
    conditions: Record<string, boolean>;
    uuid: string;
  };
  /** It is being deleted, or is gone. */
  deleted: boolean;
}

/** A process as a `ProcessResponse`. */
export function processMessage({ record, conditions, deleted }: ProcessView): ProcessMessage {
  return {
    spec: {
      name: record.name,
      binary: record.binary,
      args: [...record.args],
      portCount: record.portCount,
      portArgs: [...record.portArgs],
    },
    status: {
      state: record.state,
      errorMsg: record.error,
      portStart: record.portStart,
      portEnd: record.portEnd,
      conditions: { ...conditions },
      uuid: record.uuid,
    },
    deleted,
  };
}

/** The lines of a log, one message each. @throws RpcError with NOT_FOUND for a process that is not there */
export async function* logMessages(
  table: ProcessTable,
  logs: LogDirectory,
  name: string,
): AsyncGenerator<{ line: string }> {
  checkName(name);
  table.get(name);
  for (const line of logs.lines(name)) yield { line };
}

/** Changes in the form that a watch sends, from the moment of this call. */
export async function* watchMessages<T>(
  changes: AsyncIterable<ProcessView>,
  message: (view: ProcessView) => T,
): AsyncGenerator<T> {
  for await (const view of changes) yield message(view);
}

/** The handlers. */
export function processHandlers(table: ProcessTable, logs: LogDirectory): Handlers<ProcessManagerMethods> {
  return {
    processCreate: (request) => processMessage(table.create(specOf(request.spec))),
    processDelete: (request) => processMessage(table.delete(request.name, request.uuid)),
    processGet: (request) => processMessage(table.view(table.get(request.name))),
    processList: () => ({
      processes: Object.fromEntries(
        [...table.all()].map((one) => [one.record.name, processMessage(table.view(one))]),
      ),
    }),
    processLog: (request) => logMessages(table, logs, request.name),
    processWatch: (_request, call) => watchMessages(table.changes.watch(call.signal), processMessage),
    processReplace: async (request) =>
      processMessage(await table.replace(specOf(request.spec), request.terminateSignal)),
    versionGet: () => managerVersion(),
  };
}
