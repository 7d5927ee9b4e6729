/**
 * A disk of the host on an NBD server of this process: `/dev/nbdN`, made, grown, given new connections and taken
 * away through netlink.
 *
 * The device remembers whose it is (`backend` in sysfs, since Linux 5.14), so that one that a dead engine left is
 * found. Its requests wait for {@linkcode DEAD_SECONDS} after the last connection is gone: a new engine that comes
 * within that time goes on without an error.
 *
 * @module
 */
import { Errno, IoError } from "../../io/errno.ts";
import { libc } from "../../io/libc.ts";
import { type BlockNumber, numberOfName } from "../block_stack.ts";
import type { HostContext } from "../context.ts";
import { HostError, reasonOf, retry } from "../retry.ts";
import { connectNbd, type NbdConnection, TransmissionFlag } from "./handshake.ts";
import { familyOf, NbdCommand, nbdCommand } from "./netlink.ts";

/** How long requests wait for a new engine, seconds; as long as the initiator of iSCSI does by default. */
export const DEAD_SECONDS = 120;
/** Connections of one device: requests are spread over them by processor. */
export const NBD_CONNECTIONS = 4;
/** Bytes of a logical block, as other frontends have. */
const BLOCK_BYTES = 512;
/** The kernel shows a new device, and forgets an old one, a moment later. */
const APPEAR = { attempts: 50, pauseMs: 100, waiting: true } as const;
/** Time for the kernel module to load, milliseconds. */
const MODPROBE_MS = 30_000;
/** Name of the family, of the module, and of the devices. */
const NBD = "nbd";

/** What the kernel keeps as the owner's name. */
export function backendOf(volume: string): string {
  return `drover:${volume}`;
}

/** A connected device. */
export interface NbdDevice extends BlockNumber {
  /** The kernel's name, such as `nbd3`. */
  readonly name: string;
  /** N of `/dev/nbdN`. */
  readonly index: number;
}

/** Where the server is. */
export interface NbdServer {
  /** Its unix socket. */
  readonly socket: string;
  /** Name of the export. */
  readonly exportName: string;
}

/**
 * The netlink family of the kernel's NBD client; the module is loaded if need be.
 *
 * @throws {HostError} the kernel has none, or this network namespace does not show it
 */
export async function requireNbd({ host, log }: HostContext): Promise<number> {
  const found = familyOf(NBD);
  if (found !== undefined) return found;
  await host.run(["modprobe", NBD], { timeoutMs: MODPROBE_MS }).catch((error) =>
    log.debug("the module nbd was not loaded", { reason: reasonOf(error) })
  );
  const family = familyOf(NBD);
  if (family !== undefined) return family;
  throw new HostError(
    "the kernel's NBD client cannot be reached: it needs the module nbd (modprobe nbd), and in a container the " +
      "host's network",
  );
}

function attribute(path: string): string | null {
  try {
    return Deno.readTextFileSync(path).trim();
  } catch {
    return null;
  }
}

/** True while a device has a client: connections, or the memory of them. */
function isConnected(name: string, sys: string): boolean {
  return attribute(`${sys}/block/${name}/pid`) !== null;
}

/** The connected devices that belong to a volume, or to any volume. */
export function listNbdDevices(sys: string, volume?: string): (NbdDevice & { readonly volume: string })[] {
  const found: (NbdDevice & { readonly volume: string })[] = [];
  for (const { name } of Deno.readDirSync(`${sys}/block`)) {
    const index = /^nbd(\d+)$/.exec(name)?.[1], owner = attribute(`${sys}/block/${name}/backend`);
    const number = index === undefined ? null : numberOfName(name, sys);
    const prefix = backendOf("");
    if (!number || !owner?.startsWith(prefix) || !isConnected(name, sys)) continue;
    if (volume !== undefined && owner !== backendOf(volume)) continue;
    found.push({ name, index: Number(index), ...number, volume: owner.slice(prefix.length) });
  }
  return found.sort((a, b) => a.index - b.index);
}

