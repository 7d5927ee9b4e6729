import assert from "node:assert/strict";
import fc from "fast-check";
import { MAX_VALUE_CHARS } from "./format.ts";
import {
  createLogger,
  descriptorOutput,
  type Fields,
  Level,
  type LogFormat,
  type Logger,
  parseLevel,
  Secret,
} from "./log.ts";
import { limitRepeats, MAX_REPEATED_MESSAGES } from "./repeats.ts";

const TIME = Date.UTC(2026, 0, 2, 3, 4, 5, 678);

function collect(format: LogFormat, level: Level = Level.INFO): { lines: string[]; logger: Logger } {
  const lines: string[] = [];
  const output = { level, format, wallClock: () => TIME, write: (line: string) => void lines.push(line) };
  return { lines, logger: createLogger(output, { volume: "db-0" }) };
}

function parsed(fields: Fields, message = "m"): Record<string, unknown> {
  const { lines, logger } = collect("json");
  logger.info(message, fields);
  return JSON.parse(lines[0] ?? "");
}

Deno.test("a text line has time, level, message and fields", () => {
  const { lines, logger } = collect("text");
  logger.warn("replica left the set", { replica: "tcp://10.0.0.7:10000", why: "no answer", tookMs: 12 });
  assert.deepEqual(lines, [
    '2026-01-02T03:04:05.678Z WARN  replica left the set volume=db-0 replica=tcp://10.0.0.7:10000 why="no answer" tookMs=12\n',
  ]);
});

Deno.test("a JSON line keeps types, and fields cannot overwrite its own", () => {
  assert.deepEqual(
    parsed({
      n: 1,
      big: 2n ** 60n,
      yes: true,
      none: null,
      gone: undefined,
      list: ["a", "b"],
      nan: NaN,
      level: "x",
    }),
    {
      time: "2026-01-02T03:04:05.678Z",
      level: "info",
      message: "m",
      volume: "db-0",
      n: 1,
      big: "1152921504606846976",
      yes: true,
      none: null,
      list: ["a", "b"],
      nan: "NaN",
      level_: "x",
    },
  );
});

Deno.test("events below the level are dropped, and the level can change", () => {
  const lines: string[] = [];
  const output = {
    level: Level.WARN as Level,
    format: "text" as const,
    wallClock: () => TIME,
    write: (line: string) => void lines.push(line),
  };
  const logger = createLogger(output).child({ a: 1 });
  logger.info("no");
  assert.equal(logger.enabled(Level.INFO), false);
  output.level = Level.DEBUG;
  logger.debug("yes");
  assert.equal(lines.length, 1);
});

Deno.test("errors show their causes, and their stacks only when debugging", () => {
  const error = new TypeError("outer", { cause: new Error("inner", { cause: "root" }) });
  assert.equal(parsed({ error })["error"], "TypeError: outer; caused by inner; caused by root");
  const { lines, logger } = collect("json", Level.DEBUG);
  logger.error("m", { error });
  assert.match(lines[0] ?? "", /log_test\.ts/);
});

Deno.test("a secret does not show itself anywhere", () => {
  const secret = new Secret("hunter2");
  const shown = [
    `${secret}`,
    JSON.stringify({ secret }),
    Deno.inspect({ secret }),
    JSON.stringify(parsed({ chap: secret })),
  ];
  assert.ok(!shown.join().includes("hunter2"), shown.join());
  assert.equal(secret.reveal(), "hunter2");
});

Deno.test("fields with telling names and passwords in URLs are redacted", () => {
  const line = parsed({
    chapPassword: "hunter2",
    AWS_SECRET_ACCESS_KEY: "hunter2",
    accessKey: "hunter2",
    apiToken: "hunter2",
    url: "cifs://user:hunter2@host/share and https://h:80/a@b",
    target: "s3://bucket@region/",
    error: new Error("cannot open nfs://u:hunter2@h/p"),
  }, "mounting smb://u:hunter2@h");
  assert.ok(!JSON.stringify(line).includes("hunter2"), JSON.stringify(line));
  assert.equal(line["target"], "s3://bucket@region/");
  assert.equal(line["url"], "cifs://user:***@host/share and https://h:80/a@b");
});

