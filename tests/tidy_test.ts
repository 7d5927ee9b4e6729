/**
 * The house rules that a machine can check. What the linter and the formatter of Deno check is left to them.
 *
 * @module
 */
import assert from "node:assert/strict";
import { basename } from "node:path";
import { PROGRAMS, WORKERS } from "../tools/programs.ts";
import { codeOnly, functionsOf, lineAt } from "./support/source.ts";
import {
  inRepository,
  isGenerated,
  ROOT,
  SOURCE_DIRECTORIES,
  typescriptFiles,
} from "./support/repository.ts";

/** Longest file, in lines. What does not fit is two ideas. */
const FILE_LINES = 400;

/** Longest function, in lines: what fits on a screen. */
const FUNCTION_LINES = 70;

/** The one file that may keep a test from running, because it says why. */
const MAY_IGNORE = "tests/support/conditional.ts";

interface Source {
  readonly path: string;
  readonly text: string;
  readonly code: string;
}

const sources: readonly Source[] = SOURCE_DIRECTORIES.flatMap(typescriptFiles)
  .filter((path) => !isGenerated(path))
  .map((path) => ({ path, text: Deno.readTextFileSync(inRepository(path)) }))
  .map(({ path, text }) => ({ path, text, code: codeOnly(text) }));

function isTest(path: string): boolean {
  return path.startsWith("tests/") || /_test(?:_worker)?\.ts$/.test(path);
}

/** Where a pattern stands in the chosen part of the sources, as `file:line: match`. */
function places(part: "text" | "code", pattern: RegExp, where: (path: string) => boolean): string[] {
  assert.ok(pattern.global, "the pattern is global");
  return sources.filter(({ path }) => where(path)).flatMap((source) =>
    [...source[part].matchAll(pattern)].map((match) =>
      `${source.path}:${lineAt(source.text, match.index)}: ${match[0].trim()}`
    )
  );
}

function none(found: readonly string[], rule: string): void {
  assert.ok(found.length === 0, `${rule}\n${found.join("\n")}`);
}

Deno.test("no file is longer than 400 lines", () => {
  const long = sources.map(({ path, text }) => ({ path, lines: text.split("\n").length - 1 }))
    .filter(({ lines }) => lines > FILE_LINES).map(({ path, lines }) => `${path}: ${lines} lines`);
  none(long, `files have at most ${FILE_LINES} lines`);
});

Deno.test("no function is longer than 70 lines", () => {
  const long = sources.flatMap(({ path, text }) =>
    functionsOf(text).filter(({ lines }) => lines > FUNCTION_LINES)
      .map(({ head, line, lines }) => `${path}:${line}: ${lines} lines: ${head}`)
  );
  none(long, `functions have at most ${FUNCTION_LINES} lines`);
});

Deno.test("a note on work left says what is left", () => {
  // Split, so that this file does not find itself.
  const note = new RegExp(
    `\\b(?:${"TO"}DO|${"FIX"}ME|${"XX"}X)\\b(?!(?:\\([^)]+\\))?:? +[\\w\`"']{2,})`,
    "g",
  );
  none(places("text", note, () => true), "a note without a text helps nobody");
});

Deno.test("the sources speak of the project alone", () => {
  none(
    places(
      "text",
      /\bissue\s+#?\d+|\B#\d{2,}\b|\/(?:work|home\/\w+|Users)\//gi,
      (path) => path !== "tests/tidy_test.ts",
    ),
    "no numbers of issues (they say nothing without the tracker) and no paths of somebody's machine",
  );
});

Deno.test("lib/ does not write to the console", () => {
  none(
    places("code", /\bconsole\.\w+/g, (path) => path.startsWith("lib/") && !isTest(path)),
    "log through lib/log/log.ts",
  );
});

Deno.test("no test is ignored without a reason, and none runs alone", () => {
  none(
    places(
      "code",
      /\bDeno\.test\.(?:ignore|only)\b|\b(?:ignore|only)\s*:/g,
      (path) => isTest(path) && path !== MAY_IGNORE,
    ),
    "use peerTest or testUnless of tests/support/conditional.ts",
  );
});

