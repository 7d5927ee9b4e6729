/**
 * Opening a target by its URL. This is what everything outside this directory calls.
 *
 * @module
 */
import { openAzure } from "./azblob.ts";
import type { Credentials } from "./credentials.ts";
import { openDirectory } from "./directory.ts";
import { HttpError } from "./http_message.ts";
import { openS3 } from "./s3.ts";
import { openShare, type ShareMounter } from "./share.ts";
import { type Target, TargetError } from "./target.ts";
import { parseTargetUrl } from "./url.ts";

/** What opening needs beside the URL and the credentials. */
export interface OpenOptions {
  /** Mounts shares; without it nfs and cifs targets are refused. See `ShareMounts` of `lib/host/share_mounts.ts`. */
  readonly mounter?: ShareMounter;
}

/**
 * Opens a target. Dispose it when it is no longer used. Object stores are not asked anything yet: wrong keys show
 * with the first call.
 *
 * @throws {TargetUrlError} when the URL names no target
 * @throws {CredentialError} when credentials are missing or cannot be right
 * @throws {TargetError} when the directory is not there or the share cannot be mounted
 */
export async function openTarget(
  url: string,
  credentials: Credentials,
  options: OpenOptions = {},
): Promise<Target> {
  const address = parseTargetUrl(url);
  const refuse = (problem: string, cause?: unknown): TargetError =>
    new TargetError(problem, { operation: "open", path: "", url, retryable: false, cause });
  try {
    switch (address.kind) {
      case "s3":
        return openS3(address, credentials);
      case "azblob":
        return openAzure(address, credentials);
      case "directory":
        return await openDirectory(address.path, url);
      case "nfs":
      case "cifs":
        if (options.mounter === undefined) throw refuse("shares cannot be mounted by this program");
        return await openShare(address, credentials, options.mounter);
    }
  } catch (error) {
    if (error instanceof HttpError) throw refuse(error.message, error);
    throw error;
  }
}
