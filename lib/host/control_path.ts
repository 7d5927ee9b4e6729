/**
 * Where Longhorn's programs, and ours, keep what belongs to the node rather than to a volume.
 *
 * @module
 */

/** The directory unless the environment names another one. */
const CONTROL_PATH = "/var/lib/longhorn";

/**
 * The node's control directory, without a slash at the end.
 *
 * @param given value of LONGHORN_CONTROL_PATH; what is relative, `/`, or `/dev` and below gives the default, as in
 *   Longhorn
 */
export function controlPath(given: string | undefined): string {
  const path = (given ?? "").replace(/\/+$/, "");
  return path.startsWith("/") && path !== "/dev" && !path.startsWith("/dev/") ? path : CONTROL_PATH;
}
