/**
 * The file of a unix socket that a server is about to listen on.
 *
 * @module
 */

import { Code, RpcError } from "./errors.ts";

/** Mode of the socket file: whoever may connect controls volumes. */
export const SOCKET_MODE = 0o600;

async function isListening(path: string): Promise<boolean> {
  try {
    (await Deno.connect({ transport: "unix", path })).close();
    return true;
  } catch {
    return false;
  }
}

/**
 * Removes a socket file that a killed server left behind, so that binding works.
 *
 * @throws RpcError with UNAVAILABLE when something listens there or the file is no socket
 */
export async function prepareSocketPath(path: string): Promise<void> {
  let info: Deno.FileInfo;
  try {
    info = await Deno.lstat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  const refuse = (why: string): RpcError =>
    new RpcError(Code.UNAVAILABLE, `cannot listen on unix:${path}: ${why}; choose another path`);
  if (!info.isSocket) throw refuse("a file that is no socket is there");
  if (await isListening(path)) throw refuse("another server listens there");
  await Deno.remove(path);
}
