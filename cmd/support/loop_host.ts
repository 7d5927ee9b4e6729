/**
 * The main thread's share of the loop frontend: mounts before the volume thread serves, attaches the loop device
 * while it does, detaches before it stops. Nothing here opens or looks at what this process serves: children do.
 *
 * @module
 */
import type { FrontendHost } from "../../lib/engine/controller.ts";
import type { FrontendEvent } from "../../lib/engine/thread.ts";
import {
  attachLoop,
  closeLoop,
  detachLoop,
  type LoopAttachment,
  LoopBusyError,
  openLoop,
  resizeLoop,
} from "../../lib/frontend/loop/attach.ts";
import { cleanLeftovers } from "../../lib/frontend/loop/leftovers.ts";
import { type LoopPlace, RUN_DIRECTORY } from "../../lib/frontend/loop/place.ts";
import { type Runner, SystemRunner } from "../../lib/host/command.ts";
import type { LinkOptions } from "../../lib/host/device_link.ts";
import { findMounts } from "../../lib/host/mounts.ts";
import { LOOP_MAJOR } from "../../lib/host/loop_device.ts";
import type { Logger } from "../../lib/log/log.ts";
import type { FrontendOptions } from "./frontends.ts";

/** Where block devices of volumes have their second names. */
export const DEVICE_DIRECTORY = "/dev/longhorn";
/** Directory for what lives as long as the machine runs; the default is `/run/drover`. */
export const RUN_VARIABLE = "DROVER_RUN";
/** How long the end of the process waits for users of the device to go away, milliseconds. */
const LEAVE_MS = 5_000;
const LOOK_MS = 200;
/** Time for a file system to write out what it has, before its device is taken away; milliseconds. */
const SYNC_MS = 30_000;

/** The run directory of this machine. */
export function runDirectory(): string {
  return Deno.env.get(RUN_VARIABLE) || RUN_DIRECTORY;
}

/** See the module text. Other kinds of frontends pass through. */
export class LoopHost implements FrontendHost {
  /**
   * Set when the process ends: a device in use is then taken away after a short while instead of refusing.
   */
  leaving = false;
  readonly #place: LoopPlace;
  readonly #link: LinkOptions;
  readonly #log: Logger;
  readonly #runner: Runner;
  #attachment: LoopAttachment | undefined;

  /**
   * Touches nothing yet.
   *
   * @param volume its name
   */
  constructor(volume: string, log: Logger) {
    this.#place = { run: runDirectory(), name: volume };
    this.#link = { path: `${DEVICE_DIRECTORY}/${volume}`, kind: "symlink" };
    this.#log = log;
    this.#runner = new SystemRunner(({ argv, milliseconds, code }) =>
      log.debug("command", { argv: [...argv], tookMs: Math.round(milliseconds), code })
    );
  }

  /** See {@linkcode FrontendHost.start}. */
  async start(
    kind: string,
    options: unknown,
    inThread: (options: unknown) => Promise<string>,
  ): Promise<string> {
    if (kind !== "loop") return await inThread(options);
    const left = await cleanLeftovers(this.#runner, this.#place, { link: this.#link });
    if (left.detached.length + left.unmounted.length > 0) {
      this.#log.warn("removed what an earlier process left", {
        devices: left.detached,
        mounts: left.unmounted,
      });
    }
    const mount = openLoop(this.#place);
    try {
      await inThread({ ...options as FrontendOptions, mount: { fd: mount.fd, file: mount.file } });
    } catch (error) {
      await closeLoop(this.#runner, mount, true);
      throw error;
    }
    this.#attachment = await attachLoop(this.#runner, mount, { link: this.#linkIfPossible() });
    const { device, link } = this.#attachment;
    return link?.path ?? device.path;
  }

  /** No second name where `/dev` cannot be written: the volume is as good without. */
  #linkIfPossible(): LinkOptions | undefined {
    try {
      Deno.mkdirSync(DEVICE_DIRECTORY, { recursive: true });
      return this.#link;
    } catch (error) {
      this.#log.info("no second name for the device", { directory: DEVICE_DIRECTORY, reason: String(error) });
      return undefined;
    }
  }

  /** See {@linkcode FrontendHost.stop}. */
  async stop(kind: string, inThread: () => Promise<void>): Promise<void> {
    const attachment = this.#attachment;
    if (kind === "loop" && attachment) {
      // Until it goes on, its end is no news.
      this.#attachment = undefined;
      await this.#detach(attachment).catch((error) => {
        this.#attachment = attachment;
        throw error;
      });
    }
    await inThread();
  }

  async #detach(attachment: LoopAttachment): Promise<void> {
    const deadline = performance.now() + LEAVE_MS;
    for (;;) {
      try {
        return await detachLoop(this.#runner, attachment);
      } catch (error) {
        if (!this.leaving) throw error;
        if (!(error instanceof LoopBusyError) || performance.now() >= deadline) {
          return await this.#force(attachment, error);
        }
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      }
    }
  }

  /** The process ends whoever uses the device: what file systems still hold is written first. */
  async #force(attachment: LoopAttachment, reason: unknown): Promise<void> {
    this.#log.error("the device is taken away from its users", { reason: String(reason) });
    for (const { mountPoint, pid } of findMounts(LOOP_MAJOR, attachment.device.minor)) {
      if (pid !== null) continue;
      await this.#runner.run(["sync", "--file-system", mountPoint], { timeoutMs: SYNC_MS }).catch(() => {});
    }
    const { busy } = await cleanLeftovers(this.#runner, this.#place, { link: this.#link, force: true });
    for (const { device, users } of busy) this.#log.error("a dead device is left", { device, users });
  }

  /** See {@linkcode FrontendHost.give}. */
  give(kind: string): unknown {
    return kind === "loop" ? this.#attachment ?? null : null;
  }

  /** See {@linkcode FrontendHost.forget}. */
  forget(): void {
    this.#attachment = undefined;
  }

  /** See {@linkcode FrontendHost.take}. */
  take(kind: string, given: unknown): void {
    if (kind === "loop" && given) this.#attachment = given as LoopAttachment;
  }

  /** See {@linkcode FrontendHost.onEvent}. */
  onEvent({ what, value }: FrontendEvent): void {
    const attachment = this.#attachment;
    if (!attachment) return;
    if (what === "ended") {
      return this.#log.error("the file system of the loop device ended", { result: value });
    }
    resizeLoop(this.#runner, attachment).then(
      (bytes) => this.#log.info("the device has grown", { device: attachment.device.path, bytes }),
      (error) => this.#log.error("the device did not grow", { reason: String(error) }),
    );
  }
}
