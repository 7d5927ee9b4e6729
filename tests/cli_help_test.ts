/**
 * The command line as people meet it: help, and what it says to mistakes.
 */
import assert from "node:assert/strict";
import { drover } from "./cli_kit.ts";
import { tempDir } from "./support/temp.ts";

async function refused(args: readonly string[], code: number, ...patterns: RegExp[]): Promise<void> {
  const result = await drover(...args);
  assert.equal(result.code, code, `${args.join(" ")}: ${result.stdout}${result.stderr}`);
  for (const pattern of patterns) assert.match(result.stderr, pattern);
  assert.doesNotMatch(result.stderr, /^\s+at /m, "no stack");
}

Deno.test("help tells the commands, examples and what an exit status means", async () => {
  const { code, stdout } = await drover("--help");
  assert.equal(code, 0);
  for (
    const pattern of [/^ {2}volume /m, /^ {2}check /m, /Examples:/, /Exit status: 0 done; 1 it failed; 2/]
  ) {
    assert.match(stdout, pattern);
  }
  const serve = await drover("volume", "serve", "--help");
  assert.equal(serve.code, 0);
  for (
    const pattern of [
      /--degraded/,
      /lost for good/,
      /revision counter/,
      /drover volume serve data --size 10GiB/,
    ]
  ) {
    assert.match(serve.stdout, pattern);
  }
});

Deno.test("help of the commands for running volumes has examples and says what is lost", async () => {
  for (
    const [command, ...patterns] of [
      ["snapshot", /drover snapshot create data before-upgrade/, /must be running/],
      ["replica", /drover replica add data --to \/disk4/, /each has all of its data/],
    ] as const
  ) {
    const { code, stdout } = await drover(command, "--help");
    assert.equal(code, 0);
    for (const pattern of patterns) assert.match(stdout, pattern);
  }
  await refused(["snapshot", "creat", "v1"], 2, /Did you mean create\?/, /drover snapshot --help/);
  await refused(["replica", "add", "v1"], 2, /'--to <path>' not specified/, /drover replica add --help/);
  await refused(["snapshot", "ls", "v1", "-o", "xml"], 2, /--output xml: expected table or json/);
});

Deno.test("the version is the one of the project", async () => {
  const { version } = JSON.parse(Deno.readTextFileSync(new URL("../deno.json", import.meta.url)));
  assert.equal((await drover("--version")).stdout.trim(), version);
});

Deno.test("mistakes are usage errors that name the word, suggest the right one and point to the help", async () => {
  await refused(["volum"], 2, /unknown command 'volum'/, /Did you mean volume\?/);
  await refused(["volume", "srve"], 2, /Did you mean serve\?/, /drover volume --help/);
  await refused(["volume", "serve", "v1", "--sise", "1g"], 2, /--sise/, /Did you mean --size\?/);
  await refused(["volume", "serve"], 2, /missing required argument 'name'/, /drover volume serve --help/);
  await refused(["check", "--for", "tape"], 2, /--for tape/, /loop, nbd, iscsi, tgt, encryption, kubernetes/);
});

Deno.test("values that cannot be are refused by name, and nothing is made", async () => {
  using directory = tempDir();
  const dir = directory.join("data");
  const serve = (...args: string[]) => ["volume", "serve", ...args, "--dir", dir];
  await refused(serve("v1", "--size", "10x"), 2, /"10x" is not a size/);
  await refused(serve("v1", "--size", "1000"), 2, /--size 1000: .* multiple of 4096 bytes; the next is 4096/);
  await refused(serve("v1", "--size", "1m", "--replicas", "0"), 2, /--replicas 0: expected 1 to 16/);
  await refused(serve("../x", "--size", "1m"), 2, /volume name "\.\.\/x"/);
  await refused(serve("v1"), 2, /volume v1 does not exist in .*data; to make it, add for example --size/);
  await refused(serve("v1", "--size", "1m", "--frontend", "tape"), 2, /--frontend tape: choose auto, loop/);
  await refused(serve("v1", "--size", "1m", "--frontend", "nbd", "--listen", "x"), 2, /address "x"/);
  await refused(serve("v1", "--size", "1m", "--io-mode", "x"), 2, /--io-mode x: expected direct or cached/);
  await refused(["volume", "info", "v1", "--dir", dir], 1, /no volume v1 in .*data; --dir names another/);
  await refused(["volume", "ls", "--dir", dir, "-o", "xml"], 2, /--output xml: expected table or json/);
  assert.deepEqual([...Deno.readDirSync(directory.path)], []);
});

Deno.test("a file system that cannot hold copies is refused", async () => {
  await refused(
    ["volume", "serve", "v1", "--size", "1m", "--dir", "/proc/self", "--frontend", "nbd"],
    2,
    /--dir \/proc\/self: it is on .*, which cannot hold copies/,
  );
});

Deno.test("a secret that others can read is refused, and never repeated", async () => {
  using directory = tempDir();
  const file = directory.join("chap");
  Deno.writeTextFileSync(file, "user = u\nsecret = hunter2hunter2\n", { mode: 0o644 });
  const args = ["volume", "serve", "v1", "--size", "1m", "--dir", directory.join("d"), "--frontend", "iscsi"];
  await refused([...args, "--chap-file", file], 2, /others can read it; run: chmod 600/);
  Deno.writeTextFileSync(file, "user = u\nhunter2hunter2\n");
  Deno.chmodSync(file, 0o600);
  const { code, stderr } = await drover(...args, "--chap-file", file);
  assert.equal(code, 2);
  assert.match(stderr, /line 2: expected KEY = VALUE/);
  assert.doesNotMatch(stderr, /hunter2/);
});

Deno.test("check answers with a table, with JSON, and fails for what is needed and missing", async () => {
  using directory = tempDir();
  const { code, stdout } = await drover("check", "--dir", directory.path);
  assert.equal(code, 0, stdout);
  assert.match(stdout, /^CHECK +RESULT +FOR +FOUND$/m);
  assert.match(stdout, /^extents, O_DIRECT +ok +all/m);
  assert.deepEqual([...Deno.readDirSync(directory.path)], [], "the probe is removed");
  const bad = await drover("check", "--dir", "/proc/self", "-o", "json");
  assert.equal(bad.code, 1);
  assert.match(bad.stderr, /needed and missing: extents, O_DIRECT/);
  const answers: { name: string; ok: boolean; needed: boolean; fix: string }[] = JSON.parse(bad.stdout);
  const failed = answers.find(({ name }) => name === "extents, O_DIRECT");
  assert.ok(failed && !failed.ok && failed.needed && failed.fix !== "");
});
