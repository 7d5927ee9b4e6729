/**
 * What Drover needs of a host, as a list of questions with answers for people: what was found, whether that is
 * good enough, and what to do. Used by `drover check`. No check changes anything.
 *
 * @module
 */
import type { Runner } from "./command.ts";
import { CommandError } from "./command.ts";
import { fileSystemType, GOOD_FILE_SYSTEMS } from "./filesystem.ts";

/** The answer to one question. */
export interface HostCheck {
  /** Short name of the check, the same on every host. */
  readonly name: string;
  /** Whether it is good enough. */
  readonly ok: boolean;
  /** What was found. */
  readonly detail: string;
  /** What to do; empty when it is good. */
  readonly fix: string;
}

/** Where and how to look. */
export interface HostEnvironment {
  /** Put before `/proc`, `/sys` and `/dev`: empty for this host, `/host` in a container that has it there. */
  readonly root: string;
  /** Runs commands of the host. */
  readonly runner: Runner;
  /** What a try of io_uring found; the caller has the means. */
  readonly ioUring: {
    /** Whether it works. */
    readonly ok: boolean;
    /** Why not, or the kernel's version. */
    readonly detail: string;
  };
  /** Directories for replicas that are to be looked at. */
  readonly dataPaths: readonly string[];
}

/** Asks one question. Never throws: what cannot be found out is an answer too. */
export type HostCheckFunction = (host: HostEnvironment) => HostCheck | Promise<HostCheck>;

/** CAP_SYS_ADMIN, the number of its bit (linux/capability.h). */
const CAP_SYS_ADMIN = 21n;
/** Time limit of a look at a program, milliseconds. */
const LOOK_MS = 5_000;

function good(name: string, detail: string): HostCheck {
  return { name, ok: true, detail, fix: "" };
}

