/**
 * Reading what `iscsiadm` of open-iscsi prints. Lines that do not look like what is known are left out: releases
 * differ, and a line more must not stop a volume.
 *
 * @module
 */

/** Exit codes of iscsiadm that mean something here (open-iscsi, `include/iscsi_err.h`). */
export const IscsiExit = {
  /** No session of this name. */
  SESSION_NOT_FOUND: 2,
  /** The transport is down: `iscsid` or the kernel module is missing. */
  TRANSPORT: 4,
  /** The target did not answer in time. */
  TRANSPORT_TIMEOUT: 8,
  /** There is such a session already. */
  SESSION_EXISTS: 15,
  /** `iscsid` does not run. */
  NO_DAEMON: 20,
  /** No record, session or target of this kind. */
  NOTHING_FOUND: 21,
} as const;

const EXPLANATIONS: Readonly<Record<number, string>> = {
  1: "iscsiadm failed for a reason that it does not name",
  2: "the session was not found",
  4: "the transport does not work; is the kernel module iscsi_tcp loaded?",
  5: "the login failed",
  6: "the records below /etc/iscsi or /var/lib/iscsi cannot be read or written",
  8: "the target did not answer in time",
  10: "the logout failed",
  11: "a request was not answered in time",
  12: "the kernel has no iSCSI transport: modprobe iscsi_tcp",
  13: "it has to be run as root",
  15: "a session exists already",
  19: "the target refused the login for good",
  20: "iscsid does not run: systemctl start iscsid",
  21: "no such record, session or target",
  24: "the target refused the credentials",
};

/** What an exit code of iscsiadm means, for people. */
export function explainExit(code: number): string {
  return EXPLANATIONS[code] ?? `exit code ${code}`;
}

/** Address of a portal. */
export interface Portal {
  /** Without brackets. */
  readonly host: string;
  /** TCP port. */
  readonly port: number;
}

/** TCP port of iSCSI. */
export const ISCSI_PORT = 3260;

/** A portal as iscsiadm takes it; the usual port is left out. */
export function formatPortal({ host, port }: Portal): string {
  const address = host.includes(":") ? `[${host}]` : host;
  return port === ISCSI_PORT ? address : `${address}:${port}`;
}

/** Reads `10.0.0.1:3260`, `[fe80::1]:3260`, with or without `,TAG`; null for something else. */
export function parsePortal(text: string): Portal | null {
  const match = /^(?:\[([0-9a-fA-F:.%\w]+)\]|([^\s:[\],]+)):(\d+)(?:,\d+)?$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  return host === undefined ? null : { host, port: Number(match?.[3]) };
}

/** A target and where it was said to be. */
export interface TargetPortal {
  /** Where. */
  readonly portal: Portal;
  /** Its name. */
  readonly target: string;
}

/** Reads what a discovery, or `-m node`, prints: `10.0.0.1:3260,1 iqn...` a line. */
export function parseNodes(text: string): TargetPortal[] {
  return text.split("\n").flatMap((line) => {
    const match = /^(\S+),-?\d+ (\S+)$/.exec(line.trim());
    const portal = match ? parsePortal(match[1] ?? "") : null;
    return portal && match?.[2] ? [{ portal, target: match[2] }] : [];
  });
}

/** A session as `-m session` lists it. */
export interface IscsiSession extends TargetPortal {
  /** Number of the session. */
  readonly id: number;
}

/** Reads `tcp: [1] 10.0.0.1:3260,1 iqn... (non-flash)`. */
export function parseSessions(text: string): IscsiSession[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\w+: \[(\d+)\] (\S+?),-?\d+ (\S+)/.exec(line.trim());
    const portal = match ? parsePortal(match[2] ?? "") : null;
    return portal && match?.[3] ? [{ id: Number(match[1]), portal, target: match[3] }] : [];
  });
}

/** A disk of a session. */
export interface SessionDisk {
  /** Number of the logical unit. */
  readonly lun: number;
  /** The kernel's name, such as `sdb`; null while the kernel looks at it. */
  readonly name: string | null;
  /** The kernel's word for its state, such as `running`, `blocked` or `transport-offline`; empty: unknown. */
  readonly state: string;
}

/** A session as `-m session -P 3` shows it. */
export interface SessionDetails extends TargetPortal {
  /** Such as `LOGGED_IN` or `FAILED`. */
  readonly state: string;
  /** Its disks. */
  readonly disks: readonly SessionDisk[];
}

interface Draft {
  target: string;
  portal: Portal | null;
  persistent: Portal | null;
  state: string;
  disks: { lun: number; name: string | null; state: string }[];
}

/**
 * Reads `-m session -P 3`. A target with several sessions begins each one with its current portal; the portal that
 * is told is the persistent one, under which the record was made.
 */
export function parseSessionDetails(text: string): SessionDetails[] {
  const drafts: Draft[] = [];
  let target = "";
  for (const line of text.split("\n")) {
    const named = /^Target: (\S+)/.exec(line);
    if (named?.[1]) {
      target = named[1];
      continue;
    }
    const field = /^\s*([\w ]+?):\s*(.*?)\s*$/.exec(line);
    if (field?.[1] === "Current Portal") {
      drafts.push({ target, portal: parsePortal(field[2] ?? ""), persistent: null, state: "", disks: [] });
    }
    const draft = drafts.at(-1);
    if (!draft || draft.target !== target) continue;
    if (field?.[1] === "Persistent Portal") draft.persistent = parsePortal(field[2] ?? "");
    if (field?.[1] === "iSCSI Session State") draft.state = field[2] ?? "";
    const unit = /^\s*scsi\d+ Channel \d+ Id \d+ Lun: (\d+)\s*$/.exec(line);
    if (unit) draft.disks.push({ lun: Number(unit[1]), name: null, state: "" });
    const disk = /^\s*Attached scsi disk (\S+)(?:\s+State: (\S+))?/.exec(line);
    const last = draft.disks.at(-1);
    if (disk && last) {
      last.name = disk[1] ?? null;
      last.state = disk[2] ?? "";
    }
  }
  return drafts.flatMap(({ target, portal, persistent, state, disks }) => {
    const at = persistent ?? portal;
    return at === null || target === "" ? [] : [{ target, portal: at, state, disks }];
  });
}

/** Reads a record of `-m node -o show`: `name = value` lines. The first of several records wins. */
export function parseRecord(text: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const line of text.split("\n")) {
    const match = /^([\w.[\]-]+) = (.*)$/.exec(line.trim());
    const name = match?.[1];
    if (name !== undefined && !values.has(name)) values.set(name, match?.[2] ?? "");
  }
  return values;
}
