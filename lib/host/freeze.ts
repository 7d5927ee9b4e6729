/**
 * Freezing the file systems of a volume for the moment of a snapshot, so that what the snapshot has is what a clean
 * unmount would leave.
 *
 * A frozen file system stops everybody who writes to it, for ever, if nobody thaws it. So:
 *
 * 1. `<directory>/<volume>` is made before anything is frozen. It is the note that something may be frozen, and
 *    stays until everything is thawed: {@linkcode thawLeftovers} at the next start of the engine finds it.
 * 2. The file system is mounted there a second time (bind). Users may unmount theirs meanwhile; a frozen file
 *    system without any mount could not be reached any more. Mounts that only a container has cannot be bound;
 *    they are reached through `/proc/PID/root`.
 * 3. `fsfreeze --freeze`, with a time limit. A freeze that was given up may still happen later, when the kernel gets
 *    there: it is watched and undone.
 * 4. `thaw()`, which the caller must call in any case. If it has not done so in time, it happens by itself.
 *
 * All commands are children: a thread of this process that waited for the volume would wait for itself.
 *
 * @module
 */
import type { Logger } from "../log/log.ts";
import { type BlockNumber, fileSystemsOn, type KernelTrees, numberOfPath } from "./block_stack.ts";
import { CommandError, type CommandResult, type Runner, runOrThrow } from "./command.ts";
import { type FoundMount, reachMount, readMounts } from "./mounts.ts";

/** How long a freeze may take, milliseconds: everything that is cached for the volume is written out first. */
export const FREEZE_MS = 60_000;
/** How long a file system stays frozen at most, milliseconds. A snapshot that takes longer is not consistent. */
export const MAX_FROZEN_MS = 60_000;
/** How long one attempt to thaw may take, milliseconds. */
export const THAW_MS = 5_000;
/** Attempts to thaw before it is reported as impossible. */
const THAW_ATTEMPTS = 12;
/** Between attempts, and between looks at a freeze that was given up, milliseconds. */
const PAUSE_MS = 1_000;
/** How long a freeze that was given up is watched, milliseconds. */
const WATCH_MS = 600_000;
/** Time limit of a sync, and of mounting and unmounting, milliseconds. */
const SYNC_MS = 30_000;
/** Between the volume's name and the number of a further file system. Not allowed in names of volumes. */
const NUMBER_MARK = "@";

/** What is to be frozen, and by which means. */
export interface FreezeOptions extends KernelTrees {
  /** Runs programs in our own mount namespace. */
  readonly runner: Runner;
  /** The volume's name; a file name. */
  readonly volume: string;
  /** The volume's device, such as `/dev/longhorn/NAME`. */
  readonly device: string;
  /** Directory for notes and mounts, `<control path>/freeze`. */
  readonly directory: string;
  /** Where failures that nobody is told of otherwise go. */
  readonly log: Logger;
  /** Default {@linkcode FREEZE_MS}. */
  readonly freezeMs?: number;
  /** Default {@linkcode MAX_FROZEN_MS}. */
  readonly maxFrozenMs?: number;
}

/** File systems that stand still. */
export interface FrozenVolume {
  /** Where users have them mounted; empty: none was mounted, and the device was synced instead. */
  readonly mountPoints: readonly string[];
  /** True when they were thawed because it took too long: what was done meanwhile is not consistent. */
  readonly expired: boolean;
  /**
   * Lets them go on. May be called again.
   * @throws {FreezeError} when one cannot be thawed; naming it, and what to do
   */
  thaw(): Promise<void>;
}

/** A file system could not be frozen, or not be thawed. */
export class FreezeError extends Error {
  /** For checks across threads. */
  override readonly name: string = "FreezeError";
}

/** Somebody is freezing this volume already. */
export class FreezeBusyError extends FreezeError {
  /** For checks across threads. */
  override readonly name = "FreezeBusyError";
}

/** Volumes that are being frozen by this process. */
const busy = new Set<string>();

/** One file system on its way. */
interface Target {
  /** Where its users have it. */
  readonly mountPoint: string;
  /** The path that freezes and thaws it. */
  readonly path: string;
  /** Number of the file system. */
  readonly number: BlockNumber;
  /** Our own mount of it, if there is one. */
  readonly bound: string | null;
}

/**
 * Writes out what this host has cached for a volume. Failures are logged only: the snapshot is as good as after a
 * power cut then, which is what it promises without a freeze.
 */
export async function syncVolume(options: FreezeOptions): Promise<void> {
  const { runner, device, log } = options;
  const number = numberOfPath(device, options.sys);
  if (!number) return;
  const attempt = async (argv: readonly string[]): Promise<void> => {
    try {
      await runOrThrow(runner, argv, { timeoutMs: SYNC_MS });
    } catch (error) {
      log.warn("cached data was not written before the snapshot", { device, reason: String(error) });
    }
  };
  for (const mount of fileSystemsOn(number, options)) {
    await attempt(["sync", "--file-system", reachMount(mount, options.proc)]);
  }
  await attempt(["sync", device]);
}

