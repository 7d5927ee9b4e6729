import assert from "node:assert/strict";
import { ROOT } from "../tests/support/repository.ts";
import { planted } from "./mutants.ts";
import { MUTANTS } from "./mutants/list.ts";

Deno.test("every bug that is to be planted still has its place in the sources, once", () => {
  for (const mutant of MUTANTS) {
    const text = Deno.readTextFileSync(`${ROOT}/${mutant.file}`);
    assert.notEqual(planted(text, mutant), text, mutant.name);
  }
  assert.ok(MUTANTS.length >= 10);
});

Deno.test("a place that is gone, or there twice, is named", () => {
  const mutant = { name: "x", file: "a.ts", from: "b", to: "c" };
  assert.throws(() => planted("aa", mutant), /a\.ts: .* 0 times/);
  assert.throws(() => planted("abab", mutant), /2 times/);
});
