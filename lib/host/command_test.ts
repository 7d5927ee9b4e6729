import assert from "node:assert/strict";
import { CommandError, type CommandEvent, OUTPUT_LIMIT_BYTES, runOrThrow, SystemRunner } from "./command.ts";

Deno.test("a command's exit code and output come back, and it is reported", async () => {
  const events: CommandEvent[] = [];
  const runner = new SystemRunner((event) => events.push(event));
  const result = await runner.run(["sh", "-c", "echo out; echo err >&2; exit 3"]);
  assert.deepEqual(result, { code: 3, stdout: "out\n", stderr: "err\n" });
  assert.equal(events.length, 1);
  assert.equal(events[0]?.code, 3);
  assert.deepEqual(events[0]?.argv.slice(0, 2), ["sh", "-c"]);
});

Deno.test("arguments are never interpreted by a shell", async () => {
  const { stdout } = await new SystemRunner().run(["printf", "%s", "$(id); `id` | x > /y"]);
  assert.equal(stdout, "$(id); `id` | x > /y");
});

Deno.test("a command that does not end in time is killed and is an error", async () => {
  const events: CommandEvent[] = [];
  const runner = new SystemRunner((event) => events.push(event));
  await assert.rejects(runner.run(["sleep", "1000"], { timeoutMs: 50 }), (error) => {
    assert.ok(error instanceof CommandError);
    assert.match(error.message, /^sleep 1000: did not end within 50 ms$/);
    return true;
  });
  assert.deepEqual(events.map((event) => event.code), ["timeout"]);
});

Deno.test("a program that is not there is an error that says so", async () => {
  await assert.rejects(new SystemRunner().run(["drover-no-such-program"]), /is not installed/);
});

Deno.test("output beyond the limit is read and dropped", async () => {
  const { stdout, code } = await new SystemRunner().run(["head", "-c", "3000000", "/dev/zero"]);
  assert.equal(code, 0);
  assert.equal(stdout.length, OUTPUT_LIMIT_BYTES);
});

Deno.test("input reaches the command, and one that does not want it does not mind", async () => {
  const input = new TextEncoder().encode("secret\n");
  const runner = new SystemRunner();
  assert.equal((await runner.run(["cat"], { input })).stdout, "secret\n");
  assert.equal((await runner.run(["true"], { input: new Uint8Array(1024 * 1024) })).code, 0);
});

Deno.test("the prefix goes before the command", async () => {
  const { stdout } = await new SystemRunner(() => {}, ["env", "-i", "A=b"]).run(["env"]);
  assert.equal(stdout, "A=b\n");
});

Deno.test("a failing command is an error with what it said, where success is needed", async () => {
  const runner = new SystemRunner();
  await assert.rejects(runOrThrow(runner, ["sh", "-c", "echo no such thing >&2; exit 4"]), (error) => {
    assert.ok(error instanceof CommandError);
    assert.match(error.message, /exit code 4: no such thing$/);
    assert.equal(error.result?.code, 4);
    return true;
  });
});
