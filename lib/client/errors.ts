/**
 * What can go wrong in a client's driver, apart from calls that fail (`RpcError`).
 *
 * @module
 */

/** A driver refuses: the volume is in no state for it, or an argument makes no sense. Nothing was changed. */
export class ClientError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "ClientError";
}

/** What one replica answered. */
export interface ReplicaFailure {
  /** The replica, as the engine names it. */
  readonly address: string;
  /** What failed. */
  readonly message: string;
}

/** A call that went to several replicas failed on some of them. */
export class ReplicasError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "ReplicasError";

  /**
   * Joins the failures.
   *
   * @param failures at least one
   */
  constructor(readonly failures: readonly ReplicaFailure[]) {
    super(failures.map(({ address, message }) => `${address}: ${message}`).join("; "));
  }

  /** The form that managers parse: `{"ReplicaErrors":[{"Address":…,"Message":…}]}`. */
  toJSON(): { ReplicaErrors: { Address: string; Message: string }[] } {
    return {
      ReplicaErrors: this.failures.map(({ address, message }) => ({ Address: address, Message: message })),
    };
  }
}

/** The text of whatever was thrown. */
export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