/**
 * Freezes every mounted file system on a volume's device, partitions and encrypted ones included. Where none is
 * mounted, the device is synced. The caller must call `thaw()` whatever happens next.
 *
 * @throws {FreezeBusyError} when the volume is being frozen already
 * @throws {FreezeError} when one cannot be frozen; all of them are thawed then
 */
export async function freezeVolume(options: FreezeOptions): Promise<FrozenVolume> {
  const { volume, device } = options;
  const number = numberOfPath(device, options.sys);
  const mounts = number === null ? [] : fileSystemsOn(number, options);
  if (number === null || mounts.length === 0) {
    await syncVolume(options);
    return { mountPoints: [], expired: false, thaw: () => Promise.resolve() };
  }
  if (busy.has(volume)) {
    throw new FreezeBusyError(
      `volume ${volume}: its file system is already being frozen for another snapshot`,
    );
  }
  busy.add(volume);
  const targets: Target[] = [];
  try {
    for (const mount of mounts) {
      const target = await bind(mount, number, targets.length, options);
      targets.push(target);
      const argv = ["fsfreeze", "--freeze", target.path];
      await runOrThrow(options.runner, argv, { timeoutMs: options.freezeMs ?? FREEZE_MS });
    }
  } catch (cause) {
    const undone = undo(targets, cause, options).finally(() => busy.delete(volume));
    // One that hangs would let the caller hang too.
    if (!isGivenUp(cause)) await undone;
    const where = mounts.map(({ mountPoint }) => mountPoint).join(", ");
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new FreezeError(`volume ${volume}: its file system at ${where} cannot be frozen: ${why}`, {
      cause,
    });
  }
  return new Frozen(targets, options);
}

/** A command whose end was not waited for: it may still do what it was told. */
function isGivenUp(error: unknown): error is CommandError {
  return error instanceof CommandError && !error.result;
}

/** After a failed freeze. Never throws: what cannot be thawed is logged. */
async function undo(targets: readonly Target[], cause: unknown, options: FreezeOptions): Promise<void> {
  const { log, volume } = options;
  if (isGivenUp(cause)) {
    log.error("a freeze takes too long; it is undone as soon as it ends", { volume, reason: cause.message });
    await untilGone(cause.argv, options);
  }
  await release(targets, options).catch((error) => log.error(String(error), { volume }));
}

/** See {@linkcode FrozenVolume}. */
class Frozen implements FrozenVolume {
  readonly mountPoints: readonly string[];
  expired = false;
  readonly #targets: readonly Target[];
  readonly #options: FreezeOptions;
  readonly #timer: ReturnType<typeof setTimeout>;
  #thawing: Promise<void> | undefined;

  constructor(targets: readonly Target[], options: FreezeOptions) {
    this.#targets = targets;
    this.#options = options;
    this.mountPoints = targets.map(({ mountPoint }) => mountPoint);
    this.#timer = setTimeout(() => this.#expire(), options.maxFrozenMs ?? MAX_FROZEN_MS);
  }

  thaw(): Promise<void> {
    clearTimeout(this.#timer);
    return this.#thawing ??= release(this.#targets, this.#options)
      .finally(() => busy.delete(this.#options.volume));
  }

  #expire(): void {
    const { log, volume } = this.#options;
    this.expired = true;
    log.error("the file system was frozen for too long and goes on", {
      volume,
      mounts: [...this.mountPoints],
    });
    this.thaw().catch((error) => log.error(String(error), { volume }));
  }
}

/** The note and mount point of the file system number `n` of a volume. */
function placeOf({ directory, volume }: Pick<FreezeOptions, "directory" | "volume">, n: number): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(volume)) {
    throw new FreezeError(`volume name ${JSON.stringify(volume)} cannot name a directory`);
  }
  return `${directory}/${volume}${n === 0 ? "" : `${NUMBER_MARK}${n}`}`;
}

/** Notes that something may be frozen, and mounts the file system a second time where that is possible. */
async function bind(
  mount: FoundMount,
  device: BlockNumber,
  n: number,
  options: FreezeOptions,
): Promise<Target> {
  const place = placeOf(options, n), path = reachMount(mount, options.proc), { mountPoint } = mount;
  if (boundAt(place, options)) await unfreezeOnce(place, options);
  Deno.mkdirSync(place, { recursive: true, mode: 0o700 });
  if (mount.pid !== null) return { mountPoint, path, number: mount, bound: null };
  const argv = ["mount", "--bind", path, place];
  try {
    await runOrThrow(options.runner, argv, { timeoutMs: SYNC_MS });
  } catch (error) {
    removeNote(place);
    throw error;
  }
  // Somebody may have mounted something else there since we looked.
  const bound = boundAt(place, options);
  const stillOurs = fileSystemsOn(device, options).some((m) =>
    m.major === bound?.major && m.minor === bound.minor
  );
  if (stillOurs) return { mountPoint, path: place, number: mount, bound: place };
  await dropBound(place, options);
  throw new FreezeError(`${mountPoint} shows another file system now`);
}

