/**
 * Which carrier a frontend of the host gets. The name `tgt-blockdev` is what everything that was written for Longhorn
 * asks for, and what it means by that is the device `/dev/longhorn/NAME`. So for that name the operator can choose the
 * carrier, or leave it to what the host has.
 *
 * `auto` tries, in this order:
 *
 * | carrier | needs | why here |
 * | --- | --- | --- |
 * | iscsi | open-iscsi, the kernel's iscsi_tcp | no daemon besides the host's initiator; flushes reach the disks; a new engine goes on |
 * | nbd | the kernel's nbd, the host's network namespace | likewise |
 * | loop | FUSE and loop devices | everywhere; but a new engine cannot go on with the device |
 * | tgt | a tgtd with the backing store `longhorn` | Longhorn's own; its flushes reach nothing |
 *
 * @module
 */
import type { HostContext } from "../../../lib/host/context.ts";
import {
  checkFuse,
  checkLoopDevices,
  checkLosetup,
  checkPrivileges,
  type HostEnvironment,
} from "../../../lib/host/checks.ts";
import { requireInitiator } from "../../../lib/host/iscsi/disk.ts";
import { requireNbd } from "../../../lib/host/nbd/device.ts";
import { HostError, reasonOf } from "../../../lib/host/retry.ts";
import { missingStoreText, STORE_TYPE } from "../../../lib/host/tgt/target.ts";
import { Tgtadm } from "../../../lib/host/tgt/tgtadm.ts";
import type { DeviceFrontend } from "../frontends.ts";
import { type CarrierKind, CARRIERS } from "./carrier.ts";

/** Environment variable with the carrier for `tgt-blockdev`, for processes that are started by others. */
export const CARRIER_VARIABLE = "DROVER_DEVICE_CARRIER";

/** What may be asked for. */
export const CARRIER_CHOICES = ["auto", ...CARRIERS] as const;

/** One of {@linkcode CARRIER_CHOICES}. */
export type CarrierChoice = typeof CARRIER_CHOICES[number];

/** True for a carrier that may be asked for. */
export function isCarrierChoice(word: string): word is CarrierChoice {
  return (CARRIER_CHOICES as readonly string[]).includes(word);
}

async function whyNoIscsi(context: HostContext): Promise<string | null> {
  return await requireInitiator(context).then(() => null, reasonOf);
}

async function whyNoNbd(context: HostContext): Promise<string | null> {
  return await requireNbd(context).then(() => null, reasonOf);
}

async function whyNoLoop({ runner }: HostContext): Promise<string | null> {
  const host: HostEnvironment = { root: "", runner, ioUring: { ok: true, detail: "" }, dataPaths: [] };
  for (const check of [checkPrivileges, checkFuse, checkLoopDevices, checkLosetup]) {
    const { ok, name, detail } = await check(host);
    if (!ok) return `${name}: ${detail}`;
  }
  return null;
}

async function whyNoTgt(context: HostContext): Promise<string | null> {
  const system = await new Tgtadm(context.runner).system().catch(() => null);
  if (system === null) return "no tgtd answers";
  if (!system.stores.includes(STORE_TYPE)) return missingStoreText(system.stores);
  return await whyNoIscsi(context);
}

const OBSTACLES: Readonly<Record<CarrierKind, (context: HostContext) => Promise<string | null>>> = {
  iscsi: whyNoIscsi,
  nbd: whyNoNbd,
  loop: whyNoLoop,
  tgt: whyNoTgt,
};

/** Why a carrier cannot work on this host; null: it can, as far as one can see without trying. */
export async function whyNotCarrier(kind: CarrierKind, context: HostContext): Promise<string | null> {
  return await OBSTACLES[kind](context);
}

/**
 * The carrier for a frontend.
 *
 * @param wanted for the name `tgt-blockdev`; others say what they want themselves
 * @throws {HostError} `auto` found none; with the reason of each
 */
export async function chooseCarrier(
  frontend: DeviceFrontend,
  wanted: CarrierChoice,
  context: HostContext,
): Promise<CarrierKind> {
  switch (frontend) {
    case "iscsi-blockdev":
      return "iscsi";
    case "nbd-blockdev":
      return "nbd";
    case "loop-blockdev":
      return "loop";
    case "tgt-iscsi":
      return "tgt";
  }
  if (wanted !== "auto") return wanted;
  const obstacles: string[] = [];
  for (const kind of CARRIERS) {
    const obstacle = await whyNotCarrier(kind, context);
    if (obstacle === null) {
      context.log.info("chose how the host gets the device", { carrier: kind, not: obstacles });
      return kind;
    }
    obstacles.push(`${kind}: ${obstacle}`);
  }
  throw new HostError(`this host has no way to show a volume as a disk: ${obstacles.join("; ")}`);
}
