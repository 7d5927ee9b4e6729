/**
 * `longhorn backups restore-to-file` with a backing image: what the backup does not hold is in the image below it.
 *
 * @module
 */
import { dirname } from "node:path";
import { restoreToFile, type RestoreToFileOptions, type Target } from "../../lib/backup/mod.ts";
import { CommandError, SystemRunner } from "../../lib/host/command.ts";

/** Time limit of a conversion, milliseconds. */
const CONVERT_MS = 24 * 3_600_000;

async function qemuImg(...args: readonly string[]): Promise<string> {
  const argv = ["qemu-img", ...args];
  const result = await new SystemRunner().run(argv, { timeoutMs: CONVERT_MS });
  if (result.code !== 0) throw new CommandError(argv, result.stderr.trim(), result);
  return result.stdout;
}

/**
 * Restores a backup on top of a backing image into one file without any backing file: a qcow2 with the backup alone,
 * put on the image and converted.
 *
 * @param backing path of the image, in any format that qemu-img knows
 */
export async function restoreOverImage(
  target: Target,
  options: RestoreToFileOptions,
  backing: string,
): Promise<void> {
  const { path, format } = options, top = `${path}.top`, partial = `${path}.partial`;
  const { format: below } = JSON.parse(await qemuImg("info", "--output=json", backing)) as { format: string };
  await restoreToFile(target, { ...options, path: top, format: "qcow2" });
  try {
    await qemuImg("rebase", "-u", "-F", below, "-b", await Deno.realPath(backing), top);
    await qemuImg("convert", "-f", "qcow2", "-O", format, top, partial);
    using file = await Deno.open(partial, { write: true });
    await file.sync();
    await Deno.rename(partial, path);
    using directory = await Deno.open(dirname(path));
    await directory.sync();
  } finally {
    await Deno.remove(top);
    await Deno.remove(partial).catch(() => {});
  }
}
