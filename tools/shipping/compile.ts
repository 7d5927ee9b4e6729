/**
 * Compiles programs to stand-alone binaries. The bundles are what is compiled, so what a binary holds is the same
 * JavaScript that the tests of the bundles ran, and no tree of packages.
 *
 * `deno compile` puts the program behind `denort`, a small runtime that it fetches from Deno's download host. Where
 * that host cannot be reached, `DENORT_BIN` names a copy. With the path of the full Deno binary in its place the
 * step runs to its end too, which proves the graph, the flags and the includes; but the result is a plain Deno and
 * must not be shipped.
 *
 * @module
 */
import { join } from "node:path";
import { type BundledProgram, runDeno } from "./bundle.ts";

/** Platforms that binaries can be made for: Linux with the GNU C library. */
export const TARGETS = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"] as const;

/** One of {@linkcode TARGETS}. */
export type Target = typeof TARGETS[number];

/** The arguments of Deno that compile a program. */
export function compileArguments(
  bundled: BundledProgram,
  app: string,
  output: string,
  target?: Target,
): string[] {
  const { program, file, workers } = bundled;
  return [
    "compile",
    ...program.permissions,
    "--no-prompt",
    "--no-config",
    "--no-lock",
    "--no-check",
    ...(program.v8.length > 0 ? [`--v8-flags=${program.v8.join(",")}`] : []),
    ...(target === undefined ? [] : ["--target", target]),
    ...workers.flatMap((worker) => ["--include", join(app, worker)]),
    "--output",
    output,
    join(app, file),
  ];
}

/** Compiles one program. @throws {ShippingError} */
export async function compile(
  bundled: BundledProgram,
  app: string,
  output: string,
  target?: Target,
): Promise<void> {
  await runDeno(app, compileArguments(bundled, app, output, target));
}
