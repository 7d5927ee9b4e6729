/**
 * Bundles programs and Workers into single JavaScript files that lie side by side in one directory and need neither
 * configuration nor packages nor network. Both ways of shipping start from these files.
 *
 * `deno bundle` leaves `new URL("./volume_worker.ts", import.meta.url)` as it is, and relative to a bundle that path
 * is wrong. So the path is rewritten here, and anything in its place that is not a listed Worker is an error.
 *
 * Comments, white space and long names are taken out: an idle replica has 2.6 MiB less of its own then, an engine 4.
 * The minifier of `deno bundle` (2.9.6) is no choice: it takes a variable of a `using` declaration that is used once
 * for one that can be replaced by its value, and what it holds is then never given back: locks stay held.
 *
 * @module
 */
import { basename, dirname, join } from "node:path";
import { stop, transform } from "esbuild";
import type { Program } from "../programs.ts";

/** What to bundle. */
export interface BundleInput {
  /** Top directory of the sources, with `deno.json`. */
  readonly root: string;
  /** Programs whose entry files exist. */
  readonly programs: readonly Program[];
  /** Worker entry files, relative to `root`. */
  readonly workers: readonly string[];
}

/** A bundled program. */
export interface BundledProgram {
  /** The program. */
  readonly program: Program;
  /** File name of its bundle. */
  readonly file: string;
  /** File names of the bundles of the Workers it can start, directly or from another Worker. */
  readonly workers: readonly string[];
}

/** A step of shipping failed; the message holds what the tool said. */
export class ShippingError extends Error {
  /** Name of the class. */
  override readonly name = "ShippingError";
}

/** `new URL("PATH.ts", import.meta.url)` in the output of esbuild, over one line or several. */
const MODULE_URL = /(new URL\(\s*")([^"]+\.ts)("\s*,\s*import\.meta\.url)/g;

/** The name of the bundle of a source file. */
function bundleName(path: string): string {
  return basename(path).replace(/\.ts$/, ".js");
}

/** Runs Deno in a directory. @throws {ShippingError} */
export async function runDeno(cwd: string, args: readonly string[]): Promise<string> {
  const output = await new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd,
    stdin: "null",
    env: { NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" },
  }).output();
  const decoder = new TextDecoder();
  const said = decoder.decode(output.stdout) + decoder.decode(output.stderr);
  if (!output.success) throw new ShippingError(`deno ${args.join(" ")} failed:\n${said}`);
  return said;
}

function javascriptBelow(directory: string): string[] {
  return [...Deno.readDirSync(directory)].flatMap((entry) => {
    const path = join(directory, entry.name);
    return entry.isDirectory ? javascriptBelow(path) : path.endsWith(".js") ? [path] : [];
  });
}

/** Points the URLs of Workers at their bundles. */
function rewrite(name: string, text: string, workers: ReadonlySet<string>): { text: string; used: string[] } {
  const used: string[] = [];
  const rewritten = text.replace(MODULE_URL, (_, before: string, path: string, after: string) => {
    const target = bundleName(path);
    if (!workers.has(target)) {
      throw new ShippingError(`${name} refers to ${path}, which WORKERS in tools/programs.ts does not list`);
    }
    used.push(target);
    return `${before}./${target}${after}`;
  });
  return { text: rewritten, used };
}

function reachable(from: string, uses: ReadonlyMap<string, readonly string[]>): string[] {
  const found = new Set<string>();
  const visit = (name: string): void => {
    for (const worker of uses.get(name) ?? []) {
      if (found.has(worker)) continue;
      found.add(worker);
      visit(worker);
    }
  };
  visit(from);
  return [...found].sort();
}

/**
 * Bundles everything into `directory`, which exists and is empty.
 *
 * @throws {ShippingError} when bundling fails, or when a program refers to a module that is not a listed Worker
 */
export async function bundle(input: BundleInput, directory: string): Promise<BundledProgram[]> {
  if (input.programs.length === 0) throw new ShippingError("there are no programs to bundle");
  const entries = [...input.programs.map(({ entry }) => entry), ...input.workers];
  const work = Deno.makeTempDirSync({ dir: dirname(directory), prefix: "bundle-" });
  const uses = new Map<string, string[]>();
  try {
    await runDeno(input.root, [
      "bundle",
      "--quiet",
      "--platform",
      "deno",
      "--outdir",
      work,
      ...entries,
    ]);
    const workers = new Set(input.workers.map(bundleName));
    for (const path of javascriptBelow(work)) {
      const name = basename(path);
      const { text, used } = rewrite(name, Deno.readTextFileSync(path), workers);
      uses.set(name, used);
      const { code } = await transform(text, {
        minifyWhitespace: true,
        minifyIdentifiers: true,
        legalComments: "none",
        format: "esm",
        target: "esnext",
      });
      Deno.writeTextFileSync(join(directory, name), code);
    }
  } finally {
    await stop();
    Deno.removeSync(work, { recursive: true });
  }
  for (const name of entries.map(bundleName)) {
    if (!uses.has(name)) throw new ShippingError(`deno bundle wrote no ${name}`);
  }
  return input.programs.map((program) => {
    const file = bundleName(program.entry);
    return { program, file, workers: reachable(file, uses) };
  });
}
