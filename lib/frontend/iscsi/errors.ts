/**
 * What ends an iSCSI connection early: one class with a machine-readable code and a text that names the input.
 *
 * @module
 */

/** Why a connection was ended. */
export type CloseCode =
  | "bad-header"
  | "digest"
  | "too-long"
  | "sequence"
  | "protocol"
  | "login"
  | "timeout"
  | "reinstated"
  | "reset"
  | "stopping"
  | "logout"
  | "socket"
  | "resources";

/** A connection ends because of this; goes to the log, never to the peer. */
export class ConnectionError extends Error {
  /** The class, for logs. */
  override readonly name = "ConnectionError";

  /**
   * Names what came in.
   *
   * @param code the kind, for counting
   * @param message what came in and what was expected instead
   */
  constructor(readonly code: CloseCode, message: string, options?: ErrorOptions) {
    super(message, options);
  }
}

/** Text of a login or text request that breaks RFC 7143 section 6.1. */
export class TextError extends Error {
  /** The class, for logs. */
  override readonly name = "TextError";
}

/** A setting of the frontend that cannot work. */
export class SettingError extends Error {
  /** The class, for logs. */
  override readonly name = "SettingError";
}
