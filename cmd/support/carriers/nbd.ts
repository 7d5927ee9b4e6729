/**
 * The volume thread is an NBD server on a unix socket, the kernel's NBD client is connected to it. When the engine
 * dies, requests of the device wait; a new engine gives it new connections.
 *
 * @module
 */
import {
  attachNbd,
  detachNbd,
  growNbd,
  listNbdDevices,
  type NbdDevice,
  reconnectNbd,
} from "../../../lib/host/nbd/device.ts";
import { HostError, reasonOf } from "../../../lib/host/retry.ts";
import type { Attachment, Carrier, CarrierParts, Serve } from "./carrier.ts";

/** See the module text. */
export class NbdCarrier implements Carrier {
  readonly kind = "nbd";
  readonly #parts: CarrierParts;
  readonly #socket: string;

  /** Touches nothing yet. */
  constructor(parts: CarrierParts) {
    this.#parts = parts;
    this.#socket = `${parts.run}/nbd/${parts.volume}.sock`;
  }

  /** See {@linkcode Carrier.clean}. */
  async clean(): Promise<string[]> {
    const { context, volume } = this.#parts, left = listNbdDevices(context.sys, volume);
    for (const device of left) await detachNbd(context, device);
    return left.map(({ name }) => name);
  }

  async #serve(serve: Serve): Promise<void> {
    Deno.mkdirSync(`${this.#parts.run}/nbd`, { recursive: true, mode: 0o700 });
    await serve("nbd", { listen: { kind: "unix", path: this.#socket } });
  }

  /** See {@linkcode Carrier.attach}. */
  async attach(serve: Serve): Promise<Attachment> {
    await this.#serve(serve);
    return attachment(await attachNbd(this.#parts.context, this.#server, this.#parts.volume));
  }

  /** See {@linkcode Carrier.resume}. */
  async resume(serve: Serve, old: Attachment): Promise<Attachment | undefined> {
    const { context, volume } = this.#parts;
    const device = listNbdDevices(context.sys, volume).find(({ name }) => name === old.device?.name);
    if (!device) return undefined;
    try {
      await this.#serve(serve);
      await reconnectNbd(context, this.#server, device, volume);
      return attachment(device);
    } catch (error) {
      context.log.warn("the device of the last engine cannot be used again", { reason: reasonOf(error) });
      return undefined;
    }
  }

  /** See {@linkcode Carrier.detach}. */
  async detach(old: Attachment): Promise<void> {
    await detachNbd(this.#parts.context, deviceOf(old));
  }

  /** See {@linkcode Carrier.grow}. */
  async grow(old: Attachment, bytes: number): Promise<void> {
    await growNbd(this.#parts.context, deviceOf(old), this.#parts.volume, bytes);
  }

  get #server() {
    return { socket: this.#socket, exportName: this.#parts.volume };
  }
}

function attachment({ name, major, minor, index }: NbdDevice): Attachment {
  return { device: { name, major, minor }, endpoint: `/dev/${name}`, details: { index } };
}

function deviceOf({ device, details: { index } }: Attachment): Pick<NbdDevice, "index" | "name"> {
  if (!device || typeof index !== "number") {
    throw new HostError("the record of the NBD device makes no sense");
  }
  return { name: device.name, index };
}
