/**
 * A disk of the host on an iSCSI target, from discovery to device and back, in the order and with the patience that
 * Longhorn's tools have.
 *
 * The host has one initiator for all volumes, and its tools get in each other's way when they run at once. So
 * attaching and detaching hold a lock of the host's, in the file that Longhorn uses too.
 *
 * @module
 */
import { type BlockNumber, numberOfName } from "../block_stack.ts";
import type { HostContext } from "../context.ts";
import { lockFile, pathInRoot } from "../file_lock.ts";
import { HostError, reasonOf, retry } from "../retry.ts";
import { Initiator, IscsiError } from "./initiator.ts";
import { formatPortal, type Portal, type SessionDetails } from "./parse.ts";

/** The lock, in the host's mount namespace. */
export const LOCK_PATH = "/var/run/longhorn-iscsi.lock";
/** How long the lock is waited for, milliseconds. */
export const LOCK_MS = 120_000;
/** Discovery, login, logout, removal of records. */
const ASK = { attempts: 5, pauseMs: 3_000 };
/** The kernel makes the disk a little after the login. */
const LOOK = { attempts: 10, pauseMs: 1_000, waiting: true } as const;
/** How long the kernel waits for one SCSI command before it aborts it, seconds. */
export const SCSI_TIMEOUT_S = 60;
/** How long the initiator waits for an abort, seconds. */
export const ABORT_TIMEOUT_S = 15;
/** Time for a kernel module to load, milliseconds. */
const MODPROBE_MS = 30_000;
/** Directories with the initiator's records: Red Hat's first, Debian's since 2.1.9 second. */
const RECORD_DIRECTORIES = ["/etc/iscsi/nodes", "/var/lib/iscsi/nodes"];

/** What is to be attached. */
export interface IscsiDisk {
  /** Name of the target. */
  readonly target: string;
  /** Where it listens, seen from the host. */
  readonly portal: Portal;
  /** Number of the logical unit. */
  readonly lun: number;
}

/** An attached disk. */
export interface AttachedDisk extends BlockNumber {
  /** The kernel's name, such as `sdb`. */
  readonly name: string;
}

/**
 * Makes sure that the host has an initiator; its kernel module is loaded if need be.
 *
 * @throws {HostError} what is missing
 */
export async function requireInitiator({ host, sys, log }: HostContext): Promise<void> {
  await new Initiator(host).version();
  const exists = () => numberOfEntries(`${sys}/class/iscsi_transport`) > 0;
  if (exists()) return;
  await host.run(["modprobe", "iscsi_tcp"], { timeoutMs: MODPROBE_MS }).catch((error) =>
    log.debug("the module iscsi_tcp was not loaded", { reason: reasonOf(error) })
  );
  if (!exists()) throw new HostError("the kernel has no iSCSI initiator: modprobe iscsi_tcp");
}

function numberOfEntries(directory: string): number {
  try {
    return [...Deno.readDirSync(directory)].length;
  } catch {
    return 0;
  }
}

/** Runs something under the host's lock. @throws {HostError} when the lock cannot be had */
export async function withHostLock<T>(context: HostContext, body: () => Promise<T>): Promise<T> {
  using _lock = await lockFile(pathInRoot(context.host.root, LOCK_PATH), LOCK_MS);
  return await body();
}

/** Records of a crash: iscsiadm chokes on empty files and says that there is nothing. */
export function removeEmptyRecords(context: HostContext, target: string): string[] {
  const removed: string[] = [];
  for (const directory of RECORD_DIRECTORIES) {
    const top = pathInRoot(context.host.root, `${directory}/${target}`);
    for (const path of filesBelow(top)) {
      try {
        if (Deno.lstatSync(path).size !== 0) continue;
        Deno.removeSync(path);
        removed.push(path);
      } catch (error) {
        context.log.warn("an empty record was not removed", { path, reason: reasonOf(error) });
      }
    }
  }
  return removed;
}

/** Files of a record directory: `PORTAL`, or `PORTAL/INTERFACE`. */
function filesBelow(directory: string, depth = 2): string[] {
  if (depth < 0) return [];
  try {
    return [...Deno.readDirSync(directory)].flatMap(({ name, isDirectory }) =>
      isDirectory ? filesBelow(`${directory}/${name}`, depth - 1) : [`${directory}/${name}`]
    );
  } catch {
    return [];
  }
}

function matches(disk: IscsiDisk): (session: SessionDetails) => boolean {
  return ({ target, portal }) =>
    target === disk.target && portal.port === disk.portal.port && portal.host === disk.portal.host;
}

