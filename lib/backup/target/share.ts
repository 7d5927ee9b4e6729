/**
 * NFS and CIFS targets: a share that the kernel mounts, and then a directory. What mounts is handed in, because it
 * runs programs of the host.
 *
 * | kind | tried, in this order | options unless the URL has some |
 * | --- | --- | --- |
 * | nfs | version 4.2, 4.1, 4.0, unless the URL's options name one | `actimeo=1,soft,timeo=300,retry=2` |
 * | cifs | what client and server agree on | `soft` |
 *
 * `soft` because a target that is away must give errors rather than hang for ever. The places are those that
 * Longhorn uses, so a share that one of both has mounted serves the other.
 *
 * @module
 */
import type { Credentials } from "./credentials.ts";
import { type DirectoryOptions, openDirectory } from "./directory.ts";
import { type Target, TargetError } from "./target.ts";
import type { ShareAddress } from "./url.ts";

/** Directory below which shares are mounted. */
export const MOUNT_DIRECTORY = "/var/lib/longhorn-backupstore-mounts";

/** A mount that is wanted. */
export interface ShareMount {
  /** Type of the file system. */
  readonly type: "nfs" | "cifs";
  /** What is mounted: `host:/export` or `//host/share`. */
  readonly source: string;
  /** Where. */
  readonly directory: string;
  /** Lists of options, to be tried in this order. */
  readonly tries: readonly (readonly string[])[];
  /** Name and password, where the share wants some. */
  readonly login?: {
    /** Name of the user. */
    readonly username: string;
    /** Password. */
    readonly password: string;
  };
}

/** What mounts shares. */
export interface ShareMounter {
  /**
   * Mounts a share, or finds it mounted. It stays mounted: the next call uses it again.
   *
   * @throws Error that says what is missing on this machine, or what the server said
   */
  mount(share: ShareMount): Promise<void>;
}

const NFS_VERSIONS = ["4.2", "4.1", "4.0"];
const NFS_OPTIONS = ["actimeo=1", "soft", "timeo=300", "retry=2"];

/** The mount that an address stands for. @param login for CIFS */
export function shareMount(
  address: ShareAddress,
  credentials: Credentials,
  mountDirectory: string = MOUNT_DIRECTORY,
): ShareMount {
  const { kind, host, path } = address;
  const directory = `${mountDirectory}/${host.replaceAll(".", "_")}${path === "/" ? "" : path}`;
  if (kind === "cifs") {
    const source = `//${host}${path}`, tries = [address.options ?? ["soft"]];
    const username = credentials.get("CIFS_USERNAME"), password = credentials.get("CIFS_PASSWORD");
    if (username === undefined) return { type: "cifs", source, directory, tries };
    return { type: "cifs", source, directory, tries, login: { username, password: password ?? "" } };
  }
  const options = address.options ?? NFS_OPTIONS;
  const tries = options.some((option) => /^(?:nfs)?vers=/.test(option))
    ? [options]
    : NFS_VERSIONS.map((version) => [`vers=${version}`, ...options]);
  return { type: "nfs", source: `${host}:${path}`, directory, tries };
}

/** Mounts a share and opens it as a target. It stays mounted when the target is disposed. */
export async function openShare(
  address: ShareAddress,
  credentials: Credentials,
  mounter: ShareMounter,
  options: DirectoryOptions & { readonly mountDirectory?: string } = {},
): Promise<Target> {
  const share = shareMount(address, credentials, options.mountDirectory);
  try {
    await mounter.mount(share);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new TargetError(why, { operation: "mount", path: "", url: address.url, retryable: false, cause });
  }
  return await openDirectory(share.directory, address.url, options);
}
