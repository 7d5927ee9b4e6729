import assert from "node:assert/strict";
import { tempDir } from "../../tests/support/temp.ts";
import { CHAP_VARIABLES, readChap } from "./chap.ts";
import { UsageError } from "./program.ts";

function withFile(text: string, body: (path: string) => void): void {
  using directory = tempDir();
  const path = directory.join("chap");
  Deno.writeTextFileSync(path, text, { mode: 0o600 });
  body(path);
}

function withEnvironment(values: Record<string, string>, body: () => void): void {
  for (const name of CHAP_VARIABLES) Deno.env.delete(name);
  for (const [name, value] of Object.entries(values)) Deno.env.set(name, value);
  try {
    body();
  } finally {
    for (const name of CHAP_VARIABLES) Deno.env.delete(name);
  }
}

Deno.test("a file gives names and secrets, with comments and blanks around", () => {
  withFile(
    "# who\n\n user = alice \nsecret=a b = c\nmutual-user = drover\nmutual-secret = other\n",
    (path) => {
      assert.deepEqual(readChap(path), {
        user: "alice",
        secret: "a b = c",
        mutual: { user: "drover", secret: "other" },
      });
    },
  );
});

Deno.test("without a file the environment counts, and nothing at all means no CHAP", () => {
  withEnvironment({}, () => assert.equal(readChap(undefined), undefined));
  withEnvironment({ DROVER_CHAP_USER: "u", DROVER_CHAP_SECRET: "s" }, () => {
    assert.deepEqual(readChap(undefined), { user: "u", secret: "s" });
    withFile("user = f\nsecret = g\n", (path) => assert.equal(readChap(path)?.user, "f"));
  });
});

Deno.test("half a setting is refused by what is missing, without its secret", () => {
  const refused = (text: string, pattern: RegExp) =>
    withFile(text, (path) =>
      assert.throws(() => readChap(path), (error) => {
        assert.ok(error instanceof UsageError);
        assert.match(error.message, pattern);
        assert.doesNotMatch(error.message, /hunter2/);
        return true;
      }));
  refused("user = u\n", /secret is missing/);
  refused("secret = hunter2\n", /user is missing/);
  refused("", /user and secret are missing/);
  refused("user = u\nsecret = hunter2\nmutual-user = m\n", /mutual-secret is missing/);
  refused("user = u\nsecret = hunter2\nmutual-user = m\nmutual-secret = hunter2\n", /must differ/);
  refused("password = hunter2\n", /line 1: expected KEY = VALUE, with KEY one of user, secret/);
});

Deno.test("a file that is not there, or that others can read, is refused", () => {
  assert.throws(() => readChap("/no/such/file"), /--chap-file \/no\/such\/file: cannot be read/);
  withFile("user = u\nsecret = s\n", (path) => {
    Deno.chmodSync(path, 0o640);
    assert.throws(() => readChap(path), /others can read it; run: chmod 600/);
  });
});
