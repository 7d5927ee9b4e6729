/**
 * Connections that end by GOAWAY must not end the process: a use-after-free of the runtime, see `http2_shim.ts`.
 * With MALLOC_PERTURB_ freed memory is overwritten, which makes the fault certain instead of rare.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type LoggedProcess, spawnDeno } from "../../tests/support/process.ts";
import { tempDir } from "../../tests/support/temp.ts";

const PEER = "lib/rpc/testing/goaway_peer.ts";

function spawn(...args: string[]): LoggedProcess {
  return spawnDeno(PEER, args, { env: { MALLOC_PERTURB_: "165" } });
}

async function startServer(address: string): Promise<{ server: LoggedProcess; address: string }> {
  const server = spawn("serve", address);
  const [, bound = ""] = await server.waitForOutput(/^((?:tcp|unix):\S+)$/m);
  return { server, address: bound };
}

/** The process must end by itself, in order, without a word from the memory allocator or anybody else. */
async function endsWell(process: LoggedProcess): Promise<void> {
  const { success, code, signal } = await process.status;
  assert.ok(success, `exit code ${code}, signal ${signal}\n${process.output}`);
  assert.match(process.output, /^(?:(?:tcp|unix):\S+\n|idle\n)?closed\n$/);
}

for (const kind of ["TCP", "a unix socket"]) {
  Deno.test(`over ${kind}, a server and its clients survive each other's end`, async () => {
    using directory = tempDir();
    const wanted = kind === "TCP" ? "127.0.0.1:0" : `unix:${directory.join("s")}`;
    const { server, address } = await startServer(wanted);
    await using _server = server;
    for (const calls of ["1", "20"]) {
      await using caller = spawn("call", address, calls);
      await endsWell(caller);
    }
    await using idle = spawn("idle", address);
    await idle.waitForOutput(/^idle$/m);
    await using gone = spawn("idle", address);
    await gone.waitForOutput(/^idle$/m);
    gone.signal("SIGKILL"); // its connection ends without GOAWAY
    await gone.status;
    server.signal("SIGTERM"); // the server says GOAWAY to the idle client
    await endsWell(server);
    idle.signal("SIGTERM");
    await endsWell(idle);
  });
}