function boundAt(place: string, { proc = "/proc" }: KernelTrees): BlockNumber | undefined {
  return readMounts(proc).findLast((mount) => mount.mountPoint === place);
}

/** Waits until no process with this command line is left; not for ever. */
async function untilGone(argv: readonly string[], { proc = "/proc", log }: FreezeOptions): Promise<void> {
  const wanted = `${argv.join("\0")}\0`, deadline = performance.now() + WATCH_MS;
  while (performance.now() < deadline) {
    if (!hasProcess(proc, wanted)) return;
    await pause(PAUSE_MS);
  }
  log.error("a freeze hangs in the kernel; thaw by hand when it ends", { command: argv.join(" ") });
}

function hasProcess(proc: string, commandLine: string): boolean {
  for (const { name } of Deno.readDirSync(proc)) {
    if (!/^\d+$/.test(name)) continue;
    try {
      if (Deno.readTextFileSync(`${proc}/${name}/cmdline`) === commandLine) return true;
    } catch {
      // It ended meanwhile.
    }
  }
  return false;
}

/** Thaws all, removes what was mounted and noted. Goes through all, though one fails. */
async function release(targets: readonly Target[], options: FreezeOptions): Promise<void> {
  let failure: unknown;
  // Backwards: what was frozen last may keep the one before it busy.
  for (const [n, target] of [...targets.entries()].reverse()) {
    try {
      await unfreeze(target, options);
      if (target.bound !== null) await dropBound(target.bound, options);
      else removeNote(placeOf(options, n));
    } catch (error) {
      failure = error;
    }
  }
  if (failure !== undefined) throw failure;
}

/** Thaws; one that is not frozen is fine. */
async function unfreeze(target: Target, options: FreezeOptions): Promise<void> {
  let path = target.path, reason = "";
  for (let attempt = 1; attempt <= THAW_ATTEMPTS; attempt++) {
    try {
      const { code, stderr } = await unfreezeOnce(path, options);
      if (code === 0 || /Invalid argument/.test(stderr)) return;
      reason = stderr.trim();
    } catch (error) {
      reason = error instanceof Error ? error.message : String(error);
    }
    if (target.bound === null) {
      // The container whose mount it was may be gone; another one may have it too.
      const [other] = fileSystemsOn(target.number, options);
      if (!other) return;
      path = reachMount(other, options.proc);
    }
    if (attempt < THAW_ATTEMPTS) await pause(PAUSE_MS);
  }
  throw new FreezeError(
    `volume ${options.volume}: the file system at ${target.mountPoint} is still frozen: ${reason}; ` +
      `run: fsfreeze --unfreeze ${path}`,
  );
}

async function dropBound(place: string, { runner }: FreezeOptions): Promise<void> {
  // Lazy: somebody may just be looking at it, which must not keep the note here.
  await runOrThrow(runner, ["umount", "--lazy", place], { timeoutMs: SYNC_MS });
  removeNote(place);
}

function removeNote(place: string): void {
  try {
    Deno.removeSync(place);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** The notes of a volume, with the numbers of their file systems. */
function notesOf(options: Pick<FreezeOptions, "directory" | "volume">): string[] {
  const first = placeOf(options, 0).slice(options.directory.length + 1);
  try {
    return [...Deno.readDirSync(options.directory)].map(({ name }) => name)
      .filter((name) => name === first || name.startsWith(`${first}${NUMBER_MARK}`))
      .sort().map((name) => `${options.directory}/${name}`);
  } catch {
    return []; // Nothing was ever frozen here.
  }
}

/**
 * Thaws what a process that died while it took a snapshot left frozen. For the start of an engine; never throws,
 * for a start must not fail for that: what does not work is logged.
 *
 * @returns where something was thawed or removed
 */
export async function thawLeftovers(options: FreezeOptions): Promise<string[]> {
  const { device, log, volume } = options, done: string[] = [];
  let left = false;
  for (const place of notesOf(options)) {
    try {
      if (boundAt(place, options)) {
        await unfreezeOnce(place, options);
        await dropBound(place, options);
      } else {
        // Frozen without a mount of ours, if at all.
        left = true;
        removeNote(place);
      }
      done.push(place);
    } catch (error) {
      log.error("a file system may still be frozen", { volume, place, reason: String(error) });
    }
  }
  const number = left ? numberOfPath(device, options.sys) : null;
  for (const mount of number === null ? [] : fileSystemsOn(number, options)) {
    await unfreezeOnce(reachMount(mount, options.proc), options).catch((error) =>
      log.error("a file system may still be frozen", {
        volume,
        place: mount.mountPoint,
        reason: String(error),
      })
    );
  }
  if (done.length > 0) {
    log.warn("a snapshot was interrupted; its file systems go on", { volume, places: done });
  }
  return done;
}

async function unfreezeOnce(path: string, { runner }: FreezeOptions): Promise<CommandResult> {
  return await runner.run(["fsfreeze", "--unfreeze", path], { timeoutMs: THAW_MS });
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
