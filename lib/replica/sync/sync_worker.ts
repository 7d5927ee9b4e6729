/**
 * A thread for long jobs: takes jobs from the main thread and runs them side by side in its event loop.
 *
 * @module
 */
import { RpcError } from "../../rpc/errors.ts";
import { hashFile } from "./hash_file.ts";
import type { JobContext } from "./job.ts";
import type { FromWorker, ToWorker } from "./workers.ts";

/** The jobs; each checks its own parameters. */
const JOBS: Readonly<Record<string, (params: unknown, context: JobContext) => Promise<unknown>>> = {
  hash: (params, context) => hashFile(params as Parameters<typeof hashFile>[0], context),
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
