/**
 * The target, as its connections see it.
 *
 * @module
 */
import type { Connection } from "./connection.ts";
import type { CloseCode } from "./errors.ts";
import type { LoginPolicy } from "./login.ts";
import type { Parameters } from "./negotiation.ts";
import type { Timing } from "./options.ts";
import type { Session } from "./session.ts";

/** What connections need of the target. */
export interface Target {
  /** Time limits. */
  readonly timing: Timing;
  /** Who is let in, and to what. */
  readonly policy: LoginPolicy;
  /** Sessions that are open, or end. */
  readonly sessions: readonly Session[];
  /** True when the 8 bytes name our logical unit. */
  isOurs(lunHigh: number, lunLow: number): boolean;
  /** Answers `SendTargets`. */
  sendTargets(wanted: string, parameters: Parameters): [string, string][];
  /** Opens a session, after the end of one it replaces; `done(undefined)` when there is no room. */
  openSession(
    connection: Connection,
    parameters: Parameters,
    isid: string,
    done: (session: Session | undefined) => void,
  ): void;
  /** A connection is over; its session ends with it. */
  connectionClosed(connection: Connection): void;
  /** Ends all connections after what they have queued. */
  closeAll(code: CloseCode, message: string): void;
}
