/**
 * The mount table, from `/proc/PID/mountinfo`.
 *
 * One line (Linux Documentation/filesystems/proc.rst, 3.5):
 *
 * | field | example | here |
 * | --- | --- | --- |
 * | mount id, parent id | `36 35` | `id`, `parent` |
 * | major:minor of the file system's device | `98:0` | `major`, `minor` |
 * | directory of the file system that is mounted | `/mnt1` | `root` |
 * | mount point, seen from the process' root | `/mnt2` | `mountPoint` |
 * | options of the mount | `rw,noatime` | `options` |
 * | any number of optional fields, then `-` | `master:1 -` | left out |
 * | type, source | `ext4 /dev/loop3` | `type`, `source` |
 * | options of the file system | `rw,errors=continue` | `superOptions` |
 *
 * Blanks, tabs, newlines and backslashes in paths are written as a backslash and three octal digits.
 *
 * @module
 */

/** One mount. */
export interface Mount {
  /** Number of the mount. */
  readonly id: number;
  /** Number of the mount it stands on. */
  readonly parent: number;
  /** Device number of the file system, upper part. */
  readonly major: number;
  /** Device number of the file system, lower part. */
  readonly minor: number;
  /** Directory within the file system. */
  readonly root: string;
  /** Where it is mounted. */
  readonly mountPoint: string;
  /** Options of this mount, with commas. */
  readonly options: string;
  /** Type of the file system. */
  readonly type: string;
  /** What is mounted, such as `/dev/loop3`. */
  readonly source: string;
  /** Options of the file system, with commas. `ro` here and `rw` above: the kernel stopped writing after an error. */
  readonly superOptions: string;
}

const decoder = new TextDecoder();
const encoder = new TextEncoder();

/** Undoes the kernel's octal escapes; bytes, because a path may be any bytes and UTF-8 is not escaped. */
function unescape(field: string): string {
  if (!field.includes("\\")) return field;
  const bytes: number[] = [];
  for (let i = 0; i < field.length;) {
    const octal = /^\\([0-3][0-7]{2})/.exec(field.slice(i, i + 4));
    if (octal?.[1] !== undefined) {
      bytes.push(Number.parseInt(octal[1], 8));
      i += 4;
    } else {
      const character = String.fromCodePoint(field.codePointAt(i) ?? 0);
      bytes.push(...encoder.encode(character));
      i += character.length;
    }
  }
  return decoder.decode(Uint8Array.from(bytes));
}

/** Parses a mount table. Lines that do not look like mounts are left out: a newer kernel may add kinds. */
export function parseMountInfo(text: string): Mount[] {
  const mounts: Mount[] = [];
  for (const line of text.split("\n")) {
    const fields = line.split(" ");
    const dash = fields.indexOf("-", 6);
    const device = /^(\d+):(\d+)$/.exec(fields[2] ?? "");
    if (dash < 0 || device === null) continue;
    mounts.push({
      id: Number(fields[0]),
      parent: Number(fields[1]),
      major: Number(device[1]),
      minor: Number(device[2]),
      root: unescape(fields[3] ?? ""),
      mountPoint: unescape(fields[4] ?? ""),
      options: fields[5] ?? "",
      type: fields[dash + 1] ?? "",
      source: unescape(fields[dash + 2] ?? ""),
      superOptions: fields[dash + 3] ?? "",
    });
  }
  return mounts;
}

/** The mounts that this process sees. @param proc where procfs is mounted */
export function readMounts(proc = "/proc"): Mount[] {
  return parseMountInfo(Deno.readTextFileSync(`${proc}/self/mountinfo`));
}

/** Whether something is mounted on a directory, without looking at the directory itself. */
export function isMountPoint(directory: string, proc = "/proc"): boolean {
  return readMounts(proc).some((mount) => mount.mountPoint === directory);
}

/** A path by which this process reaches a mount, also one of another mount namespace. */
export function reachMount(
  { mountPoint, pid }: Pick<FoundMount, "mountPoint" | "pid">,
  proc = "/proc",
): string {
  return pid === null ? mountPoint : `${proc}/${pid}/root${mountPoint}`;
}

/** Where a device is mounted. */
export interface MountUse {
  /** Seen from the root directory of that process. */
  readonly mountPoint: string;
  /** A process whose mount namespace has the mount; null: our own. */
  readonly pid: number | null;
}

/** A mount, and who sees it. */
export interface FoundMount extends Mount {
  /** A process whose mount namespace has the mount; null: our own. */
  readonly pid: number | null;
}

/** The mounts of a kind, in every mount namespace that has a process we can see; our own come first. */
export function findMountsWhere(is: (mount: Mount) => boolean, proc = "/proc"): FoundMount[] {
  const uses: FoundMount[] = [];
  const seen = new Set<string>();
  const look = (pid: number | null): void => {
    const directory = `${proc}/${pid ?? "self"}`;
    try {
      const namespace = Deno.readLinkSync(`${directory}/ns/mnt`);
      if (seen.has(namespace)) return;
      seen.add(namespace);
      for (const mount of parseMountInfo(Deno.readTextFileSync(`${directory}/mountinfo`))) {
        if (is(mount)) uses.push({ ...mount, pid });
      }
    } catch {
      // The process ended, or is none of our business (hidepid, another user).
    }
  };
  look(null);
  for (const entry of Deno.readDirSync(proc)) {
    if (/^\d+$/.test(entry.name)) look(Number(entry.name));
  }
  return uses;
}

/**
 * Where a block device is mounted, in every mount namespace that has a process we can see: a volume may be
 * mounted in a container only.
 *
 * @param major device number of the block device
 * @param minor likewise
 */
export function findMounts(major: number, minor: number, proc = "/proc"): MountUse[] {
  return findMountsWhere((mount) => mount.major === major && mount.minor === minor, proc)
    .map(({ mountPoint, pid }) => ({ mountPoint, pid }));
}

/** The uses as text for an error message. */
export function describeMounts(uses: readonly MountUse[]): string {
  return uses.map(({ mountPoint, pid }) =>
    pid === null ? mountPoint : `${mountPoint} (seen by process ${pid})`
  )
    .join(", ");
}
