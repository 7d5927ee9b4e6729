import assert from "node:assert/strict";
import { VERSION } from "../lib/engine/version.ts";
import { runAnyway, type RunResult } from "../tests/support/process.ts";
import { inRepository } from "../tests/support/repository.ts";

const program = inRepository("cmd/engine.ts");

function engine(...args: string[]): Promise<RunResult> {
  return runAnyway("timeout", ["60", Deno.execPath(), "run", "-A", "--no-check", program, ...args]);
}

Deno.test("the engine tells its version and its commands", async () => {
  const [version, help] = await Promise.all([engine("--version"), engine("controller", "--help")]);
  assert.deepEqual([version.code, version.stdout.trim()], [0, VERSION]);
  assert.equal(help.code, 0);
  for (
    const flag of ["--replica", "--size", "--frontend", "--salvageRequested", "--engine-replica-timeout"]
  ) {
    assert.match(help.stdout, new RegExp(`  ${flag} `));
  }
});

const MISTAKES: Readonly<Record<string, [string[], RegExp]>> = {
  "no size": [["controller", "vol"], /required option '--size/],
  "no volume": [["controller", "--size", "1g"], /missing required argument 'volume'/],
  "a command that does not exist": [["contoller"], /unknown command 'contoller'[^]*controller/],
  "a flag that does not exist": [
    ["controller", "vol", "--size", "1g", "--frontent", "socket"],
    /unknown option .--frontent.[^]*--frontend/,
  ],
  "a size that is none": [
    ["controller", "vol", "--size", "much"],
    /"much" is not a size; write for example 10GiB/,
  ],
  "a volume name of one letter": [["controller", "v", "--size", "1g"], /volume name "v": 2 to 64 letters/],
  "a volume name that is too long": [["controller", "v".repeat(65), "--size", "1g"], /2 to 64 letters/],
  "a volume name with a slash": [["controller", "../vol", "--size", "1g"], /volume name "\.\.\/vol"/],
  "a frontend that does not exist": [
    ["controller", "vol", "--size", "1g", "--frontend", "floppy"],
    /frontend "floppy" does not exist; choose .*socket/,
  ],
  "a backend that does not exist": [
    ["controller", "vol", "--size", "1g", "--enable-backend", "file"],
    /backend "file" is not supported; use tcp/,
  ],
  "a data protocol that does not exist": [
    ["controller", "vol", "--size", "1g", "--data-server-protocol", "carrier-pigeon"],
    /data server protocol "carrier-pigeon" is not supported; use tcp/,
  ],
  "an address of a frontend that is none": [
    ["controller", "vol", "--size", "1g", "--frontend", "socket", "--frontend-listen", "unix:relative"],
    /address "unix:relative": expected HOST:PORT or unix:\/absolute\/path/,
  ],
};

Deno.test("a command line that makes no sense ends with status 2 and says what is wrong", async () => {
  await Promise.all(
    Object.entries(MISTAKES).map(async ([what, [args, message]]) => {
      const { code, stderr } = await engine(...args);
      assert.equal(code, 2, `${what}: ${stderr}`);
      assert.match(stderr, message, what);
      assert.doesNotMatch(stderr, /^\s+at /m, `${what}: a stack is nothing for users`);
    }),
  );
});

Deno.test("what cannot work ends with status 1 and one line", async () => {
  const start = ["controller", "vol", "--size", "1g", "--current-size", "0"];
  const unusable = ["--listen", "127.0.0.1:1", "--replica", "unix:/x"];
  const [replica, listen] = await Promise.all([
    engine(...start, ...unusable),
    engine(...start, "--listen", "nowhere.invalid:1"),
  ]);
  assert.equal(replica.code, 1);
  assert.match(replica.stderr, /^engine: replica address "unix:\/x": expected tcp:\/\/HOST:PORT$/m);
  assert.equal(listen.code, 1);
  assert.match(listen.stderr, /^engine: .*nowhere\.invalid/m);
});
