/**
 * Makes `build/`: every program as one stand-alone binary.
 *
 * ```text
 * deno task build [--target x86_64-unknown-linux-gnu|aarch64-unknown-linux-gnu] [NAME...]
 * ```
 *
 * @module
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ROOT } from "../tests/support/repository.ts";
import { existingPrograms, WORKERS } from "./programs.ts";
import { bundle, runDeno, ShippingError } from "./shipping/bundle.ts";
import { compile, type Target, TARGETS } from "./shipping/compile.ts";

function readArguments(): { names: string[]; target: Target | undefined } {
  const { values, positionals } = parseArgs({
    args: Deno.args,
    options: { target: { type: "string" } },
    allowPositionals: true,
  });
  const target = TARGETS.find((known) => known === values.target);
  if (values.target !== undefined && target === undefined) {
    throw new Error(`--target takes one of ${TARGETS.join(", ")}, not ${values.target}`);
  }
  return { names: positionals, target };
}

async function main(): Promise<void> {
  const { names, target } = readArguments();
  const programs = existingPrograms(ROOT).filter(({ name }) => names.length === 0 || names.includes(name));
  if (programs.length === 0 && names.length === 0) throw new Error("there are no programs in cmd/");
  const unknown = names.filter((name) => !programs.some((program) => program.name === name));
  if (unknown.length > 0) throw new Error(`no such program: ${unknown.join(", ")}`);
  const build = join(ROOT, "build");
  const output = target === undefined ? build : join(build, target);
  Deno.mkdirSync(output, { recursive: true });
  await runDeno(ROOT, ["check", "--quiet", ...programs.map(({ entry }) => entry), ...WORKERS]);
  const app = Deno.makeTempDirSync({ dir: build, prefix: "app-" });
  try {
    for (const bundled of await bundle({ root: ROOT, programs, workers: WORKERS }, app)) {
      const path = join(output, bundled.program.name);
      await compile(bundled, app, path, target);
      console.log(`${path}  ${bundled.program.purpose}`);
    }
  } finally {
    Deno.removeSync(app, { recursive: true });
  }
  if (Deno.env.get("DENORT_BIN") === Deno.execPath()) {
    console.error(
      "DENORT_BIN is the Deno binary itself: this was a rehearsal, the files in build/ are plain Deno",
    );
  }
}

if (import.meta.main) {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof ShippingError)) throw error;
    console.error(error.message);
    if (error.message.includes("denort")) {
      console.error(
        "Binaries are made of a small runtime from Deno's download host. Without access to it, name a copy in\n" +
          "DENORT_BIN, or use `deno task dist`, which needs no download.",
      );
    }
    Deno.exit(1);
  }
}
