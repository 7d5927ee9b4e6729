/**
 * A volume as a target of tgtd: tgtd's backing store `longhorn` is the client of the volume's socket, and tgtd speaks
 * iSCSI. The order of the commands is Longhorn's.
 *
 * @module
 */
import { HostError, type Patience, reasonOf, retry } from "../retry.ts";
import { freeTargetId, type TgtTarget } from "./parse.ts";
import type { Tgtadm, UnitPlace } from "./tgtadm.ts";

/** The backing store that reads and writes a volume through its socket. */
export const STORE_TYPE = "longhorn";
/** The volume's unit in its target. */
export const TARGET_LUN = 1;
/** A tgtd that was just started answers a little later. */
const WAKE = { attempts: 5, pauseMs: 1_000, waiting: true } as const;
/** Another process may take the number first. */
const NUMBER = { attempts: 5, pauseMs: 500 };
/** Caching mode page with the write cache off, in tgtadm's way of writing pages. */
const NO_WRITE_CACHE = "mode_page=8:0:18:0x10:0:0xff:0xff:0:0:0xff:0xff:0xff:0xff:0x80:0x14:0:0:0:0:0:0";
/** Units are removed once their commands have ended. */
const REMOVE = { attempts: 5, pauseMs: 1_000 };

/** What is to be offered. */
export interface TgtVolume {
  /** Name of the target. */
  readonly target: string;
  /** The volume's socket, as tgtd sees it. */
  readonly socket: string;
  /** Size of the volume. */
  readonly bytes: number;
  /** How long tgtd waits for an answer of the volume, seconds. */
  readonly requestTimeoutS: number;
  /** Kind of backing store; default {@linkcode STORE_TYPE}. */
  readonly storeType?: string;
}

/** Starts a tgtd that outlives us, when none runs. @returns when it was started, not when it answers */
export type TgtdStarter = () => Promise<void>;

/** What a tgtd without Longhorn's backing store means for the operator. */
export function missingStoreText(stores: readonly string[]): string {
  return `this host's tgtd has no backing store "${STORE_TYPE}" (it has ${
    stores.join(", ")
  }): use a tgtd that has ` +
    `it, or another frontend for the same device path: iscsi-blockdev, nbd-blockdev, loop-blockdev`;
}

/**
 * Makes sure that a tgtd answers and can serve volumes.
 *
 * @throws {HostError} naming what is missing and the alternatives
 */
export async function requireTgtd(
  tgt: Tgtadm,
  patience: Patience,
  start: TgtdStarter,
  storeType: string = STORE_TYPE,
): Promise<void> {
  if (await tgt.system() === null) {
    patience.log.info("no tgtd answers; starting one");
    await start();
  }
  await retry("waiting for tgtd", WAKE, patience, async () => {
    const system = await tgt.system();
    if (!system?.stores.includes("rdwr")) throw new HostError("tgtd does not answer");
  });
  const stores = (await tgt.system())?.stores ?? [];
  if (!stores.includes(storeType)) throw new HostError(missingStoreText(stores));
}

/** The target of this name, if there is one. */
export async function findTarget(tgt: Tgtadm, name: string): Promise<TgtTarget | undefined> {
  return (await tgt.targets()).find((target) => target.name === name);
}

/**
 * Makes the target and lets initiators in. The volume's socket must be served. When that fails, nothing is left.
 *
 * @returns number of the target
 */
export async function createTarget(tgt: Tgtadm, volume: TgtVolume, patience: Patience): Promise<number> {
  const { target, socket, bytes, requestTimeoutS } = volume;
  const tid = await retry(`making target ${target}`, NUMBER, patience, async () => {
    const id = freeTargetId(await tgt.targets());
    if (id === null) throw new HostError("all numbers of targets are taken");
    await tgt.newTarget(id, target);
    return id;
  });
  try {
    const place: UnitPlace = { tid, lun: TARGET_LUN }, type = volume.storeType ?? STORE_TYPE;
    const options = type === STORE_TYPE ? `size=${bytes};request_timeout=${requestTimeoutS}` : "";
    await tgt.newUnit(place, { path: socket, type, options });
    await tgt.setUnit(place, "thin_provisioning=1");
    await tgt.setUnit(place, NO_WRITE_CACHE);
    await tgt.bind(tid);
    return tid;
  } catch (error) {
    await removeTarget(tgt, target, patience).catch((reason) =>
      patience.log.error("a target of tgtd may be left", { target, reason: reasonOf(reason) })
    );
    throw error;
  }
}

/** Tells tgtd the volume's new size. @throws {HostError} there is no such target */
export async function growTarget(tgt: Tgtadm, name: string, bytes: number): Promise<void> {
  const target = await findTarget(tgt, name);
  if (!target) throw new HostError(`tgtd has no target ${name}`);
  await tgt.setUnit({ tid: target.id, lun: TARGET_LUN }, `bsopts=size=${bytes}`);
}

/**
 * Ends the connections of a target and removes it. None of this name is fine, and so is no tgtd.
 *
 * @returns whether there was one
 */
export async function removeTarget(tgt: Tgtadm, name: string, patience: Patience): Promise<boolean> {
  if (await tgt.system() === null) return false;
  const target = await findTarget(tgt, name);
  if (!target) return false;
  const tid = target.id;
  await tgt.unbind(tid);
  await retry(`removal of target ${name}`, REMOVE, patience, async () => {
    for (const connection of await tgt.connections(tid)) await tgt.endConnection(tid, connection);
    if (target.units.some(({ lun }) => lun === TARGET_LUN)) await tgt.removeUnit({ tid, lun: TARGET_LUN });
    await tgt.removeTarget(tid);
  });
  return true;
}
