/**
 * Makes a directory that runs anywhere with the same C library: bundles, the Deno binary, and launchers.
 *
 * ```text
 * dist/bin/NAME      launcher, a shell script
 * dist/lib/app/*.js  programs and Workers
 * dist/lib/deno      the Deno binary
 * dist/cache/        compiled code, made by Deno when the directory may be written to; safe to remove
 * ```
 *
 * @module
 */
import { join } from "node:path";
import type { Program } from "../programs.ts";
import { bundle, type BundledProgram, type BundleInput } from "./bundle.ts";

/** No configuration, no network, no packages, no questions: a program is what lies in its directory. */
const SEALED = ["--no-prompt", "--no-config", "--no-lock", "--no-npm", "--no-remote", "--cached-only"];

/**
 * The launcher of a program. It works through links to it, from any directory and with an empty environment.
 *
 * `DROVER_V8_FLAGS` replaces the flags for V8, `DROVER_CACHE_DIR` the place of the cache. The cache holds code that is
 * run, so its place is never one that others can write to, such as /tmp. It exports `DROVER_BIN`, the directory of
 * the launchers, for programs that start others.
 */
export function launcher(program: Program, file: string): string {
  const v8 = program.v8.length > 0 ? program.v8.join(",") : "";
  return `#!/bin/sh
# ${program.name}: ${program.purpose}
export PATH="\${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}"
home=$(dirname "$(dirname "$(readlink -f "$0")")")
export DROVER_BIN="$home/bin" DENO_DIR="\${DROVER_CACHE_DIR:-$home/cache}" DENO_NO_UPDATE_CHECK=1
export MALLOC_ARENA_MAX="\${MALLOC_ARENA_MAX:-1}"
flags=\${DROVER_V8_FLAGS-${v8}}
exec "$home/lib/deno" run ${program.permissions.join(" ")} ${SEALED.join(" ")} \\
  \${flags:+"--v8-flags=$flags"} "$home/lib/app/${file}" "$@"
`;
}

/** Fills `directory`, which is made and must not exist. */
export async function makeDist(input: BundleInput, directory: string): Promise<BundledProgram[]> {
  Deno.mkdirSync(directory);
  Deno.mkdirSync(join(directory, "bin"));
  const app = join(directory, "lib", "app");
  Deno.mkdirSync(app, { recursive: true });
  const bundled = await bundle(input, app);
  const deno = join(directory, "lib", "deno");
  Deno.copyFileSync(Deno.execPath(), deno);
  Deno.chmodSync(deno, 0o755);
  for (const { program, file } of bundled) {
    const path = join(directory, "bin", program.name);
    Deno.writeTextFileSync(path, launcher(program, file), { mode: 0o755 });
  }
  return bundled;
}
