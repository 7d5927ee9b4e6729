import assert from "node:assert/strict";
import { LUKS_HEADER_BYTES } from "../../lib/host/luks.ts";
import { peerTest } from "../../tests/support/conditional.ts";
import { run, runAnyway, type RunResult } from "../../tests/support/process.ts";
import { inRepository } from "../../tests/support/repository.ts";
import { tempDir } from "../../tests/support/temp.ts";

function crypt(...args: string[]): Promise<RunResult> {
  const program = inRepository("cmd/drover.ts");
  return runAnyway(Deno.execPath(), ["run", "-A", "--no-check", program, "crypt", ...args]);
}

Deno.test("a passphrase that others can read, or that is not there, is refused before anything is done", async () => {
  using directory = tempDir();
  const file = directory.join("key"), empty = directory.join("empty");
  Deno.writeTextFileSync(file, "secret", { mode: 0o644 });
  Deno.writeTextFileSync(empty, "", { mode: 0o600 });
  const answers = await Promise.all([
    crypt("format", "/dev/none", "--passphrase-file", file),
    crypt("format", "/dev/none", "--passphrase-file", empty),
    crypt("format", "/dev/none", "--passphrase-file", directory.join("none")),
    crypt("open", "/dev/none"),
  ]);
  assert.deepEqual(answers.map(({ code }) => code), [2, 2, 2, 2]);
  const [readable, nothing, missing, absent] = answers.map(({ stderr }) => stderr);
  assert.match(readable ?? "", /others can read it; run: chmod 600/);
  assert.match(nothing ?? "", /it is empty/);
  assert.match(missing ?? "", /cannot be read/);
  assert.match(absent ?? "", /required option '--passphrase-file/);
});

peerTest(
  "an empty image is encrypted, and not a second time",
  { needs: ["cryptsetup", "blkid"] },
  async () => {
    using directory = tempDir();
    const file = directory.join("key"), image = directory.join("image");
    Deno.writeTextFileSync(file, "secret", { mode: 0o600 });
    Deno.writeTextFileSync(image, "");
    Deno.truncateSync(image, LUKS_HEADER_BYTES + 1024 * 1024);
    const quick = ["--pbkdf", "pbkdf2", "--iterations", "1000"];
    assert.equal((await crypt("format", image, "--passphrase-file", file, ...quick)).code, 0);
    await run("cryptsetup", ["open", "--test-passphrase", "--key-file", file, image]);
    const again = await crypt("format", image, "--passphrase-file", file);
    assert.equal(again.code, 1);
    assert.match(again.stderr, /is not empty \(crypto_LUKS\)/);
  },
);
