/**
 * How an iSCSI target is to be, and what it tells about itself.
 *
 * @module
 */
import type { Address } from "../../io/io.ts";
import type { Parcel } from "../frontend.ts";
import { type ChapSettings, checkChap } from "./chap.ts";
import { type CloseCode, SettingError } from "./errors.ts";

/** Connections at once when nothing else is said. */
export const MAX_CONNECTIONS = 16;
/** The number of the logical unit when nothing else is said: what Longhorn's tools look for. */
export const DEFAULT_LUN = 1;
/** Time limits, milliseconds. */
export interface Timing {
  /** From the connection to the end of the login. */
  readonly loginMs: number;
  /** Silence after which the initiator is asked for a sign of life; after twice this it is given up. */
  readonly pingMs: number;
  /** What initiators get to log out when the target stops. */
  readonly farewellMs: number;
}

/** The time limits when nothing else is said. */
export const DEFAULT_TIMING: Timing = { loginMs: 15_000, pingMs: 15_000, farewellMs: 3_000 };

/** Something for the log. */
export interface IscsiEvent {
  /** What happened. */
  readonly kind: "listening" | "connected" | "adopted" | "login" | "closed" | "refused";
  /** Number of the connection; 0 for the listener. */
  readonly connection: number;
  /** Name of the initiator, empty before it is known. */
  readonly initiator: string;
  /** Why, for `closed` and `refused`. */
  readonly code: CloseCode | "";
  /** For people. */
  readonly message: string;
}

/** How the target is to be. */
export interface IscsiOptions {
  /** Where to listen. Port 0 takes a free one. */
  readonly address: Address & { readonly kind: "tcp" };
  /** Host that initiators are told to connect to, when it is not the one listened on. */
  readonly portalHost?: string;
  /** Name of the target; see {@linkcode targetNameOf}. */
  readonly targetName: string;
  /** Number of the logical unit. Default {@linkcode DEFAULT_LUN}. */
  readonly lun?: number;
  /** Ask initiators for credentials. */
  readonly chap?: ChapSettings;
  /** Looks at who connects. @returns why not; "" lets the connection in */
  readonly admit?: (fd: number) => string;
  /** Connections at once. Default {@linkcode MAX_CONNECTIONS}. */
  readonly maxConnections?: number;
  /** Product revision level for INQUIRY, 4 characters. */
  readonly revision?: string;
  /** Time limits. */
  readonly timing?: Partial<Timing>;
  /** Goes on for another process's target; `address` counts for nothing then. */
  readonly handed?: Parcel;
  /** Told what happens; from the loop, must return soon. */
  readonly onEvent?: (event: IscsiEvent) => void;
}

/** The name of a volume's target, as Longhorn forms it. */
export function targetNameOf(volume: string): string {
  return `iqn.2019-10.io.longhorn:${volume.replaceAll("_", ":")}`;
}

/** Highest number of a logical unit in flat space addressing (SAM-5 section 4.7.7.3). */
const MAX_LUN = 16383;

/** Looks at options. @throws {SettingError} for some that cannot work */
export function checkOptions(options: IscsiOptions, lun: number): void {
  if (!Number.isInteger(lun) || lun < 0 || lun > MAX_LUN) {
    throw new SettingError(`iscsi: LUN ${lun} is not in 0..${MAX_LUN}`);
  }
  if (!/^(iqn\.|eui\.|naa\.)[^\s\0]+$/.test(options.targetName) || options.targetName.length > 223) {
    throw new SettingError(
      `iscsi: "${options.targetName}" is no target name; it must start with iqn. and have no spaces`,
    );
  }
  if (options.chap) checkChap(options.chap);
}
