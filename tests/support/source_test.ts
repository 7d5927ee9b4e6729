import assert from "node:assert/strict";
import { codeOnly, functionsOf, importsOf } from "./source.ts";

Deno.test("texts, comments and regular expressions are blanked, and nothing moves", () => {
  const source = [
    'const a = "}{"; // }',
    "const b = a / 2 / 3; /* { */",
    "const c = /[/}]\\/}/.test(a) && `x${ { k: `}` }.k }}`;",
    "return /}/;",
  ].join("\n");
  const code = codeOnly(source);
  assert.equal(code.length, source.length);
  assert.equal(
    code.replace(/ +/g, " "),
    'const a = " "; \nconst b = a / 2 / 3; \nconst c = / /.test(a) && ` ${ { k: ` ` }.k } `;\nreturn / /;',
  );
});

Deno.test("imports of every form are found, and those in comments and texts are not", () => {
  const source = `import a from "a";
import "b";
import type { C,
  D } from "./c.ts";
export * from "./d.ts";
export { e } from '../e.ts';
const f = await import("f");
// import g from "g";
const h = 'import h from "h"';
export const from = "i";
const j = import.meta.url + "j";
`;
  assert.deepEqual(importsOf(source), [
    { specifier: "a", line: 1 },
    { specifier: "b", line: 2 },
    { specifier: "./c.ts", line: 3 },
    { specifier: "./d.ts", line: 5 },
    { specifier: "../e.ts", line: 6 },
    { specifier: "f", line: 7 },
  ]);
});

Deno.test("functions, methods and arrows are measured, blocks and classes are not", () => {
  const source = `export function one(a: { b: number } = { b: 1 }): Map<string, number> {
  if (a) {
  }
}
class Two<T> extends Base(T) {
  #three(): void {
    for (;;) {}
  }
  get four(): number { return 1; }
}
const five = (x: number) => {
};
test("six", async () => {
  return { seven() {
  } };
});
`;
  assert.deepEqual(functionsOf(source).map(({ line, lines }) => [line, lines]), [
    [1, 4],
    [6, 3],
    [9, 1],
    [11, 2],
    [14, 2],
    [13, 4],
  ]);
});