function bad(name: string, detail: string, fix: string): HostCheck {
  return { name, ok: false, detail, fix };
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** May this process mount file systems? */
export function checkPrivileges(host: HostEnvironment): HostCheck {
  const name = "privileges";
  try {
    const status = Deno.readTextFileSync(`${host.root}/proc/self/status`);
    const mask = BigInt(`0x${/^CapEff:\s*([0-9a-fA-F]+)$/m.exec(status)?.[1] ?? "0"}`);
    if ((mask >> CAP_SYS_ADMIN) & 1n) return good(name, "this process has CAP_SYS_ADMIN");
    return bad(name, "no CAP_SYS_ADMIN", "run as root, in Kubernetes in a privileged container");
  } catch (error) {
    return bad(name, reason(error), "mount procfs on /proc");
  }
}

/** Does the kernel have FUSE? */
export function checkFuse(host: HostEnvironment): HostCheck {
  const name = "fuse";
  try {
    const types = Deno.readTextFileSync(`${host.root}/proc/filesystems`);
    if (!/^nodev\s+fuse$/m.test(types)) {
      return bad(name, "the kernel does not know the file system fuse", "modprobe fuse");
    }
    const device = Deno.statSync(`${host.root}/dev/fuse`);
    if (device.isCharDevice !== true) {
      return bad(name, "/dev/fuse is not a device", "remove it, then: mknod /dev/fuse c 10 229");
    }
    return good(name, "the kernel knows fuse, /dev/fuse is there");
  } catch (error) {
    return bad(name, reason(error), "modprobe fuse; give the container the host's /dev");
  }
}

/** Does the kernel have loop devices? */
export function checkLoopDevices(host: HostEnvironment): HostCheck {
  const name = "loop devices";
  try {
    if (Deno.statSync(`${host.root}/dev/loop-control`).isCharDevice === true) {
      return good(name, "/dev/loop-control is there");
    }
    return bad(name, "/dev/loop-control is not a device", "modprobe loop");
  } catch (error) {
    return bad(name, reason(error), "modprobe loop; give the container the host's /dev");
  }
}

/** Is a losetup there that can do direct I/O and sector sizes? Small ones such as busybox' cannot. */
export async function checkLosetup(host: HostEnvironment): Promise<HostCheck> {
  const name = "losetup", fix = "install losetup of util-linux 2.30 or newer (Debian package mount)";
  try {
    const { stdout, stderr } = await host.runner.run(["losetup", "--help"], { timeoutMs: LOOK_MS });
    const help = stdout + stderr;
    const missing = ["--direct-io", "--sector-size", "--set-capacity"].filter((o) => !help.includes(o));
    if (missing.length === 0) return good(name, "it knows direct I/O and sector sizes");
    return bad(name, `it does not know ${missing.join(", ")}`, fix);
  } catch (error) {
    if (error instanceof CommandError) return bad(name, error.message, fix);
    throw error;
  }
}

/** Can the data path use io_uring? Without it things work, but slower; so it is never an error. */
export function checkIoUring(host: HostEnvironment): HostCheck {
  const { ok, detail } = host.ioUring;
  if (ok) return good("io_uring", detail);
  return {
    name: "io_uring",
    ok: true,
    detail: `not usable, poll(2) is used instead: ${detail}`,
    fix: "for more speed: sysctl kernel.io_uring_disabled=0, and a seccomp profile that allows io_uring",
  };
}

/**
 * Does multipathd run without being told to leave our devices alone? It takes SCSI disks for itself; file
 * systems on them can then not be mounted ("device or resource busy").
 */
export function checkMultipath(host: HostEnvironment): HostCheck {
  const name = "multipathd";
  if (!runningProcess(host.root, "multipathd")) return good(name, "does not run");
  const file = `${host.root}/etc/multipath.conf`;
  let configuration = "";
  try {
    configuration = Deno.readTextFileSync(file);
  } catch {
    // Without a file its built-in list holds, which has no exception for our disks.
  }
  if (excludesDisks(configuration)) return good(name, "runs, and its blacklist has sd devices");
  return bad(
    name,
    "runs, and may take the volumes' SCSI disks for itself",
    'add to /etc/multipath.conf: blacklist { devnode "^sd[a-z0-9]+" }; then: systemctl restart multipathd',
  );
}

/** Whether a blacklist of multipath.conf(5) has a rule on device names that covers `sda`. */
function excludesDisks(configuration: string): boolean {
  const text = configuration.replaceAll(/[#!].*$/gm, "");
  for (const [, section = ""] of text.matchAll(/\bblacklist\s*\{([^}]*)\}/g)) {
    for (const [, pattern = ""] of section.matchAll(/\bdevnode\s+"([^"]*)"/g)) {
      try {
        if (new RegExp(pattern).test("sda")) return true;
      } catch {
        // Not a pattern that we understand: it counts as none.
      }
    }
  }
  return false;
}

function runningProcess(root: string, command: string): boolean {
  try {
    for (const entry of Deno.readDirSync(`${root}/proc`)) {
      if (!/^\d+$/.test(entry.name)) continue;
      try {
        if (Deno.readTextFileSync(`${root}/proc/${entry.name}/comm`).trim() === command) return true;
      } catch {
        // It ended meanwhile.
      }
    }
  } catch {
    // No procfs: another check says so.
  }
  return false;
}

/** Can replicas lie in the given directories? */
export function checkDataPaths(host: HostEnvironment): HostCheck {
  const name = "data directories";
  const found: string[] = [], wrong: string[] = [];
  for (const path of host.dataPaths) {
    try {
      const type = fileSystemType(path);
      (GOOD_FILE_SYSTEMS.includes(type) ? found : wrong).push(`${path} is on ${type}`);
    } catch (error) {
      wrong.push(`${path}: ${reason(error)}`);
    }
  }
  if (wrong.length === 0) return good(name, found.join(", ") || "none were named");
  const fix = `use an existing directory on ${
    GOOD_FILE_SYSTEMS.join(", ")
  } (extent maps and holes are needed)`;
  return bad(name, wrong.join(", "), fix);
}

/** All checks, in the order in which their answers are shown. */
export const HOST_CHECKS: readonly HostCheckFunction[] = [
  checkPrivileges,
  checkIoUring,
  checkDataPaths,
  checkFuse,
  checkLoopDevices,
  checkLosetup,
  checkMultipath,
];
