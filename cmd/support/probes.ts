/**
 * Looks at a host beyond `lib/host/checks.ts`: what needs a try, and programs of the host's.
 *
 * @module
 */
import type { HostCheck, HostCheckFunction, HostEnvironment } from "../../lib/host/checks.ts";
import { CommandError } from "../../lib/host/command.ts";
import { STORE_TYPE } from "../../lib/host/tgt/target.ts";
import { Tgtadm } from "../../lib/host/tgt/tgtadm.ts";
import { FilesLibc } from "../../lib/io/files_libc.ts";
import { openIo } from "../../lib/io/open.ts";

/** Bytes that a probe writes: one page, the unit of direct I/O. */
const PROBE_BYTES = 4096;
/** Memory for a try of io_uring, bytes. */
const TRY_BYTES = 1024 * 1024;
/** Time limit of a look at a program, milliseconds. */
const LOOK_MS = 5_000;

/** Tries io_uring in this process, as a volume thread would. */
export function tryIoUring(): HostEnvironment["ioUring"] {
  let reason = "";
  try {
    const { world } = openIo({ arenaBytes: TRY_BYTES, note: (text) => reason = text });
    if (world === "uring") return { ok: true, detail: `works (Linux ${Deno.osRelease()})` };
  } catch (error) {
    reason = error instanceof Error ? error.message : String(error);
  }
  return { ok: false, detail: reason };
}

/** The path itself, or the nearest directory above it that is there. */
export function nearestDirectory(path: string): string {
  for (let at = path;; at = at.slice(0, at.lastIndexOf("/")) || "/") {
    try {
      if (Deno.statSync(at).isDirectory) return at;
    } catch {
      // The next one up.
    }
    if (at === "/") return at;
  }
}

/**
 * Tries what copies need of a file system: extent maps (FIEMAP), holes, direct I/O. Makes a small file and removes
 * it again.
 *
 * @returns what does not work; undefined when all does
 */
export function whyNotUsable(directory: string): string | undefined {
  const files = new FilesLibc(),
    path = `${directory.replace(/\/$/, "")}/.drover-probe-${crypto.randomUUID()}`;
  try {
    const plain = files.open(path, { write: true, create: 0o600, exclusive: true });
    try {
      files.writeAt(plain, new Uint8Array(PROBE_BYTES), 0);
      files.extents(plain, 0, PROBE_BYTES);
      files.punchHole(plain, 0, PROBE_BYTES);
      files.close(files.open(path, { write: true, direct: true }));
    } finally {
      files.close(plain);
      files.unlink(path);
    }
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Can copies lie here? See {@linkcode whyNotUsable}. */
export function checkFileFeatures(host: HostEnvironment): HostCheck {
  const name = "extents, O_DIRECT";
  const wrong = host.dataPaths.flatMap((path) => {
    const problem = whyNotUsable(path);
    return problem === undefined ? [] : [`${path}: ${problem}`];
  });
  if (wrong.length === 0) {
    return { name, ok: true, detail: "extent maps, holes and direct I/O work", fix: "" };
  }
  return { name, ok: false, detail: wrong.join("; "), fix: "use a writable directory on ext4 or xfs" };
}

/** Looks for a program by running it with an argument that does nothing. */
function program(argv: readonly string[], packages: string): HostCheckFunction {
  const [name = ""] = argv;
  return async (host) => {
    try {
      const { stdout, stderr } = await host.runner.run(argv, { timeoutMs: LOOK_MS });
      const version = (stdout || stderr).trim().split("\n")[0]?.slice(0, 60) ?? "";
      return { name, ok: true, detail: version || "is there", fix: "" };
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      return { name, ok: false, detail: "is not installed", fix: `install the package ${packages}` };
    }
  };
}

/** The initiator's tool. */
export const checkIscsiadm: HostCheckFunction = program(
  ["iscsiadm", "--version"],
  "open-iscsi (Debian) or iscsi-initiator-utils (Red Hat), then: systemctl enable --now iscsid",
);
/**
 * Looks whether the kernel has a module, loaded, built in or to be loaded.
 * @param use what it is for
 */
function kernelModule(module: string, use: string): HostCheckFunction {
  const name = `kernel: ${module}`;
  return async (host) => {
    try {
      if (Deno.statSync(`${host.root}/sys/module/${module}`).isDirectory) {
        return { name, ok: true, detail: "is loaded", fix: "" };
      }
    } catch {
      // Not loaded.
    }
    const argv = ["modprobe", "--dry-run", "--quiet", module];
    const found = await host.runner.run(argv, { timeoutMs: LOOK_MS }).then(
      ({ code }) => code === 0,
      () => false,
    );
    if (found) return { name, ok: true, detail: "can be loaded", fix: "" };
    return {
      name,
      ok: false,
      detail: `this kernel cannot ${use}`,
      fix: `use a kernel with the module ${module}`,
    };
  };
}

/** The kernel's initiator. */
export const checkIscsiModule: HostCheckFunction = kernelModule("iscsi_tcp", "log in to iSCSI targets");
/** The kernel's NBD client. */
export const checkNbdModule: HostCheckFunction = kernelModule("nbd", "be an NBD client");
/** Encrypted volumes. */
export const checkCryptModule: HostCheckFunction = kernelModule("dm_crypt", "map encrypted devices");
/** Makes and opens encrypted volumes. */
export const checkCryptsetup: HostCheckFunction = program(["cryptsetup", "--version"], "cryptsetup");

/** A tgtd that can serve volumes. */
export async function checkTgtd(host: HostEnvironment): Promise<HostCheck> {
  const name = "tgtd", fix = `use a tgtd with the backing store "${STORE_TYPE}", or another carrier`;
  try {
    const system = await new Tgtadm(host.runner).system();
    if (system === null) return { name, ok: false, detail: "does not run", fix };
    if (system.stores.includes(STORE_TYPE)) return { name, ok: true, detail: `has ${STORE_TYPE}`, fix: "" };
    return { name, ok: false, detail: `it has no backing store "${STORE_TYPE}"`, fix };
  } catch (error) {
    return { name, ok: false, detail: error instanceof Error ? error.message : String(error), fix };
  }
}

/** Enters the host's namespaces from a container. */
export const checkNsenter: HostCheckFunction = program(["nsenter", "--version"], "util-linux");
/** Attaches NBD to /dev/nbdN. */
export const checkNbdClient: HostCheckFunction = program(
  ["nbd-client", "--version"],
  "nbd-client (Debian) or nbd",
);