/** The kernel's disk of a session, if it is there now. */
export async function findDisk(context: HostContext, disk: IscsiDisk): Promise<AttachedDisk | null> {
  const sessions = await new Initiator(context.host).sessionDetails();
  const name = sessions.find(matches(disk))?.disks.find(({ lun }) => lun === disk.lun)?.name ?? null;
  if (name === null) return null;
  const number = numberOfName(name, context.sys);
  if (number === null) throw new HostError(`the kernel has no block device ${name}`);
  return { ...number, name };
}

async function discover(context: HostContext, initiator: Initiator, disk: IscsiDisk): Promise<void> {
  const what = `discovery of ${disk.target} at ${formatPortal(disk.portal)}`;
  await retry(what, ASK, context, async () => {
    try {
      await initiator.discover(disk.portal);
      if (await initiator.hasNode(disk)) return;
    } catch (error) {
      const removed = removeEmptyRecords(context, disk.target);
      if (removed.length > 0) context.log.warn("removed empty records of the initiator", { removed });
      throw error;
    }
    throw new HostError(`the portal does not offer ${disk.target}`);
  });
}

/**
 * Logs in and waits for the disk. When that fails, session and record are removed again.
 *
 * @throws {HostError} which step failed, and why
 */
export async function attachDisk(context: HostContext, disk: IscsiDisk): Promise<AttachedDisk> {
  return await withHostLock(context, async () => {
    const initiator = new Initiator(context.host);
    try {
      await requireInitiator(context);
      await discover(context, initiator, disk);
      await initiator.setNode(disk.target, "node.session.err_timeo.abort_timeout", String(ABORT_TIMEOUT_S));
      // The target lives as long as our process: a login at the start of the host would find nobody.
      await initiator.setNode(disk.target, "node.startup", "manual");
      await initiator.login(disk);
      const record = await initiator.node(disk);
      if (record.get("node.session.scan") === "manual") await initiator.rescan(disk);
      const attached = await waitForDisk(context, disk);
      setScsiTimeout(context, attached);
      return attached;
    } catch (error) {
      await forget(context, disk.target).catch((reason) =>
        context.log.error("a session may be left", { target: disk.target, reason: reasonOf(reason) })
      );
      throw error;
    }
  });
}

async function waitForDisk(context: HostContext, disk: IscsiDisk): Promise<AttachedDisk> {
  return await retry(`finding the disk of ${disk.target}`, LOOK, context, async () => {
    const attached = await findDisk(context, disk);
    if (!attached) throw new HostError(`the session has no disk with LUN ${disk.lun} yet`);
    return attached;
  });
}

/** Gives slow volumes more time than SCSI disks get. */
export function setScsiTimeout(context: HostContext, { name }: AttachedDisk): void {
  const path = `${context.sys}/block/${name}/device/timeout`;
  try {
    Deno.writeTextFileSync(path, `${SCSI_TIMEOUT_S}\n`);
  } catch (cause) {
    throw new HostError(`${path} cannot be written: ${reasonOf(cause)}`, { cause });
  }
}

/** Makes the kernel look at a disk's size. */
export async function rescanDisk(context: HostContext, disk: IscsiDisk): Promise<void> {
  await withHostLock(context, () => new Initiator(context.host).rescan(disk));
}

/**
 * Logs out and removes the records of a target. Nothing there is fine. The caller has made sure that nobody uses
 * the disk.
 *
 * @throws {HostError} when session or record are still there
 */
export async function detachDisk(context: HostContext, target: string): Promise<void> {
  await withHostLock(context, () => forget(context, target));
}

async function forget(context: HostContext, target: string): Promise<void> {
  const initiator = new Initiator(context.host);
  const isOpen = async () => (await initiator.sessions()).some((session) => session.target === target);
  if (await isOpen()) {
    await retry(`logout of ${target}`, ASK, context, async () => {
      try {
        await initiator.logout(target);
      } catch (error) {
        // Given up, or refused half-way: the session may end all the same.
        if (!(error instanceof IscsiError) || await isOpen()) throw error;
      }
      if (await isOpen()) throw new HostError("the session is still there");
    });
  }
  await retry(`removal of the record of ${target}`, ASK, context, async () => {
    try {
      await initiator.deleteNode(target);
    } catch (error) {
      const removed = removeEmptyRecords(context, target);
      if (removed.length === 0) throw error;
      throw new HostError(`empty records were in the way: ${removed.join(", ")}`, { cause: error });
    }
  });
}
