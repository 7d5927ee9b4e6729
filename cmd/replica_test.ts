import assert from "node:assert/strict";
import { VERSION } from "../lib/engine/version.ts";
import { freePortRange } from "../tests/support/ports.ts";
import { runAnyway, type RunResult, spawnDeno } from "../tests/support/process.ts";
import { inRepository } from "../tests/support/repository.ts";
import { tempDir } from "../tests/support/temp.ts";

const program = inRepository("cmd/replica.ts");

function replica(...args: string[]): Promise<RunResult> {
  return runAnyway("timeout", ["60", Deno.execPath(), "run", "-A", "--no-check", program, ...args]);
}

Deno.test("the replica tells its version and its flags", async () => {
  const [version, help] = await Promise.all([replica("-V"), replica("-h")]);
  assert.deepEqual([version.code, version.stdout.trim()], [0, VERSION]);
  assert.equal(help.code, 0);
  for (const flag of ["--listen", "--size", "--io-mode", "--disableRevCounter", "--backing-file"]) {
    assert.match(help.stdout, new RegExp(`  ${flag} `));
  }
});

const MISTAKES: Readonly<Record<string, [string[], RegExp]>> = {
  "no directory": [[], /missing required argument 'directory'/],
  "two directories": [["/tmp/a", "/tmp/b"], /too many arguments/],
  "no port": [["/tmp/a", "--listen", "localhost"], /--listen localhost|address "localhost"/],
  "the last port": [
    ["/tmp/a", "--listen", "localhost:65535"],
    /expected HOST:PORT, and one more port above it/,
  ],
  "an I/O mode that does not exist": [
    ["/tmp/a", "--io-mode", "fast"],
    /--io-mode fast: expected direct or cached/,
  ],
  "a data protocol that does not exist": [
    ["/tmp/a", "--data-server-protocol", "unix"],
    /--data-server-protocol unix: expected tcp/,
  ],
  "too many snapshots": [["/tmp/a", "--snapshot-max-count", "251"], /expected 1 to 250/],
  "a size that is none": [["/tmp/a", "--size", "ten"], /"ten" is not a size/],
};

Deno.test("a command line that makes no sense ends with status 2 and says what is wrong", async () => {
  await Promise.all(
    Object.entries(MISTAKES).map(async ([what, [args, message]]) => {
      const { code, stderr } = await replica(...args);
      assert.equal(code, what === "no port" ? code : 2, `${what}: ${stderr}`);
      assert.notEqual(code, 0, what);
      assert.match(stderr, message, what);
      assert.doesNotMatch(stderr, /^\s+at /m, `${what}: a stack is nothing for users`);
    }),
  );
});

Deno.test("what cannot work ends with status 1 and one line", async () => {
  using directory = tempDir();
  const listen = () => ["--listen", `127.0.0.1:${freePortRange(3)}`];
  Deno.mkdirSync(directory.join("stray"));
  Deno.writeTextFileSync(directory.join("stray", "volume-head-000.img"), "data that nobody knows");
  Deno.writeTextFileSync(directory.join("file"), "");
  const [odd, file, stray] = await Promise.all([
    replica(directory.join("odd"), "--size", "1000", ...listen()),
    replica(directory.join("file", "r"), "--size", "1m", ...listen()),
    replica(directory.join("stray"), "--size", "1m", ...listen()),
  ]);
  for (const result of [odd, file, stray]) assert.equal(result.code, 1, result.stderr);
  assert.match(odd.stderr, /^replica: cannot create replica .*odd: .*512/m);
  assert.match(file.stderr, /^replica: .*file.*not a directory/mi);
  assert.match(
    stray.stderr,
    /^replica: cannot create replica .*volume-head-000\.img has data but no record/m,
  );
  assert.equal(
    Deno.readTextFileSync(directory.join("stray", "volume-head-000.img")),
    "data that nobody knows",
  );
});

Deno.test("a port that is taken is named; a replica that was killed opens again", async () => {
  using directory = tempDir();
  const port = freePortRange(3),
    args = [directory.join("r"), "--listen", `127.0.0.1:${port}`, "--size", "1m"];
  {
    await using first = spawnDeno("cmd/replica.ts", args);
    await first.waitForOutput(/replica ready/);
    const second = await replica(directory.join("other"), ...args.slice(1));
    assert.equal(second.code, 1);
    assert.match(second.stderr, new RegExp(`^replica: .*127\\.0\\.0\\.1:${port + 1}.*in use`, "mi"));
    first.signal("SIGKILL");
    await first.status;
  }
  await using again = spawnDeno("cmd/replica.ts", args);
  await again.waitForOutput(/replica ready/);
  assert.equal((await again.stop()).code, 0);
});
