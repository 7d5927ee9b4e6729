/**
 * What the documentation names exists: files, functions, constants, tasks, links and their anchors. A guide that
 * points to things that were moved is worse than none.
 *
 * | in the text | is checked against |
 * |---|---|
 * | a path in backticks, `lib/io/io.ts` | the files; patterns (`*`) and placeholders (capitals: `lib/ROOM/x.ts`) are not |
 * | a call in backticks, `elect()`, `Volume.submit()` | the sources: the class, and a function of that name |
 * | a constant and a file in one row of a table | that file |
 * | `./denow task NAME` anywhere | the tasks of deno.json |
 * | a link to a file, with or without `#anchor` | files and their headings |
 *
 * @module
 */
import assert from "node:assert/strict";
import { dirname, join, normalize } from "node:path";
import { inRepository, SOURCE_DIRECTORIES, typescriptFiles } from "./support/repository.ts";

/** What the documentation is: these, and all of docs/. */
const TOP = ["README.md", "ARCHITECTURE.md"];

/** Directories whose names begin a path. */
const PATH = /^(?:\.ci|cmd|docs|lib|proto|tests|tools)\/[\w./-]*$/;

/** A call: optionally a class, then a function, perhaps a private one. */
const CALL = /^(?:([A-Z]\w*)\.)?#?([a-z]\w*)\(\)$/;

const CONSTANT = /^[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*$/;

interface Page {
  readonly path: string;
  readonly lines: readonly string[];
}

const pages: readonly Page[] = [
  ...TOP,
  ...[...Deno.readDirSync(inRepository("docs"))].filter(({ name }) => name.endsWith(".md"))
    .map(({ name }) => `docs/${name}`).sort(),
].map((path) => ({ path, lines: Deno.readTextFileSync(inRepository(path)).split("\n") }));

const sources: ReadonlyMap<string, string> = new Map(
  SOURCE_DIRECTORIES.flatMap(typescriptFiles).filter((path) => path !== "tests/docs_test.ts")
    .map((path) => [path, Deno.readTextFileSync(inRepository(path))]),
);

function exists(path: string): boolean {
  try {
    Deno.statSync(inRepository(path));
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Texts in backticks of a line. */
function quoted(line: string): string[] {
  return [...line.matchAll(/`([^`]+)`/g)].map(([, text]) => text ?? "");
}

/** Everything wrong that `check` says of the lines of all pages, as `file:line: what`. */
function offences(check: (line: string, page: Page) => Iterable<string>): string {
  return pages.flatMap((page) =>
    page.lines.flatMap((line, i) => [...check(line, page)].map((what) => `${page.path}:${i + 1}: ${what}`))
  ).join("\n");
}

/** True for a path with parts that stand for others. */
function isPattern(path: string): boolean {
  return path.split("/").some((part) => /^[A-Z]{3,}$/.test(part));
}

/** Why a call does not exist, or undefined. */
function missingCall(type: string | undefined, name: string): string | undefined {
  const definition = new RegExp(
    `(?:function |^ *(?:static |readonly |async |get |override |protected |abstract )*#?)${name}\\s*[(<:=?]`,
    "m",
  );
  if (type === "Deno") return undefined;
  const texts = [...sources.values()];
  if (type === undefined) return texts.some((text) => definition.test(text)) ? undefined : `no ${name}()`;
  const owner = new RegExp(`(?:class|interface) ${type}\\b`);
  const owners = texts.filter((text) => owner.test(text));
  if (owners.length === 0) return `no class ${type}`;
  return owners.some((text) => definition.test(text)) ? undefined : `no ${name}() beside class ${type}`;
}

/** The anchor of a heading, as hosts of repositories make it. */
function anchorOf(heading: string): string {
  return heading.toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-");
}

Deno.test("every path that the documentation names exists", () => {
  const found = offences((line) =>
    quoted(line).filter((text) => PATH.test(text) && !isPattern(text) && !exists(text)).map((text) =>
      `no ${text}`
    )
  );
  assert.equal(found, "");
});

Deno.test("every function that the documentation names exists", () => {
  const found = offences((line) =>
    quoted(line).flatMap((text) => {
      const [, type, name] = CALL.exec(text) ?? [];
      const missing = name === undefined ? undefined : missingCall(type, name);
      return missing === undefined ? [] : [missing];
    })
  );
  assert.equal(found, "");
});

Deno.test("constants stand in the file that their row names", () => {
  const found = offences((line) => {
    if (!line.startsWith("|")) return [];
    const texts = quoted(line), files = texts.filter((text) => sources.has(text));
    const constants = texts.filter((text) => CONSTANT.test(text) && text.includes("_") || text === "SLOTS");
    if (files.length !== 1) return [];
    return constants.filter((name) => !new RegExp(`\\b${name}\\b`).test(sources.get(files[0] ?? "") ?? ""))
      .map((name) => `${files[0]} has no ${name}`);
  });
  assert.equal(found, "");
});

Deno.test("every task that the documentation names is one of deno.json", () => {
  const { tasks } = JSON.parse(Deno.readTextFileSync(inRepository("deno.json"))) as {
    tasks: Record<string, string>;
  };
  const found = offences((line) =>
    [...line.matchAll(/\.\/denow task (\w[\w:-]*)/g)].map(([, name]) => name ?? "")
      .filter((name) => !Object.hasOwn(tasks, name)).map((name) => `no task ${name}`)
  );
  assert.equal(found, "");
});

Deno.test("every link leads somewhere", () => {
  const found = offences((line, { path }) =>
    [...line.matchAll(/\]\(([^)]+)\)/g)].map(([, to]) => to ?? "").filter((to) => !/^[a-z]+:/.test(to))
      .flatMap((to) => {
        const [file, anchor] = to.split("#");
        const target = file ? normalize(join(dirname(path), file)) : path;
        if (!exists(target)) return [`no ${target}`];
        if (anchor === undefined) return [];
        const page = pages.find((p) => p.path === target);
        const anchors = page?.lines.filter((l) => /^#{1,6} /.test(l)).map((l) =>
          anchorOf(l.replace(/^#+ /, ""))
        );
        return anchors?.includes(anchor) ? [] : [`${target} has no heading #${anchor}`];
      })
  );
  assert.equal(found, "");
});

Deno.test("the check of calls sees what it is there for", () => {
  assert.equal(missingCall(undefined, "elect"), undefined);
  assert.equal(missingCall("Requests", "submit"), undefined);
  assert.equal(missingCall("Requests", "neverThere"), "no neverThere() beside class Requests");
  assert.equal(missingCall("NeverThere", "submit"), "no class NeverThere");
  assert.equal(anchorOf("What works today, and what does not"), "what-works-today-and-what-does-not");
});
