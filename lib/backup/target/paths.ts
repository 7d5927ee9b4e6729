/**
 * Paths within a target, before they become part of a URL or of a file's name. The core makes them of names that
 * came from outside, so this is the last fence.
 *
 * @module
 */
import { TargetError } from "./target.ts";

/** Longest path, bytes in UTF-8: keys of S3 end here. */
export const MAX_PATH_BYTES = 1024;

/**
 * Checks a path: parts that are neither empty nor `.` or `..`, no control characters, not too long.
 *
 * @param prefix true for what a listing begins with: it may be empty, and its last part may be incomplete
 * @throws {TargetError}
 */
export function checkPath(path: string, operation: string, url: string, prefix = false): void {
  const refuse = (why: string): never => {
    throw new TargetError(`not a path of a target: ${why}`, { operation, path, url, retryable: false });
  };
  if (new TextEncoder().encode(path).length > MAX_PATH_BYTES) refuse(`longer than ${MAX_PATH_BYTES} bytes`);
  // deno-lint-ignore no-control-regex
  if (/[\x00-\x1f\x7f]/.test(path)) refuse("it has control characters");
  const parts = path.split("/");
  if (prefix && parts.at(-1) === "") parts.pop();
  for (const part of parts) {
    if (part === "" || part === "." || part === "..") refuse(`it has an empty part, "." or ".."`);
  }
}
