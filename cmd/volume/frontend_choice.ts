/**
 * Which frontend a volume gets, where it listens, and how people use it.
 *
 * @module
 */
import {
  checkFuse,
  checkLoopDevices,
  checkLosetup,
  checkPrivileges,
  type HostEnvironment,
} from "../../lib/host/checks.ts";
import { SystemRunner } from "../../lib/host/command.ts";
import type { Address } from "../../lib/io/io.ts";
import { parseDataAddress } from "../support/addresses.ts";
import { type FrontendKind, FRONTENDS, isDeviceFrontend, isFrontend } from "../support/frontends.ts";
import { freePorts, isFree } from "../support/free_ports.ts";
import { UsageError } from "../support/program.ts";

/** The ports that clients try first: IANA's for NBD and for iSCSI. */
const PORTS = { nbd: 10809, iscsi: 3260 } as const;
/** Longest path of a unix socket, bytes (unix(7)). */
const MAX_SOCKET_PATH = 107;

/** This machine, for the checks of `lib/host`. */
export function thisHost(dataPaths: readonly string[] = []): HostEnvironment {
  return {
    root: "",
    runner: new SystemRunner(),
    ioUring: { ok: true, detail: "" },
    dataPaths,
  };
}

/** Why a loop device cannot be had here; undefined when it can. */
export async function whyNoLoop(): Promise<string | undefined> {
  const host = thisHost();
  for (const check of [checkPrivileges, checkFuse, checkLoopDevices, checkLosetup]) {
    const { ok, name, detail } = await check(host);
    if (!ok) return `${name}: ${detail}`;
  }
  return undefined;
}

/** What was chosen. */
export interface FrontendChoice {
  /** Never `auto`. */
  readonly kind: FrontendKind;
  /** For `--frontend-listen`; undefined for a loop device. */
  readonly listen: string | undefined;
  /** What people should know about the choice; may be empty. */
  readonly notes: readonly string[];
  /** The user gave no port, so another one is as good. */
  readonly anyPort: boolean;
}

/**
 * The same choice at another port, for when somebody took the one that was found free: volumes that are started
 * together, at the machine's start for one, all look at the same port first.
 */
export function withAnotherPort(choice: FrontendChoice): FrontendChoice {
  return choice.anyPort ? { ...choice, listen: `127.0.0.1:${freePorts(1)}` } : choice;
}

function isLoopback(address: Address): boolean {
  return address.kind === "unix" || address.host === "localhost" || address.host === "::1" ||
    address.host.startsWith("127.");
}

function addressText(address: Address): string {
  if (address.kind === "unix") return `unix:${address.path}`;
  return `${address.host.includes(":") ? `[${address.host}]` : address.host}:${address.port}`;
}

function defaultListen(kind: "nbd" | "iscsi" | "socket", volume: string, directory: string): string {
  if (kind === "socket") {
    const path = `${directory}/${volume}.sock`;
    if (new TextEncoder().encode(path).length > MAX_SOCKET_PATH) {
      throw new UsageError(
        `the path ${path} is too long for a unix socket; choose one with --listen unix:/PATH`,
      );
    }
    return `unix:${path}`;
  }
  const port = isFree(PORTS[kind]) ? PORTS[kind] : freePorts(1);
  return `127.0.0.1:${port}`;
}

/**
 * Chooses. `auto` is a loop device where this machine can, else NBD.
 *
 * @param wanted kind or `auto`
 * @param listen address the user gave
 * @throws {UsageError}
 */
export async function chooseFrontend(
  wanted: string,
  listen: string | undefined,
  { volume, directory, chap }: { volume: string; directory: string; chap: boolean },
): Promise<FrontendChoice> {
  const notes: string[] = [];
  if (wanted !== "auto" && !isFrontend(wanted)) {
    throw new UsageError(`--frontend ${wanted}: choose auto, ${FRONTENDS.join(", ")}`);
  }
  let kind: FrontendKind = wanted === "auto" ? "loop" : wanted;
  if (wanted === "auto" || wanted === "loop") {
    const missing = await whyNoLoop();
    if (missing !== undefined && wanted === "loop") {
      throw new UsageError(`--frontend loop cannot work here: ${missing} (see: drover check)`);
    }
    if (missing !== undefined) {
      kind = "nbd";
      notes.push(`a loop device cannot be had here (${missing}); NBD is used instead`);
    }
  }
  if (kind === "loop" || isDeviceFrontend(kind)) {
    if (listen !== undefined) throw new UsageError("--listen is for the frontends nbd, iscsi and socket");
    return { kind, listen: undefined, notes, anyPort: false };
  }
  const address = parseDataAddress(listen ?? defaultListen(kind, volume, directory));
  if (kind === "iscsi" && address.kind === "unix") throw new UsageError("--listen: iscsi needs HOST:PORT");
  if (!isLoopback(address) && !(kind === "iscsi" && chap)) {
    notes.push(
      `whoever reaches ${addressText(address)} can read and write the volume: ` +
        (kind === "iscsi"
          ? "set CHAP secrets (--chap-file)"
          : `${kind} has no authentication; keep it behind a firewall`),
    );
  }
  return {
    kind,
    listen: addressText(address),
    notes,
    anyPort: listen === undefined && address.kind === "tcp",
  };
}

/** How to use the disk, as commands. */
export function usageHints(kind: string, endpoint: string): string[] {
  switch (isDeviceFrontend(kind) && kind !== "tgt-iscsi" ? "loop" : kind) {
    case "loop":
      return [`mkfs.ext4 ${endpoint} && mount ${endpoint} /mnt     (once; later only mount)`];
    case "nbd":
      return [`nbdinfo '${endpoint}'`, `qemu-img info '${endpoint}'`, ...nbdClient(endpoint)];
    case "iscsi": {
      const match = /^iscsi:\/\/([^/]+)\/(.+)\/\d+$/.exec(endpoint);
      return match
        ? [
          `iscsiadm -m discovery -t sendtargets -p ${match[1]}`,
          `iscsiadm -m node -T ${match[2]} -p ${match[1]} --login`,
        ]
        : [];
    }
    default:
      return ["for clients of Longhorn's data protocol, such as tgt's backing store longhorn"];
  }
}

function nbdClient(endpoint: string): string[] {
  const match = /^nbd:\/\/([^:/]+):(\d+)\/(.+)$/.exec(endpoint);
  return match ? [`nbd-client -N ${match[3]} ${match[1]} ${match[2]} /dev/nbd0`] : [];
}
