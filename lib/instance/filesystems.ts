/**
 * The file systems that pods have on volumes, as far as the instance manager looks after them: one that was made
 * read-only by an error is reported, one can be made writable again, and one that was left frozen by a snapshot
 * whose engine died is thawed.
 *
 * Kubernetes mounts a volume at a path that holds the SHA-256 of its name and ends with `/globalmount`.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { type Runner, runOrThrow } from "../host/command.ts";
import { Code, RpcError } from "../rpc/errors.ts";

/** Where the devices of volumes are. */
const DEVICE_DIRECTORY = "/dev/longhorn/";

/** Options that say that nothing can be written; the second is ext4's since Linux 6.14. */
const READ_ONLY = new Set(["ro", "emergency_ro"]);

/** One line of /proc/mounts (fstab(5)): device, mount point, type, options of mount and file system. */
export interface MountLine {
  /** What is mounted. */
  readonly device: string;
  /** Where. */
  readonly path: string;
  /** Options. */
  readonly options: readonly string[];
}

/** Reads the text of /proc/mounts. */
export function parseMountLines(text: string): MountLine[] {
  const plain = (field: string): string =>
    field.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
  return text.split("\n").filter((line) => line !== "").map((line) => {
    const [device = "", path = "", , options = ""] = line.split(" ");
    return { device: plain(device), path: plain(path), options: options.split(",") };
  });
}

/** The end of the path at which Kubernetes mounts a volume. */
export function globalMount(volume: string): string {
  return `${createHash("sha256").update(volume).digest("hex")}/globalmount`;
}

/** Unmounts what is mounted below a directory, the deepest first. One that is in use stays. @returns what is gone */
export async function unmountBelow(directory: string, text: string, runner: Runner): Promise<string[]> {
  const paths = parseMountLines(text).map(({ path }) => path)
    .filter((path) => path.startsWith(`${directory}/`));
  const gone: string[] = [];
  for (const path of paths.toSorted((a, b) => b.length - a.length)) {
    if ((await runner.run(["umount", path])).code === 0) gone.push(path);
  }
  return gone;
}

/** Mounts of the volumes of a node. */
export class VolumeMounts {
  readonly #read: () => string;
  readonly #runner: Runner;
  #text = "";
  #lines: readonly MountLine[] = [];

  /**
   * Makes one.
   *
   * @param read the text of /proc/mounts
   * @param runner runs commands where those mounts are
   */
  constructor(read: () => string, runner: Runner) {
    this.#read = read;
    this.#runner = runner;
  }

  /** The mounts now. A text that did not change is not read again. */
  lines(): readonly MountLine[] {
    const text = this.#read();
    if (text !== this.#text) {
      this.#text = text;
      this.#lines = parseMountLines(text);
    }
    return this.#lines;
  }

  /** Volumes with a file system that became read-only, of those that are asked for. */
  readOnly(volumes: Iterable<string>): Set<string> {
    const bad = this.lines().filter(({ options }) => options.some((option) => READ_ONLY.has(option)));
    const found = new Set<string>();
    if (bad.length === 0) return found;
    for (const volume of volumes) {
      const place = globalMount(volume);
      if (bad.some(({ path }) => path.includes(place))) found.add(volume);
    }
    return found;
  }

  /** Makes the file system of a volume writable again. @throws RpcError with NOT_FOUND, INTERNAL */
  async remount(volume: string): Promise<void> {
    if (volume === "") throw new RpcError(Code.INVALID_ARGUMENT, "missing required argument: volume_name");
    const place = globalMount(volume);
    const mount = this.lines().find(({ path }) => path.endsWith(place));
    if (!mount) throw new RpcError(Code.NOT_FOUND, `volume ${volume} is not mounted at a path with ${place}`);
    try {
      await runOrThrow(this.#runner, ["mount", "-o", "remount,rw", mount.path]);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new RpcError(Code.INTERNAL, `volume ${volume} cannot be mounted writable: ${why}`, { cause });
    }
  }

  /**
   * Thaws file systems on volumes that have no engine any more. Those with an engine are left alone: a snapshot may
   * be under way. @returns the mount points that were frozen
   */
  async thaw(hasEngine: (volume: string) => boolean): Promise<string[]> {
    const thawed: string[] = [];
    for (const { device, path } of this.lines()) {
      if (!device.startsWith(DEVICE_DIRECTORY)) continue;
      if (hasEngine(device.slice(DEVICE_DIRECTORY.length))) continue;
      // It fails where nothing is frozen.
      const { code } = await this.#runner.run(["fsfreeze", "--unfreeze", path]);
      if (code === 0) thawed.push(path);
    }
    return thawed;
  }
}