function connectAll(server: NbdServer): NbdConnection[] {
  const connections: NbdConnection[] = [];
  try {
    do connections.push(connectNbd(server.socket, server.exportName)); while (
      connections.length < NBD_CONNECTIONS &&
      ((connections[0]?.flags ?? 0) & TransmissionFlag.CAN_MULTI_CONN) !== 0
    );
    return connections;
  } catch (error) {
    closeAll(connections);
    throw error;
  }
}

function closeAll(connections: readonly NbdConnection[]): void {
  for (const { fd } of connections) libc.close(fd);
}

/**
 * Connects a free device.
 *
 * @throws {HostError} the kernel or the server refuses; nothing is left then
 */
export async function attachNbd(context: HostContext, server: NbdServer, volume: string): Promise<NbdDevice> {
  const family = await requireNbd(context), connections = connectAll(server);
  let index: number | undefined;
  try {
    const { bytes, flags } = connections[0] as NbdConnection;
    index = nbdCommand(family, NbdCommand.CONNECT, {
      bytes,
      blockBytes: BLOCK_BYTES,
      serverFlags: flags,
      sockets: connections.map(({ fd }) => fd),
      deadSeconds: DEAD_SECONDS,
      backend: backendOf(volume),
    });
  } catch (cause) {
    throw new HostError(`no NBD device could be connected: ${reasonOf(cause)}`, { cause });
  } finally {
    // The kernel has references of its own.
    closeAll(connections);
  }
  if (index === undefined) throw new HostError("the kernel does not say which NBD device it connected");
  const name = `${NBD}${index}`;
  try {
    const number = await retry(`looking for ${name}`, APPEAR, context, () => {
      const found = numberOfName(name, context.sys);
      return found ? Promise.resolve(found) : Promise.reject(new HostError("sysfs does not show it"));
    });
    return { name, index, ...number };
  } catch (error) {
    nbdCommand(family, NbdCommand.DISCONNECT, { index });
    throw error;
  }
}

/** Gives a device whose server died the connections of a new one. @throws {HostError} it does not want any */
export async function reconnectNbd(
  context: HostContext,
  server: NbdServer,
  device: NbdDevice,
  volume: string,
): Promise<void> {
  const family = await requireNbd(context), connections = connectAll(server);
  let taken = 0;
  try {
    // One by one: the kernel takes as many as it has dead ones.
    for (const { fd } of connections) {
      const change = { index: device.index, sockets: [fd], backend: backendOf(volume) };
      nbdCommand(family, NbdCommand.RECONFIGURE, change);
      taken++;
    }
  } catch (cause) {
    const full = cause instanceof IoError && cause.errno === Errno.ENOSPC;
    if (!full || taken === 0) {
      throw new HostError(`${device.name} takes no new connections: ${reasonOf(cause)}`, { cause });
    }
  } finally {
    closeAll(connections);
  }
}

/** Tells the kernel a device's new size. @throws {HostError} */
export async function growNbd(
  context: HostContext,
  device: Pick<NbdDevice, "index" | "name">,
  volume: string,
  bytes: number,
): Promise<void> {
  const family = await requireNbd(context);
  try {
    nbdCommand(family, NbdCommand.RECONFIGURE, { index: device.index, bytes, backend: backendOf(volume) });
  } catch (cause) {
    throw new HostError(`${device.name} cannot be grown: ${reasonOf(cause)}`, { cause });
  }
}

/**
 * Disconnects a device; one that is not connected is fine. Nobody may use it.
 *
 * @throws {HostError} it is still connected
 */
export async function detachNbd(
  context: HostContext,
  device: Pick<NbdDevice, "index" | "name">,
): Promise<void> {
  const family = await requireNbd(context);
  try {
    nbdCommand(family, NbdCommand.DISCONNECT, { index: device.index });
  } catch (cause) {
    const gone = cause instanceof IoError && [Errno.EINVAL, Errno.ENODEV].some((n) => n === cause.errno);
    if (!gone) throw new HostError(`${device.name} cannot be disconnected: ${reasonOf(cause)}`, { cause });
  }
  await retry(
    `disconnecting ${device.name}`,
    APPEAR,
    context,
    () =>
      isConnected(device.name, context.sys)
        ? Promise.reject(new HostError("it is still connected"))
        : Promise.resolve(),
  );
}
