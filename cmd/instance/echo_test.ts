import assert from "node:assert/strict";
import { Echo } from "./echo.ts";

Deno.test("what nobody takes is left out, which is said; nobody waits for it", async () => {
  let open = Promise.withResolvers<void>(), written = "";
  const echo = new Echo(async (bytes) => {
    await open.promise;
    const part = bytes.subarray(0, 100_000);
    written += new TextDecoder().decode(part);
    return part.length;
  });
  const line = `[a] ${"x".repeat(1000)}\n`;
  for (let i = 0; i < 3000; i++) echo.take(line);
  assert.equal(written, "");
  open.resolve();
  for (let i = 0; i < 1000 && !written.includes("left out"); i++) await Promise.resolve();
  const lines = written.split("\n").filter((text) => text !== "");
  assert.ok(lines.length > 1000 && lines.length < 1100, `${lines.length} lines`);
  assert.match(lines.at(-1) ?? "", /lines were left out here/);
  open = Promise.withResolvers();
  open.resolve();
  written = "";
  echo.take("[b] more\n");
  for (let i = 0; i < 100 && written === ""; i++) await Promise.resolve();
  assert.equal(written, "[b] more\n");
});

Deno.test("an output that is gone is no error, and is tried again", async () => {
  let tries = 0;
  const echo = new Echo(() => {
    tries++;
    return Promise.reject(new Deno.errors.BrokenPipe("gone"));
  });
  for (let i = 1; i <= 3; i++) {
    echo.take("a\n");
    for (let n = 0; n < 10; n++) await Promise.resolve();
    assert.equal(tries, i);
  }
});
