/**
 * One side of the test of ending connections: a process that serves or calls, and tells on stdout how far it is.
 *
 * ```text
 * deno run -A goaway_peer.ts serve ADDRESS           says its address, serves until SIGTERM, then closes
 * deno run -A goaway_peer.ts call ADDRESS CALLS      calls, closes the client, ends
 * deno run -A goaway_peer.ts idle ADDRESS            calls once, says "idle", stays until SIGTERM
 * ```
 *
 * Each says "closed" at its end.
 *
 * @module
 */

import { connect, implement, serve } from "../mod.ts";
import { echoService } from "./echo.ts";

function say(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
}

function terminated(): Promise<void> {
  return new Promise((resolve) => {
    const go = (): void => {
      Deno.removeSignalListener("SIGTERM", go);
      resolve();
    };
    Deno.addSignalListener("SIGTERM", go);
  });
}

async function doServe(address: string): Promise<void> {
  const term = terminated();
  const services = [
    implement(echoService, {
      ask: (request) => request,
      async *count() {},
      async *chat() {},
    }),
  ];
  const server = await serve({ address, services });
  say(server.address);
  await term;
  await server.close();
  say("closed");
}

async function doCall(address: string, calls: number): Promise<void> {
  const client = connect(echoService, address);
  for (let length = 0; length < calls; length++) await client.unary("ask", { length });
  client.close();
  say("closed");
}

async function doIdle(address: string): Promise<void> {
  const term = terminated();
  const client = connect(echoService, address);
  await client.unary("ask", {});
  say("idle");
  await term;
  client.close();
  say("closed");
}

const [mode, address = "", calls] = Deno.args;
if (mode === "serve") await doServe(address);
else if (mode === "call") await doCall(address, Number(calls));
else if (mode === "idle") await doIdle(address);
else throw new Error(`goaway_peer: unknown mode ${mode}; use serve, call or idle`);
