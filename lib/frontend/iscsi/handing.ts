/**
 * What an iSCSI target hands to the one that goes on for it in another process: JSON.
 *
 * A session passes between two commands. To get there the target stops to show room in the command window; the
 * initiator then runs out of it, and with the last answer nothing of the session is under way.
 *
 * @module
 */
import { type Standstill, toBase64 } from "../standstill.ts";
import type { Connection } from "./connection.ts";
import { Parameters } from "./negotiation.ts";
import { Nexus } from "./scsi/nexus.ts";
import type { ReservationState } from "./scsi/reservations.ts";
import type { LogicalUnit } from "./scsi/unit.ts";

/** How long a live upgrade waits for a login under way, milliseconds: nobody's I/O waits for that. */
const LOGIN_GRACE_MS = 500;

/** A logged-in session, or `null` for a connection that has not said anything yet. */
export interface HandedSession {
  /** Session handle. */
  readonly tsih: number;
  /** Next command number. */
  readonly expCmdSN: number;
  /** What was agreed on; fields that the other version does not know keep their defaults. */
  readonly parameters: Readonly<Record<string, unknown>>;
  /** Initiator session id, 12 hexadecimal digits. */
  readonly isid: string;
  /** Unit attentions not told yet, additional sense codes. */
  readonly attentions: readonly number[];
  /** PREVENT ALLOW MEDIUM REMOVAL said prevent. */
  readonly preventsRemoval: boolean;
}

/** One connection. Its descriptor has the same place, behind the listener's. */
export interface HandedConnection {
  /** Received and not used, base64. */
  readonly unread: string;
  /** Connection id. */
  readonly cid: number;
  /** StatSN of the next response. */
  readonly statSN: number;
  /** Its session. */
  readonly session: HandedSession | null;
}

/** The whole target. */
export interface HandedTarget {
  /** Host and port it listens on. */
  readonly host: string;
  /** Mode pages as they are. */
  readonly modePages: readonly (readonly number[])[];
  /** Who holds the disk. */
  readonly reservations: ReservationState;
  /** Connections. */
  readonly connections: readonly HandedConnection[];
}

/**
 * Suspends connections and waits for their rest. Who does not come to rest is closed: initiators log in again and
 * repeat what had no answer.
 *
 * @param connections of the target; who is closed disappears from it
 * @param quiet true when nothing else of the target is under way
 */
export function comeToRest(
  standstill: Standstill,
  connections: readonly Connection[],
  quiet: () => boolean,
  graceMs: number,
  done: (problem: string) => void,
): void {
  for (const connection of [...connections]) connection.suspend();
  const rests = () => connections.filter((one) => !one.rests()).length === 0 && quiet();
  const close = (whom: (one: Connection) => boolean): void => {
    for (const one of connections.filter((one) => !one.rests() && whom(one))) {
      one.close("stopping", "it did not come to rest for a live upgrade");
    }
  };
  standstill.wait(Math.min(graceMs, LOGIN_GRACE_MS), rests, (still) => {
    if (still) return done("");
    close((one) => one.session === undefined);
    standstill.wait(graceMs, rests, (still) => {
      if (still) return done("");
      close(() => true);
      standstill.wait(graceMs, rests, (still) => done(still ? "" : "commands of an initiator do not end"));
    });
  });
}

/** The state of a target at rest. @param late sockets that have not been looked at yet */
export function stateOf(
  host: string,
  unit: LogicalUnit,
  connections: readonly Connection[],
  late: number,
): HandedTarget {
  const handed = connections.map(({ stream, cid, sender, session }) => ({
    unread: toBase64(stream.unread()),
    cid,
    statSN: sender.statSN,
    session: session?.handed() ?? null,
  }));
  const fresh = Array.from({ length: late }, () => ({ unread: "", cid: 0, statSN: 1, session: null }));
  return {
    host,
    modePages: unit.mode.save(),
    reservations: unit.reservations.save(),
    connections: [...handed, ...fresh],
  };
}

/** The initiator port of a session, again. */
export function restoreNexus(given: HandedSession, parameters: Parameters): Nexus {
  const nexus = new Nexus(parameters.initiatorName, given.isid);
  for (const asc of given.attentions) nexus.attend(asc);
  nexus.preventsRemoval = given.preventsRemoval;
  return nexus;
}

/** What was agreed on, again. */
export function restoreParameters(given: Readonly<Record<string, unknown>>): Parameters {
  const parameters = new Parameters();
  const fields = parameters as unknown as Record<string, unknown>;
  for (const [key, value] of Object.entries(fields)) {
    if (typeof given[key] === typeof value) fields[key] = given[key];
  }
  return parameters;
}
