/**
 * What a job in a thread of its own knows of the world that asked for it.
 *
 * @module
 */
import { Code, RpcError } from "../../rpc/errors.ts";

/** See the module text. */
export interface JobContext {
  /** Aborted when the job shall end early. */
  readonly signal: AbortSignal;
  /** Reports something. */
  event(event: unknown): void;
  /** Sets who is told the news, such as another limit. */
  onTell(listener: (value: unknown) => void): void;
}

/** Ends a job that was cancelled. @throws {RpcError} CANCELLED */
export function checkCancelled(signal: AbortSignal): void {
  if (signal.aborted) throw new RpcError(Code.CANCELLED, "the job was cancelled");
}

/** Waits; ends early when the job is cancelled. @throws {RpcError} CANCELLED */
export function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const cancelled = () => new RpcError(Code.CANCELLED, "the job was cancelled");
    if (signal?.aborted) return reject(cancelled());
    const stop = () => {
      clearTimeout(timer);
      reject(cancelled());
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
