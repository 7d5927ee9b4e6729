import assert from "node:assert/strict";
import { tempDir } from "../../tests/support/temp.ts";
import { Agent, AgentError } from "./agent.ts";

const decoder = new TextDecoder();

/** The machine's end: answers each script with what `answer` makes of it; undefined: not at all. */
async function machine(path: string, answer: (script: string) => string | undefined): Promise<Deno.UnixConn> {
  const connection = await Deno.connect({ transport: "unix", path });
  const say = (id: string, code: number, text: string) =>
    connection.write(
      new TextEncoder().encode(`${id} ${code} ${new TextEncoder().encode(text).toBase64()}\n`),
    );
  await say("0", 0, "6.1.0\n");
  (async () => {
    const buffer = new Uint8Array(4096);
    for (;;) {
      const count = await connection.read(buffer).catch(() => null);
      if (count === null) return;
      for (const line of decoder.decode(buffer.subarray(0, count)).trim().split("\n")) {
        const [id = "", script = ""] = line.split(" ");
        const output = answer(decoder.decode(Uint8Array.fromBase64(script)));
        if (output !== undefined) await say(id, output === "bad" ? 3 : 0, output);
      }
    }
  })();
  return connection;
}

Deno.test("scripts are answered, failing ones with their output, late ones not at all", async () => {
  using directory = tempDir();
  await using agent = new Agent(directory.join("agent"));
  using _ = await machine(directory.join("agent"), (script) => script === "silent" ? undefined : script);
  assert.equal(await agent.ready, "6.1.0");
  assert.deepEqual(await Promise.all([agent.run("ä b"), agent.run("second\n")]), ["ä b", "second"]);
  assert.equal((await agent.try("bad")).code, 3);
  await assert.rejects(agent.run("bad"), /exit code 3: bad\nbad/);
  await assert.rejects(agent.run("silent", 10), /no end after 0.01 s: silent/);
  assert.equal(await agent.run("after that"), "after that");
});

Deno.test("a machine that ends fails the scripts that wait for it, and those that come later", async () => {
  using directory = tempDir();
  await using agent = new Agent(directory.join("agent"));
  const connection = await machine(directory.join("agent"), () => undefined);
  await agent.ready;
  const waiting = agent.run("never answered");
  waiting.catch(() => {});
  connection.close();
  await assert.rejects(waiting, AgentError);
  await assert.rejects(agent.run("later"), /the machine has ended/);
});
