/**
 * The main thread's share of frontends that end with `/dev/longhorn/NAME`, whatever carries them (`carriers/`), and of
 * the frontend `loop`.
 *
 * The order of a start, and what a crash in between leaves:
 *
 * 1. Left-overs of an engine that is gone are removed, or taken over (see {@linkcode DeviceRecord}).
 * 2. The record says which carrier begins. From here on the next start knows what to clean.
 * 3. The carrier attaches a device.
 * 4. The record gets what it is, the name `/dev/longhorn/NAME` is made.
 *
 * The end goes backwards: the name first, so that nobody begins to use what goes away.
 *
 * @module
 */
import type { FrontendHost } from "../../lib/engine/controller_options.ts";
import type { FrontendEvent } from "../../lib/engine/thread.ts";
import { fileSystemsOn } from "../../lib/host/block_stack.ts";
import type { HostContext } from "../../lib/host/context.ts";
import { isLinkTo, linkDevice, unlinkDevice } from "../../lib/host/device_link.ts";
import {
  type DeviceRecord,
  readDeviceRecord,
  removeDeviceRecord,
  writeDeviceRecord,
} from "../../lib/host/device_record.ts";
import { DeviceBusyError, usersOfDevice } from "../../lib/host/in_use.ts";
import { reachMount } from "../../lib/host/mounts.ts";
import { HostError, reasonOf } from "../../lib/host/retry.ts";
import { type CarrierChoice, chooseCarrier } from "./carriers/choice.ts";
import {
  type Attachment,
  type CarriedDevice,
  type Carrier,
  type CarrierKind,
  CARRIERS,
  type Serve,
} from "./carriers/carrier.ts";
import { type DeviceFrontend, type FrontendOptions, isDeviceFrontend } from "./frontends.ts";
import { DEVICE_DIRECTORY, type LoopHost } from "./loop_host.ts";

/** How long the end of the process waits for users of the device to go away, milliseconds. */
const LEAVE_MS = 5_000;
/** udev, for one, looks at devices for a moment: how long a refusal waits for that, milliseconds. */
const GLANCE_MS = 2_000;
const LOOK_MS = 200;
/** Time for a file system to write out what it has, before its device is taken away; milliseconds. */
const SYNC_MS = 30_000;

/** What a {@linkcode DeviceHost} is made of. */
export interface DeviceHostOptions {
  /** The volume's name. */
  readonly volume: string;
  /** Directory for what lives as long as the machine runs. */
  readonly run: string;
  /** The host. */
  readonly context: HostContext;
  /** Carrier for `tgt-blockdev`. */
  readonly carrier: CarrierChoice;
  /** Makes a carrier. @param local false: only a target, for other hosts */
  readonly makeCarrier: (kind: Exclude<CarrierKind, "loop">, local: boolean) => Carrier;
  /** The share of loop devices. */
  readonly loop: LoopHost;
  /** Of this engine, as the replicas count. */
  readonly generation: () => number;
  /** Where second names are; default {@linkcode DEVICE_DIRECTORY}. */
  readonly directory?: string;
}

/** What is up. */
interface Up {
  readonly carrier: Carrier;
  readonly attachment: Attachment;
}

/** What one engine gives to the next, as JSON. */
interface Given {
  /** A carrier's name. */
  readonly carrier: string;
  /** What it has attached: an {@linkcode Attachment}, or what {@linkcode LoopHost} gives. */
  readonly attachment: unknown;
  /** What the volume thread serves for it. */
  readonly served?: Partial<FrontendOptions>;
}

/** See the module text. Kinds without a share of the host's pass through. */
export class DeviceHost implements FrontendHost {
  readonly #options: DeviceHostOptions;
  readonly #path: string;
  #leaving = false;
  #up: Up | undefined;
  /** What the volume thread serves for the carrier, for an engine that takes over. */
  #served: Partial<FrontendOptions> = {};
  /** The carrier is a loop device, which {@linkcode LoopHost} cares for. */
  #looped = false;

  /** Touches nothing yet. */
  constructor(options: DeviceHostOptions) {
    this.#options = options;
    this.#path = `${options.directory ?? DEVICE_DIRECTORY}/${options.volume}`;
  }

  /** Set when the process ends: a device in use is then taken away after a short while instead of refusing. */
  set leaving(on: boolean) {
    this.#leaving = this.#options.loop.leaving = on;
  }

