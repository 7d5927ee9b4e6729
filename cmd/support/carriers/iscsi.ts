/**
 * The volume thread is the iSCSI target itself, the host's initiator logs in to it.
 *
 * When the engine dies, the initiator keeps the disk and tries to connect again for two minutes
 * (`node.session.timeo.replacement_timeout`); commands wait. A new engine that listens in the same place goes on
 * with them.
 *
 * @module
 */
import { DEFAULT_LUN, targetNameOf } from "../../../lib/frontend/iscsi/options.ts";
import {
  attachDisk,
  detachDisk,
  findDisk,
  type IscsiDisk,
  rescanDisk,
  setScsiTimeout,
} from "../../../lib/host/iscsi/disk.ts";
import { Initiator } from "../../../lib/host/iscsi/initiator.ts";
import { ownAddress } from "../../../lib/host/own_address.ts";
import { HostError, reasonOf, retry } from "../../../lib/host/retry.ts";
import type { FrontendOptions } from "../frontends.ts";
import type { Attachment, Carrier, CarrierParts, Serve } from "./carrier.ts";

/** How long the initiator may take to come back to a new engine. It tries every few seconds. */
const RETURN = { attempts: 60, pauseMs: 1_000, waiting: true } as const;

/** The host's initiator connects here when it shares our network. */
const LOOPBACK = "127.0.0.1";

/** What the volume thread is to serve. */
function offer(host: string, port: number): Partial<FrontendOptions> {
  return { listen: { kind: "tcp", host, port }, ...(host === LOOPBACK ? { rootOnly: true } : {}) };
}

/** Takes the port out of a frontend's endpoint, `iscsi://HOST:PORT/TARGET/LUN`. */
export function portOf(endpoint: string): number {
  const port = /^iscsi:\/\/.*:(\d+)\//.exec(endpoint)?.[1];
  if (port === undefined) throw new HostError(`the endpoint ${endpoint} has no port`);
  return Number(port);
}

/** See the module text. */
export class IscsiCarrier implements Carrier {
  readonly kind = "iscsi";
  readonly #parts: CarrierParts;
  readonly #target: string;

  /** Touches nothing yet. */
  constructor(parts: CarrierParts) {
    this.#parts = parts;
    this.#target = targetNameOf(parts.volume);
  }

  /** See {@linkcode Carrier.clean}. */
  async clean(): Promise<string[]> {
    const { context } = this.#parts, initiator = new Initiator(context.host);
    const [sessions, nodes] = [await initiator.sessions(), await initiator.nodes()];
    const left = [
      ...sessions.filter(({ target }) => target === this.#target).map(({ id }) => `session ${id}`),
      ...nodes.filter(({ target }) => target === this.#target).map(() => `record of ${this.#target}`),
    ];
    if (left.length > 0) await detachDisk(context, this.#target);
    return left;
  }

  /** See {@linkcode Carrier.attach}. */
  async attach(serve: Serve): Promise<Attachment> {
    const { context } = this.#parts;
    // Loopback keeps other machines out, and other users can be told there; it does only where the host's is ours.
    const host = context.host.sharesNetwork ? LOOPBACK : ownAddress();
    const endpoint = await serve("iscsi", offer(host, 0));
    const disk = this.#disk(host, portOf(endpoint));
    return attachment(disk, await attachDisk(context, disk));
  }

  /** See {@linkcode Carrier.resume}. */
  async resume(serve: Serve, old: Attachment): Promise<Attachment | undefined> {
    const { context } = this.#parts, { host, port } = old.details;
    if (typeof host !== "string" || typeof port !== "number" || !old.device) return undefined;
    const disk = this.#disk(host, port), initiator = new Initiator(context.host);
    const mine = async () => (await initiator.sessions()).some(({ target }) => target === this.#target);
    if (!await mine()) return undefined;
    try {
      await serve("iscsi", offer(host, port));
      const found = await retry(`return of the initiator to ${this.#target}`, RETURN, context, async () => {
        const session = (await initiator.sessionDetails()).find(({ target }) => target === this.#target);
        const unit = session?.disks.find(({ lun }) => lun === disk.lun);
        if (session?.state !== "LOGGED_IN" || unit?.state !== "running") {
          throw new HostError(`session ${session?.state ?? "missing"}, disk ${unit?.state ?? "missing"}`);
        }
        return await findDisk(context, disk);
      });
      if (!found || found.major !== old.device.major || found.minor !== old.device.minor) return undefined;
      setScsiTimeout(context, found);
      return attachment(disk, found);
    } catch (error) {
      context.log.warn("the device of the last engine cannot be used again", { reason: reasonOf(error) });
      return undefined;
    }
  }

  /** See {@linkcode Carrier.detach}. */
  async detach(): Promise<void> {
    await detachDisk(this.#parts.context, this.#target);
  }

  /** See {@linkcode Carrier.grow}. */
  async grow({ details }: Attachment): Promise<void> {
    await rescanDisk(this.#parts.context, this.#disk(String(details.host), Number(details.port)));
  }

  #disk(host: string, port: number): IscsiDisk {
    return { target: this.#target, portal: { host, port }, lun: DEFAULT_LUN };
  }
}

function attachment(disk: IscsiDisk, device: Attachment["device"]): Attachment {
  return { device, endpoint: disk.target, details: { host: disk.portal.host, port: disk.portal.port } };
}
