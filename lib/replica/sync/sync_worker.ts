/**
 * A thread for long jobs: takes jobs from the main thread and runs them side by side in its event loop.
 *
 * @module
 */
import { RpcError } from "../../rpc/errors.ts";
import { backupSnapshot } from "./backup_job.ts";
import { loadSums } from "./batches.ts";
import { exportSnapshot } from "./export_job.ts";
import { hashFile } from "./hash_file.ts";
import type { JobContext } from "./job.ts";
import { receive } from "./receiver.ts";
import { sendFile } from "./sender.ts";
import { restoreSnapshot } from "./restore_job.ts";
import type { FromWorker, ToWorker } from "./workers.ts";

/** The jobs; their parameters come from the main thread, which checked what came from outside. */
const JOBS: Readonly<Record<string, (params: unknown, context: JobContext) => Promise<unknown>>> = {
  backup: (params, context) => backupSnapshot(params as Parameters<typeof backupSnapshot>[0], context),
  restore: (params, context) => restoreSnapshot(params as Parameters<typeof restoreSnapshot>[0], context),
  export: (params, context) => exportSnapshot(params as Parameters<typeof exportSnapshot>[0], context),
  prepare: () => loadSums(),
  hash: (params, context) => hashFile(params as Parameters<typeof hashFile>[0], context),
  receive: (params, context) => receive(params as Parameters<typeof receive>[0], context),
  send: (params, context) => sendFile(params as Parameters<typeof sendFile>[0], context),
};

interface Scope {
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
  postMessage(message: FromWorker): void;
}

const scope = self as unknown as Scope;
const running = new Map<number, { controller: AbortController; tell: (value: unknown) => void }>();

async function start(id: number, kind: string, params: unknown): Promise<void> {
  const controller = new AbortController();
  const entry = { controller, tell: (_value: unknown) => {} };
  running.set(id, entry);
  const context: JobContext = {
    signal: controller.signal,
    event: (event) => scope.postMessage({ id, event }),
    onTell: (listener) => entry.tell = listener,
  };
  try {
    const job = JOBS[kind];
    if (!job) throw new TypeError(`no job ${kind}`);
    scope.postMessage({ id, done: await job(params, context) });
  } catch (error) {
    const code = error instanceof RpcError ? error.code : undefined;
    scope.postMessage({
      id,
      error: { message: error instanceof Error ? error.message : String(error), code },
    });
  } finally {
    running.delete(id);
  }
}

scope.onmessage = ({ data }) => {
  if ("kind" in data) start(data.id, data.kind, data.params);
  else if ("cancel" in data) running.get(data.id)?.controller.abort();
  else running.get(data.id)?.tell(data.tell);
};
