/**
 * Builds the module that gives Debian's tgtd a backing store named `longhorn` (`tgt/longhorn.c`): a peer for the
 * frontends that stand on tgtd. The headers that it needs are in no package, so the sources of Debian's tgt are fetched.
 *
 * @module
 */
import { join } from "node:path";
import { CommandError, runOrThrow, SystemRunner } from "../../lib/host/command.ts";
import { ROOT } from "../../tests/support/repository.ts";
import { cacheDirectory } from "./image.ts";
import { SUITE } from "./recipe.ts";

/** The module's source. */
const SOURCE = "tools/vm/tgt/longhorn.c";
/** Raised when the way of building changes. */
const BUILD_VERSION = 1;
/** Where Debian's sources are. */
const SOURCES = `deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ` +
  `http://deb.debian.org/debian ${SUITE} main\n`;
/** Time limit of each step, milliseconds. */
const STEP_MS = 5 * 60_000;

/** The module, built if it is not there. @throws {CommandError} it cannot be built here */
export async function ensureTgtStore(): Promise<string> {
  const source = Deno.readFileSync(join(ROOT, SOURCE));
  const key = await crypto.subtle.digest("SHA-256", new Uint8Array([BUILD_VERSION, ...source]));
  const hash = new Uint8Array(key).slice(0, 8).toHex();
  const cache = cacheDirectory(), built = join(cache, `tgt-${hash}.so`);
  try {
    Deno.statSync(built);
    return built;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  Deno.mkdirSync(cache, { recursive: true });
  const building = Deno.makeTempDirSync({ dir: cache, prefix: "building-tgt-" });
  try {
    await build(building, join(building, "out.so"));
    for (const { name } of [...Deno.readDirSync(cache)]) {
      if (/^tgt-[0-9a-f]{16}\.so$/.test(name)) Deno.removeSync(join(cache, name));
    }
    Deno.renameSync(join(building, "out.so"), built);
  } finally {
    Deno.removeSync(building, { recursive: true });
  }
  return built;
}

async function build(building: string, out: string): Promise<void> {
  const runner = new SystemRunner(),
    run = (...argv: string[]) => runOrThrow(runner, argv, { timeoutMs: STEP_MS });
  const tree = join(building, "tree"),
    lists = join(building, "lists"),
    sources = join(building, "sources.list");
  for (const path of [tree, join(lists, "partial")]) Deno.mkdirSync(path, { recursive: true });
  Deno.writeTextFileSync(sources, SOURCES);
  // The machine's own package lists may have no sources, and are not ours to change.
  const apt = (...rest: string[]) =>
    run(
      "env",
      `--chdir=${building}`,
      "apt-get",
      "-q",
      ...[
        `Dir::Etc::SourceList=${sources}`,
        "Dir::Etc::SourceParts=/dev/null",
        `Dir::State::Lists=${lists}`,
        `Dir::Cache=${join(building, "cache")}`,
        "APT::Sandbox::User=root",
      ].flatMap((option) => ["-o", option]),
      ...rest,
    );
  await apt("update");
  await apt("source", "--download-only", "tgt");
  const archive = [...Deno.readDirSync(building)].find(({ name }) => /^tgt_.*\.orig\.tar\./.test(name));
  if (archive === undefined) throw new CommandError(["apt-get", "source", "tgt"], "it gave no archive");
  await run("tar", "-xf", join(building, archive.name), "-C", tree, "--strip-components=1");
  const flags = ["-O2", "-Wall", "-shared", "-fPIC", "-D_GNU_SOURCE", `-I${join(tree, "usr")}`];
  await run("gcc", ...flags, "-o", out, join(ROOT, SOURCE));
}