  /** See {@linkcode FrontendHost.start}. */
  async start(
    kind: string,
    options: unknown,
    inThread: (options: unknown) => Promise<string>,
    stopInThread: () => Promise<void>,
  ): Promise<string> {
    if (!isDeviceFrontend(kind)) return await this.#options.loop.start(kind, options, inThread);
    const given = options as FrontendOptions;
    const serve: Serve = (serve, changes) => {
      this.#served = { ...changes, serve };
      return inThread({ ...given, ...this.#served });
    };
    const { volume, run, context } = this.#options;
    const old = readDeviceRecord(run, volume);
    const chosen = await chooseCarrier(kind, this.#options.carrier, context);
    if (chosen === "loop") {
      await this.#cleanOther(old, undefined);
      return await this.#startLoop(given, inThread);
    }
    const carrier = this.#options.makeCarrier(chosen, kind !== "tgt-iscsi");
    const up = await this.#resume(carrier, old, serve, stopInThread) ??
      await this.#attach(carrier, old, serve);
    try {
      await this.#name(up);
    } catch (error) {
      await this.#takeDown(up).catch((reason) => this.#options.context.log.error(reasonOf(reason)));
      throw error;
    }
    this.#up = up;
    return up.attachment.device ? this.#path : up.attachment.endpoint;
  }

  async #startLoop(given: FrontendOptions, inThread: (options: unknown) => Promise<string>): Promise<string> {
    const { loop } = this.#options;
    const endpoint = await loop.start("loop", { ...given, serve: "loop" }, inThread);
    this.#looped = true;
    if (endpoint === this.#path) return endpoint;
    this.#looped = false;
    await loop.stop("loop", () => Promise.resolve());
    throw new HostError(`${this.#path} cannot be made; give the process the host's /dev`);
  }

  /** Goes on with the device of an engine that is gone, if no other engine ran in between. */
  async #resume(
    carrier: Carrier,
    old: DeviceRecord | undefined,
    serve: Serve,
    stopInThread: () => Promise<void>,
  ): Promise<Up | undefined> {
    const { context, generation } = this.#options, attachment = old?.attachment as Attachment | null;
    if (!old || !attachment || old.carrier !== carrier.kind || !carrier.resume) return undefined;
    if (old.generation + 1 !== generation()) {
      context.log.info("the volume was used elsewhere meanwhile: its old device is removed");
      return undefined;
    }
    const resumed = await carrier.resume(serve, attachment).catch((error) => {
      context.log.warn("the device of the last engine cannot be used again", { reason: reasonOf(error) });
      return undefined;
    });
    if (!resumed) {
      // What was served for the attempt is in the way of the next one.
      await stopInThread();
      return undefined;
    }
    this.#record(carrier, resumed);
    context.log.info("goes on with the device of the last engine", { device: resumed.device?.name });
    return { carrier, attachment: resumed };
  }

  async #attach(carrier: Carrier, old: DeviceRecord | undefined, serve: Serve): Promise<Up> {
    await this.#cleanOther(old, carrier);
    this.#record(carrier, null);
    const attachment = await carrier.attach(serve).catch((error) => {
      removeDeviceRecord(this.#options.run, this.#options.volume);
      throw error;
    });
    this.#record(carrier, attachment);
    return { carrier, attachment };
  }

  /** Removes what an engine that is gone left, through whatever carried it then. */
  async #cleanOther(old: DeviceRecord | undefined, carrier: Carrier | undefined): Promise<void> {
    const { context, makeCarrier, run, volume } = this.#options;
    const removed: string[] = [];
    const device = (old?.attachment as Attachment | null | undefined)?.device;
    if (device && unlinkDevice(this.#path, target(device))) removed.push(this.#path);
    const kind = CARRIERS.find((kind) => kind === old?.carrier);
    if (kind !== undefined && kind !== "loop" && kind !== carrier?.kind) {
      removed.push(...await makeCarrier(kind, true).clean());
    }
    if (carrier) removed.push(...await carrier.clean());
    removeDeviceRecord(run, volume);
    if (removed.length > 0) context.log.warn("removed what an earlier process left", { removed });
  }

  #record(carrier: Carrier, attachment: Attachment | null): void {
    const { volume, run, generation } = this.#options;
    writeDeviceRecord(run, { volume, carrier: carrier.kind, generation: generation(), attachment });
  }

  async #name({ attachment: { device } }: Up): Promise<void> {
    if (!device || isLinkTo(this.#path, target(device))) return;
    await linkDevice(this.#options.context.runner, { path: this.#path, kind: "node" }, target(device));
  }

  /** See {@linkcode FrontendHost.stop}. */
  async stop(kind: string, inThread: () => Promise<void>): Promise<void> {
    if (!isDeviceFrontend(kind) || this.#looped) {
      await this.#options.loop.stop(isDeviceFrontend(kind) ? "loop" : kind, inThread);
      this.#looped = false;
      return;
    }
    const up = this.#up;
    if (up) {
      if (up.attachment.device) await this.#untilUnused(up.attachment.device);
      await this.#takeDown(up);
      this.#up = undefined;
    }
    await inThread();
  }

  async #takeDown({ carrier, attachment }: Up): Promise<void> {
    const { device } = attachment, { run, volume } = this.#options;
    if (device) unlinkDevice(this.#path, target(device));
    await carrier.detach(attachment);
    removeDeviceRecord(run, volume);
  }

  /** @throws {DeviceBusyError} somebody uses it, and the process goes on */
  async #untilUnused(device: CarriedDevice): Promise<void> {
    const { context } = this.#options;
    const deadline = performance.now() + (this.#leaving ? LEAVE_MS : GLANCE_MS);
    for (;;) {
      const users = usersOfDevice(device, [this.#path, `/dev/${device.name}`], context);
      if (users.length === 0) return;
      if (performance.now() >= deadline) {
        if (!this.#leaving) throw new DeviceBusyError(this.#path, users);
        context.log.error("the device is taken away from its users", { device: this.#path, users });
        return await this.#save(device);
      }
      await context.sleep(LOOK_MS);
    }
  }

  /** What file systems still hold is written, as far as possible. */
  async #save(device: CarriedDevice): Promise<void> {
    const { context } = this.#options;
    for (const mount of fileSystemsOn(device, context)) {
      const argv = ["sync", "--file-system", reachMount(mount, context.proc)];
      await context.runner.run(argv, { timeoutMs: SYNC_MS }).catch(() => {});
    }
  }

  /** See {@linkcode FrontendHost.grow}. */
  async grow(_kind: string, bytes: number): Promise<void> {
    if (this.#up) await this.#up.carrier.grow(this.#up.attachment, bytes);
  }

  /** See {@linkcode FrontendHost.give}. */
  give(kind: string): unknown {
    if (!isDeviceFrontend(kind)) return this.#options.loop.give(kind);
    if (this.#looped) return { carrier: "loop", attachment: this.#options.loop.give("loop") };
    if (!this.#up) return null;
    const { carrier, attachment } = this.#up;
    return { carrier: carrier.kind, attachment, served: withPort(this.#served, attachment.details.port) };
  }

  /** See {@linkcode FrontendHost.optionsFor}. */
  optionsFor(kind: string, given: unknown, options: unknown): unknown {
    if (!isDeviceFrontend(kind) || !given) return options;
    return { ...options as FrontendOptions, ...(given as Given).served };
  }

  /** See {@linkcode FrontendHost.forget}. */
  forget(): void {
    this.#options.loop.forget();
    this.#up = undefined;
    this.#looped = false;
  }

  /** See {@linkcode FrontendHost.take}. */
  take(kind: string, given: unknown): void {
    if (!isDeviceFrontend(kind)) return this.#options.loop.take(kind, given);
    if (!given) return;
    const { carrier, attachment, served = {} } = given as Given;
    const known = CARRIERS.find((one) => one === carrier);
    if (known === undefined) {
      throw new HostError(`the engine that gives the volume away uses a carrier ${carrier}`);
    }
    if (known === "loop") {
      this.#looped = true;
      return this.#options.loop.take("loop", attachment);
    }
    const made = this.#options.makeCarrier(known, (kind as DeviceFrontend) !== "tgt-iscsi");
    this.#up = { carrier: made, attachment: attachment as Attachment };
    this.#served = served;
    this.#record(made, this.#up.attachment);
  }

  /** See {@linkcode FrontendHost.onEvent}. */
  onEvent(event: FrontendEvent): void {
    this.#options.loop.onEvent(event);
  }
}

/** Where it really listens, when any port was asked for. */
function withPort(served: Partial<FrontendOptions>, port: unknown): Partial<FrontendOptions> {
  const { listen } = served;
  return listen?.kind === "tcp" && typeof port === "number"
    ? { ...served, listen: { ...listen, port } }
    : served;
}

function target({ name, major, minor }: CarriedDevice): { path: string; major: number; minor: number } {
  return { path: `/dev/${name}`, major, minor };
}
