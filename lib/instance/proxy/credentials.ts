/**
 * Access data of backup targets as they come to the proxy, `KEY=VALUE` each, and go to a replica's sync agent with
 * the call. They are never put into the environment of this process, where two calls would mix.
 *
 * @module
 */
import { Code, RpcError } from "../../rpc/errors.ts";

/** Variables that are let through; any other rejects a call (Longhorn's list). */
const NAMES: ReadonlySet<string> = new Set([
  "AWS_ACCESS_KEY_ID",
  "AWS_SECRET_ACCESS_KEY",
  "AWS_ENDPOINTS",
  "AWS_CERT",
  "VIRTUAL_HOSTED_STYLE",
  "AWS_SIGN_ACCEPT_ENCODING",
  "CIFS_USERNAME",
  "CIFS_PASSWORD",
  "AZBLOB_ACCOUNT_NAME",
  "AZBLOB_ACCOUNT_KEY",
  "AZBLOB_ENDPOINT",
  "AZBLOB_CERT",
  "HTTP_PROXY",
  "HTTPS_PROXY",
  "NO_PROXY",
]);

/** Reads the list of a request. The error names a key, never a value. @throws RpcError with INVALID_ARGUMENT */
export function credentialsOf(envs: readonly string[]): Record<string, string> {
  const result: Record<string, string> = {};
  for (const env of envs) {
    const at = env.indexOf("=");
    if (at < 1) {
      throw new RpcError(Code.INVALID_ARGUMENT, "access data for the backup target: expected KEY=VALUE");
    }
    const key = env.slice(0, at);
    if (!NAMES.has(key)) {
      throw new RpcError(
        Code.INVALID_ARGUMENT,
        `access data for the backup target: ${JSON.stringify(key.slice(0, 64))} is no known key`,
      );
    }
    result[key] = env.slice(at + 1);
  }
  return result;
}