Deno.test("whatever is logged is one line without control characters", () => {
  const anything = fc.string({ unit: "binary", maxLength: 64 });
  fc.assert(
    fc.property(
      anything,
      anything,
      anything,
      fc.constantFrom("text" as const, "json" as const),
      (m, k, v, f) => {
        const { lines, logger } = collect(f);
        logger.info(m, { [k]: v, list: [v, v], error: new Error(v) });
        assert.equal(lines.length, 1);
        assert.match(lines[0] ?? "", /^[^\p{Cc}\u2028\u2029]*\n$/u);
        if (f === "json") JSON.parse(lines[0] ?? "");
      },
    ),
  );
});

Deno.test("long values are cut and say so", () => {
  const text = String(parsed({ text: "x".repeat(MAX_VALUE_CHARS + 5) })["text"]);
  assert.ok(text.endsWith("...(5 more)"));
  assert.equal((parsed({ list: Array(40).fill(1) })["list"] as string[]).at(-1), "...(8 more)");
});

Deno.test("a sink that takes part of a line gets the rest, and one that fails is told of later", () => {
  let mode: "short" | "fail" = "short";
  let written = "";
  const sink = {
    writeSync(bytes: Uint8Array): number {
      if (mode === "fail") throw new Deno.errors.WouldBlock();
      const part = bytes.subarray(0, 7);
      written += new TextDecoder().decode(part);
      return part.length;
    },
  };
  const logger = createLogger(descriptorOutput(sink, Level.INFO, "json"));
  mode = "fail";
  logger.info("one");
  logger.info("two");
  mode = "short";
  logger.info("three");
  logger.info("four");
  const events = written.trimEnd().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(events.map((event) => [event.message, event.count]), [
    ["log lines were lost", 2],
    ["three", undefined],
    ["four", undefined],
  ]);
});

Deno.test("level names are read in any case, and nothing else is", () => {
  assert.equal(parseLevel("WARNING"), Level.WARN);
  assert.equal(parseLevel("debug"), Level.DEBUG);
  assert.equal(parseLevel("constructor"), undefined);
  assert.equal(parseLevel(""), undefined);
});

Deno.test("a repeated message is written once per interval, with the number held back", () => {
  const { lines, logger } = collect("json");
  let now = 0;
  const limited = limitRepeats(logger, { everyMs: 1000, now: () => now });
  for (now = 0; now < 2000; now += 100) limited.child({ a: 1 }).warn("refused");
  limited.warn("other");
  const events = lines.map((line) => JSON.parse(line)).map((event) => [event.message, event.heldBack]);
  assert.deepEqual(events, [["refused", undefined], ["refused", 9], ["other", undefined]]);
});

Deno.test("the memory of repeats is bounded", () => {
  const { lines, logger } = collect("json");
  const limited = limitRepeats(logger, { everyMs: 1000, now: () => 0 });
  for (let index = 0; index <= MAX_REPEATED_MESSAGES; index++) limited.info(`message ${index}`);
  limited.info(`message ${MAX_REPEATED_MESSAGES}`);
  assert.equal(lines.length, MAX_REPEATED_MESSAGES + 1);
  limited.info("message 0");
  assert.equal(lines.length, MAX_REPEATED_MESSAGES + 2, "the oldest was forgotten, so it is written again");
});

Deno.test("the process's logger writes to standard error from the main thread and from a Worker", async () => {
  const worker = `import { getLogger } from ${JSON.stringify(new URL("./log.ts", import.meta.url).href)};
    getLogger({ thread: NAME }).info("hello"); self.postMessage?.("done");`;
  const module = (name: string): string =>
    `data:text/javascript,${encodeURIComponent(worker.replace("NAME", JSON.stringify(name)))}`;
  const script = `import ${JSON.stringify(module("main"))};
    const worker = new Worker(${JSON.stringify(module("worker"))}, { type: "module" });
    await new Promise((resolve) => worker.onmessage = resolve); worker.terminate();`;
  const output = await new Deno.Command(Deno.execPath(), {
    args: ["eval", script],
    env: { DROVER_LOG_LEVEL: "loud", DROVER_LOG_FORMAT: "" },
    stdin: "null",
  }).output();
  const text = new TextDecoder().decode(output.stderr);
  const events = text.trimEnd().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(events.filter((event) => event.message === "hello").map((event) => event.thread), [
    "main",
    "worker",
  ]);
  assert.ok(events.some((event) => event.value === "loud"), "a wrong setting is named");
});
