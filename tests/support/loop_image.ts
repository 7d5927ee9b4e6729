/**
 * A file system of its own for a test: an ext4 (or xfs) image in memory, mounted through a loop device. O_DIRECT,
 * FIEMAP and hole punching work on it, and it can be filled up without harm.
 *
 * Tests that use it name `loop` and `mkfs.ext4` (or `mkfs.xfs`) in their needs.
 *
 * @module
 */
import { missing } from "./needs.ts";
import { run } from "./process.ts";
import { tempDir } from "./temp.ts";

/** What to make. */
export interface LoopImageOptions {
  /** Size of the image in bytes; sparse, so only what is written costs memory. */
  readonly bytes: number;
  /** Default ext4. */
  readonly kind?: "ext4" | "xfs";
  /** Where the image file lies. Default /dev/shm (memory). */
  readonly directory?: string;
}

/** A mounted file system. Dispose with `await using`. */
export interface LoopImage extends AsyncDisposable {
  /** Where it is mounted. */
  readonly path: string;
  /** The loop device under it. */
  readonly device: string;
}

/**
 * Makes, mounts and returns a file system. Needs root.
 *
 * The image file is unlinked once it is attached and the device clears itself with its last user: after a crash of
 * the test only the mount is left, and the test run removes that.
 */
export async function loopImage(options: LoopImageOptions): Promise<LoopImage> {
  const { bytes, kind = "ext4", directory = "/dev/shm" } = options;
  const image = await Deno.makeTempFile({ dir: directory, prefix: "drover-loop-" });
  const mountPoint = tempDir("mount-");
  let device = "";
  try {
    await Deno.truncate(image, bytes);
    // Without discard the image stays sparse either way, and mkfs is faster.
    const quick = kind === "ext4" ? ["-q", "-F", "-E", "nodiscard"] : ["-q", "-f", "-K"];
    await run(`mkfs.${kind}`, [...quick, image]);
    device = (await run("losetup", ["--find", "--show", image])).stdout.trim();
    await run("mount", ["-t", kind, device, mountPoint.path]);
  } catch (error) {
    mountPoint[Symbol.dispose]();
    throw error;
  } finally {
    // Detaching a device that is mounted marks it to go away with the mount.
    if (device !== "") await run("losetup", ["--detach", device]);
    await Deno.remove(image);
  }
  return {
    path: mountPoint.path,
    device,
    [Symbol.asyncDispose]: async () => {
      await run("umount", [mountPoint.path]);
      mountPoint[Symbol.dispose]();
    },
  };
}

/** A place for files of tests; see {@linkcode quickPlace}. */
export interface QuickPlace extends AsyncDisposable {
  /** For `tempDir`; undefined = where those lie by default. */
  readonly path: string | undefined;
}

/**
 * An ext4 in memory where that can be had, else the usual place. For tests that sync thousands of times and ask what
 * is in the files, not what a cut of the power leaves: the calls are the same, nobody waits for a disk.
 */
export async function quickPlace(bytes: number): Promise<QuickPlace> {
  const needs = ["root", "loop", "mkfs.ext4"] as const;
  if (needs.every((need) => missing(need) === null)) return await loopImage({ bytes });
  return { path: undefined, [Symbol.asyncDispose]: () => Promise.resolve() };
}