Deno.test("Workers are named in the form that bundling understands, and are listed", () => {
  const form = /new URL\(\s*("\.{1,2}\/[^"]*_worker\.ts"),\s*import\.meta\.url\s*,?\s*\)/g;
  const odd = sources.filter(({ path }) => /^(?:lib|cmd)\//.test(path) && !isTest(path)).flatMap(
    ({ path, text }) => {
      const fine = new Set([...text.matchAll(form)].map((match) => match.index + match[0].indexOf('"')));
      const named = text.matchAll(/(["'`])[^"'`\n]*_worker\.[tj]s\1/g);
      return [...named].filter(({ index }) => !fine.has(index)).map(({ index }) =>
        `${path}:${lineAt(text, index)}`
      );
    },
  );
  none(odd, 'name a Worker as new URL("./NAME_worker.ts", import.meta.url)');
  const files = sources.map(({ path }) => path).filter((path) =>
    path.endsWith("_worker.ts") && !isTest(path)
  );
  assert.deepEqual([...WORKERS].sort(), files, "WORKERS of tools/programs.ts and the *_worker.ts files");
  const names = [...files, ...PROGRAMS.map(({ entry }) => entry)].map((path) => basename(path));
  assert.equal(new Set(names).size, names.length, "names of Workers and programs are unique");
});

Deno.test("every entry file of cmd/ is a listed program", () => {
  const entries = sources.map(({ path }) => path).filter((path) =>
    /^cmd\/[^/]+\.ts$/.test(path) && !path.endsWith("_worker.ts") && !isTest(path)
  );
  const listed = new Set(PROGRAMS.map(({ entry }) => entry));
  none(
    entries.filter((entry) => !listed.has(entry)),
    "add to PROGRAMS of tools/programs.ts, or move to a directory",
  );
});

/** Runs Deno and returns what it said, empty when it succeeded. */
async function complaints(args: readonly string[]): Promise<string> {
  const output = await new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: ROOT,
    stdin: "null",
    env: { NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  return output.success
    ? ""
    : decoder.decode(output.stdout) + decoder.decode(output.stderr) || `${args[0]} failed`;
}

Deno.test("everything that is exported is documented", async () => {
  const paths = sources.map(({ path }) => path).filter((path) => !/_test(?:_worker)?\.ts$/.test(path));
  const report = await complaints(["doc", "--lint", ...paths]);
  const found = [...report.matchAll(/error\[([\w-]+)\]: (.*)\n\s*--> (.*)/g)]
    .map(([, rule, text, place]) => `${place?.replace(`${ROOT}/`, "")}: ${rule}: ${text}`);
  none(found, "what `deno doc --lint` finds");
  const rest = report.split("\n").filter((line) =>
    !/^Warning Failed resolving types|^ {4}at file/.test(line)
  );
  assert.ok(report === "", rest.join("\n"));
});

Deno.test("deno.lock matches deno.json", async () => {
  assert.equal(await complaints(["install", "--frozen", "--quiet"]), "");
});

Deno.test("every dependency has a line in the README that says what it is for", () => {
  const imports = JSON.parse(Deno.readTextFileSync(inRepository("deno.json"))).imports as Record<
    string,
    string
  >;
  const names = Object.entries(imports).filter(([, target]) => target.startsWith("npm:"))
    .map(([, target]) => target.replace(/^npm:(@?[^@]+)@.*$/, "$1"));
  let readme = "";
  try {
    readme = Deno.readTextFileSync(inRepository("README.md"));
  } catch (error) {
    assert.ok(error instanceof Deno.errors.NotFound);
  }
  const rows = readme.split("\n").filter((line) => line.startsWith("|"));
  const unlisted = names.filter((name) => !rows.some((row) => row.includes(`\`${name}\``)));
  none(
    unlisted,
    "README.md has a table of dependencies with a row `| `name` | what it is for |` for each; missing:",
  );
});
