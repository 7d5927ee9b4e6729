/**
 * Builds and keeps the image of the machine: a kernel, an initial memory disk, and a root disk that nobody ever
 * writes to (each boot writes into a layer that is thrown away).
 *
 * ```text
 * CACHE/KEY/root.img   ext4, sparse
 * CACHE/KEY/vmlinuz    Debian's kernel
 * CACHE/KEY/initrd.img enough modules to mount the root
 * ```
 *
 * CACHE is `DROVER_VM_CACHE`, else `~/.cache/drover-vm`. A directory appears by a rename when it is complete. Those of
 * other keys are removed: they are large.
 *
 * @module
 */
import { join } from "node:path";
import { runOrThrow, SystemRunner } from "../../lib/host/command.ts";
import { EXCLUDED, PACKAGES, ROOT_BYTES, SETTINGS, SUITE } from "./recipe.ts";

/** Environment variable with the directory of the images. */
export const CACHE_VARIABLE = "DROVER_VM_CACHE";
/** Time limit of mmdebstrap, milliseconds: it fetches some 150 MB and configures 200 packages. */
const BUILD_MS = 20 * 60_000;
/** Time limit of making a disk from a directory, milliseconds. */
const COPY_MS = 5 * 60_000;
/** Raised when the way of building changes although the recipe does not. */
const BUILD_VERSION = 1;

/** A built image. */
export interface Image {
  /** Root disk, never written to. */
  readonly root: string;
  /** Kernel. */
  readonly kernel: string;
  /** Initial memory disk. */
  readonly initrd: string;
}

/** Where images are kept. */
export function cacheDirectory(): string {
  const given = Deno.env.get(CACHE_VARIABLE);
  return given !== undefined && given !== ""
    ? given
    : join(Deno.env.get("HOME") ?? "/root", ".cache/drover-vm");
}

/** The key of the recipe: images of the same key are the same but for Debian's updates. */
export async function imageKey(): Promise<string> {
  const recipe = JSON.stringify([BUILD_VERSION, SUITE, PACKAGES, EXCLUDED, SETTINGS, ROOT_BYTES]);
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(recipe));
  return [...new Uint8Array(hash).subarray(0, 8)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The image, built if it is not there. @param say told what takes long */
export async function ensureImage(say: (line: string) => void): Promise<Image> {
  const cache = cacheDirectory(), directory = join(cache, await imageKey());
  const image = {
    root: join(directory, "root.img"),
    kernel: join(directory, "vmlinuz"),
    initrd: join(directory, "initrd.img"),
  };
  try {
    Deno.statSync(image.initrd);
    return image;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  Deno.mkdirSync(cache, { recursive: true });
  say(`building the machine's image below ${cache}; once, some minutes`);
  const begin = performance.now(), building = Deno.makeTempDirSync({ dir: cache, prefix: "building-" });
  try {
    await build(building);
    for (const { name } of [...Deno.readDirSync(cache)]) {
      if (/^[0-9a-f]{16}$/.test(name)) Deno.removeSync(join(cache, name), { recursive: true });
    }
    Deno.renameSync(join(building, "out"), directory);
  } finally {
    Deno.removeSync(building, { recursive: true });
  }
  say(`built in ${((performance.now() - begin) / 1000).toFixed(0)} s`);
  return image;
}

async function build(building: string): Promise<void> {
  const runner = new SystemRunner(), tree = join(building, "tree"), out = join(building, "out");
  Deno.mkdirSync(out);
  await runOrThrow(runner, [
    "mmdebstrap",
    "--quiet",
    "--variant=custom",
    "--mode=root",
    "--architectures=amd64",
    `--include=${PACKAGES.join(",")}`,
    `--aptopt=Apt::Install-Recommends "false"`,
    ...EXCLUDED.map((path) => `--dpkgopt=path-exclude=${path}`),
    `--customize-hook=${SETTINGS.join(" && ")}`,
    SUITE,
    tree,
  ], { timeoutMs: BUILD_MS });
  for (const { name } of Deno.readDirSync(join(tree, "boot"))) {
    const kind = name.startsWith("vmlinuz-") ? "vmlinuz" : name.startsWith("initrd.img-") ? "initrd.img" : "";
    if (kind !== "") Deno.renameSync(join(tree, "boot", name), join(out, kind));
  }
  await diskFrom(tree, join(out, "root.img"), ROOT_BYTES);
}

/** Makes an ext4 disk of a directory's contents, without mounting anything. */
export async function diskFrom(directory: string, path: string, bytes: number): Promise<void> {
  await emptyDisk(path, bytes, ["-d", directory]);
}

/** Makes an ext4 disk. @param options further ones of mke2fs */
export async function emptyDisk(path: string, bytes: number, options: readonly string[] = []): Promise<void> {
  Deno.createSync(path).close();
  Deno.truncateSync(path, bytes);
  await runOrThrow(new SystemRunner(), ["mke2fs", "-q", "-F", "-t", "ext4", ...options, path], {
    timeoutMs: COPY_MS,
  });
}
