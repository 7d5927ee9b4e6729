/**
 * The two ways of shipping, from the sources to a program that runs in an empty directory with an empty
 * environment.
 *
 * @module
 */
import assert from "node:assert/strict";
import { existingPrograms, type Program, WORKERS } from "../tools/programs.ts";
import { bundle, type BundleInput, ShippingError } from "../tools/shipping/bundle.ts";
import { compile } from "../tools/shipping/compile.ts";
import { makeDist } from "../tools/shipping/dist.ts";
import { testUnless } from "./support/conditional.ts";
import { run, runAnyway } from "./support/process.ts";
import { inRepository, ROOT } from "./support/repository.ts";
import { type TempDir, tempDir } from "./support/temp.ts";

const SAMPLE: Program = {
  name: "sample",
  entry: "cmd/sample.ts",
  purpose: "a sample",
  permissions: ["-A"],
  v8: ["--max-semi-space-size=4"],
};

const FILES = {
  "deno.json": "{}",
  "cmd/sample.ts": `
    import { start } from "../lib/deep/start.ts";
    console.log(JSON.stringify({ args: Deno.args, main: import.meta.main, ...await start() }));`,
  "lib/deep/start.ts": `
    /** Starts the Worker and returns its answer. */
    export function start(): Promise<object> {
      const worker = new Worker(new URL("./sample_worker.ts", import.meta.url), { type: "module" });
      return new Promise((resolve) => {
        worker.onmessage = ({ data }) => { worker.terminate(); resolve(data); };
      });
    }`,
  "lib/deep/sample_worker.ts": `
    import { name } from "../other.ts";
    self.postMessage({ name, bin: Deno.env.get("DROVER_BIN") ?? null });`,
  "lib/other.ts": `export const name: string = "from the Worker";`,
};

function writeSources(directory: TempDir, files: Record<string, string> = {}): BundleInput {
  for (const [path, text] of Object.entries({ ...FILES, ...files })) {
    const full = directory.join("src", path);
    Deno.mkdirSync(full.replace(/\/[^/]*$/, ""), { recursive: true });
    Deno.writeTextFileSync(full, text);
  }
  return { root: directory.join("src"), programs: [SAMPLE], workers: ["lib/deep/sample_worker.ts"] };
}

Deno.test("a dist runs from an empty directory, through a link, with an empty environment", async () => {
  using directory = tempDir();
  const input = writeSources(directory);
  await makeDist(input, directory.join("dist"));
  Deno.removeSync(input.root, { recursive: true });
  Deno.mkdirSync(directory.join("empty"));
  Deno.symlinkSync(directory.join("dist/bin/sample"), directory.join("link"));
  const options = { cwd: directory.join("empty"), clearEnv: true };
  const { stdout } = await run(directory.join("link"), ["--version", "a b", "$HOME"], options);
  assert.deepEqual(JSON.parse(stdout), {
    args: ["--version", "a b", "$HOME"],
    main: true,
    name: "from the Worker",
    bin: directory.join("dist/bin"),
  });
  assert.deepEqual([...Deno.readDirSync(directory.join("empty"))], [], "nothing is written where it is run");
});

Deno.test("what a `using` declaration holds is given back in a bundle too, also when it is used only once", async () => {
  using directory = tempDir();
  const input = writeSources(directory, {
    "cmd/sample.ts": `
      class Lock implements Disposable {
        static held = 0;
        take(): boolean { Lock.held++; return true; }
        [Symbol.dispose](): void { Lock.held--; }
      }
      function glance(): boolean {
        for (const _ of Deno.args) {
          using lock = new Lock();
          if (lock.take()) continue;
          return true;
        }
        return false;
      }
      console.log(glance(), Lock.held, new URL("../lib/deep/sample_worker.ts", import.meta.url).href.length > 0);`,
  });
  await makeDist(input, directory.join("dist"));
  const { stdout } = await run(directory.join("dist/bin/sample"), ["a", "b"]);
  assert.equal(stdout, "false 0 true\n");
});

Deno.test("the flags for V8 can be replaced from outside", async () => {
  using directory = tempDir();
  await makeDist(writeSources(directory), directory.join("dist"));
  const flags = { clearEnv: true, env: { DROVER_V8_FLAGS: "--no-such-flag" } };
  const odd = await runAnyway(directory.join("dist/bin/sample"), [], flags);
  assert.match(odd.stdout + odd.stderr, /no-such-flag/);
  const none = await run(directory.join("dist/bin/sample"), [], {
    clearEnv: true,
    env: { DROVER_V8_FLAGS: "" },
  });
  assert.match(none.stdout, /from the Worker/);
});

Deno.test("a program that refers to a module which is not a listed Worker is not bundled", async () => {
  using directory = tempDir();
  const input = writeSources(directory);
  Deno.mkdirSync(directory.join("app"));
  await assert.rejects(bundle({ ...input, workers: [] }, directory.join("app")), (error) => {
    assert.ok(error instanceof ShippingError);
    assert.match(error.message, /sample\.js refers to \.\/sample_worker\.ts/);
    return true;
  });
});

Deno.test("a source that cannot be bundled fails with what Deno said", async () => {
  using directory = tempDir();
  const input = writeSources(directory, { "cmd/sample.ts": `import "./missing.ts";` });
  Deno.mkdirSync(directory.join("app"));
  await assert.rejects(bundle(input, directory.join("app")), /missing\.ts/);
});

Deno.test("compiling runs to its end, with the Worker inside", async () => {
  using directory = tempDir();
  Deno.mkdirSync(directory.join("app"));
  const [sample] = await bundle(writeSources(directory), directory.join("app"));
  assert.ok(sample);
  assert.deepEqual(sample.workers, ["sample_worker.js"]);
  // The Deno binary stands in for denort, which is not everywhere to be had: a rehearsal, see compile.ts.
  using _environment = setVariable("DENORT_BIN", Deno.env.get("DENORT_BIN") ?? Deno.execPath());
  await compile(sample, directory.join("app"), directory.join("sample"));
  const binary = Deno.readFileSync(directory.join("sample"));
  assert.notEqual(binary.byteLength, Deno.statSync(Deno.execPath()).size);
  assert.ok(new TextDecoder("latin1").decode(binary.subarray(-100_000)).includes("from the Worker"));
});

function setVariable(name: string, value: string): Disposable {
  const before = Deno.env.get(name);
  Deno.env.set(name, value);
  return {
    [Symbol.dispose]: () => before === undefined ? Deno.env.delete(name) : Deno.env.set(name, before),
  };
}

const programs = existingPrograms(ROOT);
const noPrograms = programs.length > 0 ? null : "there are no programs in cmd/";

testUnless(noPrograms, "every program answers --version from a dist", async () => {
  using directory = tempDir();
  const { version } = JSON.parse(Deno.readTextFileSync(inRepository("deno.json"))) as { version: string };
  await makeDist({ root: ROOT, programs, workers: WORKERS }, directory.join("dist"));
  Deno.mkdirSync(directory.join("empty"));
  for (const { name } of programs) {
    const options = { cwd: directory.join("empty"), clearEnv: true };
    const { stdout } = await run(directory.join("dist/bin", name), ["--version"], options);
    assert.ok(stdout.includes(version), `${name} --version prints ${version}, not ${stdout}`);
  }
});
