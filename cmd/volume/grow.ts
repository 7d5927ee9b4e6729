/**
 * `drover volume expand` and `trim`.
 *
 * @module
 */
import { findMounts } from "../../lib/host/mounts.ts";
import { SystemRunner } from "../../lib/host/command.ts";
import { tellOutcome } from "../support/outcome.ts";
import { moment, ProgressBar } from "../support/progress.ts";
import { UsageError } from "../support/program.ts";
import { formatSize, parseSize } from "../support/sizes.ts";
import { directoriesOf, readRecord, writeRecord } from "./record.ts";
import { openServed } from "./served.ts";
import { checkOutput, type ShowFlags } from "./show.ts";

/** A volume that did not become what was asked for. */
export class GrowError extends Error {
  /** For checks. */
  override readonly name = "GrowError";
}

/** Sizes are multiples of it, bytes. */
const BLOCK_BYTES = 4096;

/** `20GiB`, or `+10GiB` for more than now. @throws {UsageError} {@linkcode SizeError} */
export function newSize(text: string, now: number): number {
  const bytes = text.startsWith("+") ? now + parseSize(text.slice(1)) : parseSize(text);
  if (bytes % BLOCK_BYTES !== 0) {
    throw new UsageError(
      `--size ${text}: expected a multiple of ${BLOCK_BYTES} bytes; the next is ` +
        `${Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES}`,
    );
  }
  if (bytes < now) {
    throw new UsageError(`--size ${text}: the volume has ${formatSize(now)} already; volumes do not shrink`);
  }
  return bytes;
}

/** `drover volume expand NAME --size SIZE` */
export async function expandVolume(
  name: string,
  flags: ShowFlags & { readonly size: string },
): Promise<void> {
  checkOutput(flags);
  using served = openServed(name, flags);
  const { engine } = served, now = (await engine.volume()).size, bytes = newSize(flags.size, now);
  await engine.controller.unary("volumeExpand", { size: bytes });
  using progress = new ProgressBar(`expansion of ${name}`);
  for (;;) {
    const volume = await engine.volume();
    if (!volume.isExpanding) {
      if (volume.size !== bytes) {
        throw new GrowError(`volume ${name} stays as it is: ${volume.lastExpansionError}`);
      }
      remember(name, directoriesOf(served.record), bytes);
      progress[Symbol.dispose]();
      if (volume.lastExpansionError !== "") console.error(`warning: ${volume.lastExpansionError}`);
      break;
    }
    progress.show(0);
    await moment();
  }
  const { endpoint, frontend } = served.running;
  const next = frontend === "loop"
    ? [`grow the file system on ${endpoint}: resize2fs ${endpoint}, or xfs_growfs MOUNT`]
    : [];
  tellOutcome(
    flags,
    { volume: name, sizeBytes: bytes },
    `volume ${name} has ${formatSize(bytes)} now`,
    ...next,
  );
}

/** The next start must know the size. */
function remember(name: string, directories: readonly string[], bytes: number): void {
  const record = readRecord(name, directories);
  if (record) writeRecord({ ...record, bytes });
}

/** The device number of a block device. */
function deviceNumber(path: string): { major: number; minor: number } | undefined {
  try {
    const { rdev, isBlockDevice } = Deno.statSync(path);
    if (!isBlockDevice || rdev === null) return undefined;
    // makedev(3) of glibc, for numbers below 2^32.
    return { major: Math.floor(rdev / 256) % 4096, minor: rdev % 256 + Math.floor(rdev / 2 ** 20) * 256 };
  } catch {
    return undefined;
  }
}

/** Time limit of fstrim, milliseconds: a large file system with many holes takes minutes. */
const TRIM_MS = 30 * 60_000;

/** `drover volume trim NAME`: has the file system on the volume tell which blocks it does not use. */
export async function trimVolume(name: string, flags: ShowFlags): Promise<void> {
  checkOutput(flags);
  using served = openServed(name, flags);
  const { endpoint } = served.running, device = deviceNumber(Deno.realPathSync(endpoint));
  if (!device) {
    throw new GrowError(
      `volume ${name} is no disk of this machine (${endpoint}): trim the file system where it is mounted, with fstrim`,
    );
  }
  const mounts = findMounts(device.major, device.minor).filter(({ pid }) => pid === null);
  if (mounts.length === 0) {
    throw new GrowError(
      `volume ${name} is not mounted: only its file system knows what is not used. Mount ${endpoint} first`,
    );
  }
  const argv = ["fstrim", "-v", mounts[0].mountPoint];
  const { code, stdout, stderr } = await new SystemRunner().run(argv, { timeoutMs: TRIM_MS });
  if (code !== 0) throw new GrowError(`${argv.join(" ")} failed: ${stderr.trim() || stdout.trim()}`);
  // fstrim -v: MOUNT: 1.2 GiB (1288490188 bytes) trimmed
  const bytes = Number(/\((\d+) bytes\)/.exec(stdout)?.[1] ?? Number.NaN);
  tellOutcome(
    flags,
    { volume: name, mount: mounts[0].mountPoint, trimmedBytes: Number.isNaN(bytes) ? null : bytes },
    stdout.trim(),
  );
}
