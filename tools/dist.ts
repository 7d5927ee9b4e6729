/**
 * Makes `dist/`: every program as a bundle, with the Deno binary and a launcher.
 *
 * ```text
 * deno task dist [DIRECTORY]
 * ```
 *
 * @module
 */
import { resolve } from "node:path";
import { ROOT } from "../tests/support/repository.ts";
import { existingPrograms, WORKERS } from "./programs.ts";
import { makeDist } from "./shipping/dist.ts";

if (import.meta.main) {
  const given = Deno.args[0];
  const directory = given === undefined ? resolve(ROOT, "dist") : resolve(given);
  // Only what this program made before is removed: the default place, never a directory that was named.
  if (given === undefined) await Deno.remove(directory, { recursive: true }).catch(() => {});
  const programs = existingPrograms(ROOT);
  const made = await makeDist({ root: ROOT, programs, workers: WORKERS }, directory);
  for (const { program } of made) console.log(`${directory}/bin/${program.name}  ${program.purpose}`);
}
