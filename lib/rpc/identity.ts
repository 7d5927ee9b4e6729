/**
 * Who a server is. A caller says whom it means; a server that is somebody else refuses. This catches calls that
 * reach a recycled port: the address is right, the process behind it is not.
 *
 * | metadata key | content |
 * |---|---|
 * | `volume-name` | name of the volume |
 * | `instance-name` | name of the engine or replica instance |
 *
 * A name is only compared if both sides give one. Only unary calls are checked, as by other implementations.
 *
 * @module
 */

import { Code, RpcError } from "./errors.ts";

/** Metadata keys. */
const VOLUME_NAME = "volume-name";
const INSTANCE_NAME = "instance-name";

/** Whom a client means, or who a server is. Empty or absent = not known. */
export interface Identity {
  /** Name of the volume. */
  readonly volumeName?: string;
  /** Name of the engine or replica instance. */
  readonly instanceName?: string;
}

/** Who a server is. */
export interface ServerIdentity extends Identity {
  /** What kind of address the caller should look at; part of the error text. The sync agent says "replica". */
  readonly role: "controller" | "replica";
}

/** The metadata that a client sends for an identity. */
export function identityMetadata(identity: Identity): Record<string, string> {
  const metadata: Record<string, string> = {};
  if (identity.volumeName) metadata[VOLUME_NAME] = identity.volumeName;
  if (identity.instanceName) metadata[INSTANCE_NAME] = identity.instanceName;
  return metadata;
}

/**
 * Checks whom a caller means.
 *
 * @param own who the server is
 * @param metadata reads a metadata key of the call
 * @throws RpcError with FAILED_PRECONDITION when the caller means somebody else
 */
export function checkIdentity(own: ServerIdentity, metadata: (key: string) => string | undefined): void {
  const check = (what: string, key: string, mine: string | undefined): void => {
    const meant = metadata(key);
    if (!mine || !meant || mine === meant) return;
    throw new RpcError(
      Code.FAILED_PRECONDITION,
      `incorrect ${what} name ${meant}; check ${own.role} address`,
    );
  };
  check("volume", VOLUME_NAME, own.volumeName);
  check("instance", INSTANCE_NAME, own.instanceName);
}
