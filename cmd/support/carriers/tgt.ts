/**
 * The volume thread serves Longhorn's frames on a unix socket, `tgtd` with the backing store `longhorn` is its client
 * and speaks iSCSI, and the host's initiator logs in to that: Longhorn's own way. Without the initiator it is the
 * frontend `tgt-iscsi`, for other hosts.
 *
 * @module
 */
import { targetNameOf } from "../../../lib/frontend/iscsi/options.ts";
import { attachDisk, detachDisk, rescanDisk } from "../../../lib/host/iscsi/disk.ts";
import { ISCSI_PORT } from "../../../lib/host/iscsi/parse.ts";
import { ownAddress } from "../../../lib/host/own_address.ts";
import { HostError, reasonOf } from "../../../lib/host/retry.ts";
import {
  createTarget,
  growTarget,
  removeTarget,
  requireTgtd,
  TARGET_LUN,
} from "../../../lib/host/tgt/target.ts";
import { Tgtadm } from "../../../lib/host/tgt/tgtadm.ts";
import type { Attachment, Carrier, CarrierParts, Serve } from "./carrier.ts";

/** The host's initiator connects here when it shares our network, in which tgtd is too. */
const LOOPBACK = "127.0.0.1";

/** See the module text. */
export class TgtCarrier implements Carrier {
  readonly kind = "tgt";
  readonly #parts: CarrierParts;
  readonly #local: boolean;
  readonly #target: string;
  readonly #tgt: Tgtadm;

  /**
   * Touches nothing yet.
   *
   * @param local the initiator of this host is to log in
   */
  constructor(parts: CarrierParts, local: boolean) {
    this.#parts = parts;
    this.#local = local;
    this.#target = targetNameOf(parts.volume);
    this.#tgt = new Tgtadm(parts.context.runner);
  }

  /** See {@linkcode Carrier.clean}. */
  async clean(): Promise<string[]> {
    if (this.#local) await detachDisk(this.#parts.context, this.#target);
    return await removeTarget(this.#tgt, this.#target, this.#parts.context) ? [`target ${this.#target}`] : [];
  }

  /** See {@linkcode Carrier.attach}. */
  async attach(serve: Serve): Promise<Attachment> {
    const { context, bytes, requestTimeoutS, volume } = this.#parts;
    await requireTgtd(this.#tgt, context, startTgtd);
    const socket = `/var/run/longhorn-${volume}.sock`;
    await serve("socket", { listen: { kind: "unix", path: socket } });
    const target = this.#target;
    await createTarget(this.#tgt, { target, socket, bytes: bytes(), requestTimeoutS }, context);
    if (!this.#local) return { device: null, endpoint: target, details: {} };
    try {
      const host = context.host.sharesNetwork ? LOOPBACK : ownAddress();
      const device = await attachDisk(context, {
        target,
        portal: { host, port: ISCSI_PORT },
        lun: TARGET_LUN,
      });
      return { device, endpoint: target, details: { host } };
    } catch (error) {
      await removeTarget(this.#tgt, target, context);
      throw error;
    }
  }

  /** See {@linkcode Carrier.detach}. */
  async detach(): Promise<void> {
    await this.clean();
  }

  /** See {@linkcode Carrier.grow}. */
  async grow({ details }: Attachment, bytes: number): Promise<void> {
    await growTarget(this.#tgt, this.#target, bytes);
    if (!this.#local) return;
    const portal = { host: String(details.host), port: ISCSI_PORT };
    await rescanDisk(this.#parts.context, { target: this.#target, portal, lun: TARGET_LUN });
  }
}

/** Starts tgtd. It serves other volumes too, so it is not ours to end. */
function startTgtd(): Promise<void> {
  const quiet = { stdin: "null", stdout: "null", stderr: "null" } as const;
  try {
    new Deno.Command("tgtd", { args: ["-f"], ...quiet, detached: true }).spawn().unref();
  } catch (cause) {
    throw new HostError(
      `tgtd cannot be started: ${reasonOf(cause)}; install tgt, or choose another frontend`,
      {
        cause,
      },
    );
  }
  return Promise.resolve();
}
