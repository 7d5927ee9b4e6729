import assert from "node:assert/strict";
import { newSize } from "../volume/grow.ts";
import { engineAddress, goIndented, parseLabels, tabbed } from "./globals.ts";
import { splitLine } from "../longhorn.ts";
import { bar } from "../support/progress.ts";

Deno.test("a bar is as long for every percentage", () => {
  assert.equal(bar(0), `[${".".repeat(30)}]   0 %`);
  assert.equal(bar(50), `[${"#".repeat(15)}${".".repeat(15)}]  50 %`);
  assert.equal(bar(1000), `[${"#".repeat(30)}] 100 %`);
  assert.equal(bar(-1), bar(0));
});

Deno.test("sizes of an expansion are absolute or relative, whole blocks, and never smaller", () => {
  const mib = 1024 ** 2;
  assert.equal(newSize("2m", mib), 2 * mib);
  assert.equal(newSize("+1m", mib), 2 * mib);
  assert.equal(newSize("1m", mib), mib);
  assert.throws(() => newSize("512k", mib), /volumes do not shrink/);
  assert.throws(() => newSize("+100", mib), /multiple of 4096 bytes; the next is 1052672/);
  assert.throws(() => newSize("x", mib), /is not a size/);
});

Deno.test("addresses of engines may be written as URLs", () => {
  assert.equal(engineAddress("http://localhost:9501"), "localhost:9501");
  assert.equal(engineAddress("http://localhost:9501/v1"), "localhost:9501");
  assert.equal(engineAddress("tcp://[::1]:9501"), "[::1]:9501");
  assert.equal(engineAddress("10.0.0.1:9501"), "10.0.0.1:9501");
  assert.equal(engineAddress("unix:/run/x"), "unix:/run/x");
});

Deno.test("tables and JSON look as Go prints them", () => {
  assert.equal(tabbed([["A", "BB", "C"], ["long", "b", ""]]), "A    BB C\nlong b  ");
  assert.equal(
    goIndented({ a: "<&>", b: {}, c: [1] }),
    `{\n\t"a": "\\u003c\\u0026\\u003e",\n\t"b": {},\n\t"c": [\n\t\t1\n\t]\n}`,
  );
  assert.deepEqual(parseLabels(["a=1=2", "b="]), { a: "1=2", b: "" });
  assert.throws(() => parseLabels(["=x"]), /--label =x: expected KEY=VALUE/);
});

Deno.test("the command is found behind flags with and without values", () => {
  const line = splitLine([
    "--debug",
    "--volume-name",
    "replica",
    "--url=x",
    "controller",
    "v",
    "--size",
    "1",
  ]);
  assert.deepEqual(line, {
    globals: ["--debug", "--volume-name=replica", "--url=x"],
    command: "controller",
    rest: ["v", "--size", "1"],
  });
  assert.deepEqual(splitLine(["--help"]), { globals: ["--help"], command: "", rest: [] });
});
