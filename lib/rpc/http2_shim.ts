/**
 * Cures a use-after-free in Deno's `node:http2` (2.9.4 to 2.9.6 at least): when a session ends inside a callback
 * of the native HTTP/2 library (a GOAWAY, or an RST_STREAM that ends the last stream of a closing session), the
 * native session is freed while the library is still using it, and the whole process aborts - server or client.
 *
 * The guard that is missing there is made here, on the prototype of the native handle:
 *
 * - `getOutgoingChunk()` answers "nothing" while `receive()` or itself is on the stack; the outer caller drains;
 * - `destroy()` is put off to the next tick while one of them is on the stack.
 *
 * The module must be evaluated in every thread that uses gRPC; `setup.ts` does that. It throws if the internals
 * it relies on are not there, so that an upgrade of Deno cannot lose the cure unnoticed.
 *
 * @module
 */

import http2 from "node:http2";
import process from "node:process";
import { Duplex } from "node:stream";

/** The native session handle; only what is used here. */
interface Handle {
  receive(data: unknown): unknown;
  getOutgoingChunk(): unknown;
  destroy(...args: unknown[]): unknown;
  sendPending(): unknown;
  [DEPTH]?: number;
  [PENDING]?: boolean;
  [DONE]?: boolean;
}

/** How many of receive() and getOutgoingChunk() are on the stack. */
const DEPTH = Symbol("drover.http2.depth");
/** destroy() has been called and waits for the next tick. */
const PENDING = Symbol("drover.http2.pending");
/** The prototype has been changed already. */
const DONE = Symbol.for("drover.http2.shim");

const METHODS = ["receive", "getOutgoingChunk", "destroy", "sendPending"] as const;
const NOTHING = new Uint8Array(0);

function isHandle(value: unknown): value is Handle {
  return typeof value === "object" && value !== null &&
    METHODS.every((name) => typeof (value as Record<string, unknown>)[name] === "function");
}

/** The prototype of the native handle, taken from a session on a stream that leads nowhere. */
function handlePrototype(): Handle {
  const nowhere = new Duplex({
    read(): void {},
    write(_chunk: unknown, _encoding: unknown, done: () => void): void {
      done();
    },
  });
  const session = http2.connect("http://127.0.0.1", { createConnection: () => nowhere });
  session.on("error", () => {});
  try {
    const fields = session as unknown as Record<symbol, unknown>;
    const handle = Object.getOwnPropertySymbols(session).map((key) => fields[key]).find(isHandle);
    if (handle === undefined) {
      throw new Error(
        `http2_shim: the native HTTP/2 session of Deno ${Deno.version.deno} looks different; ` +
          `look whether the crash on GOAWAY is cured there, then adapt lib/rpc/http2_shim.ts`,
      );
    }
    return Object.getPrototypeOf(handle) as Handle;
  } finally {
    session.destroy();
    nowhere.destroy();
  }
}

function install(): void {
  const prototype = handlePrototype();
  if (prototype[DONE] === true) return;
  const { receive, getOutgoingChunk, destroy } = prototype;

  prototype.receive = function (this: Handle, data: unknown): unknown {
    if (this[PENDING]) return undefined;
    this[DEPTH] = (this[DEPTH] ?? 0) + 1;
    try {
      return receive.call(this, data);
    } finally {
      this[DEPTH]--;
    }
  };

  prototype.getOutgoingChunk = function (this: Handle): unknown {
    if (this[DEPTH]) return NOTHING;
    this[DEPTH] = 1;
    try {
      return getOutgoingChunk.call(this);
    } finally {
      this[DEPTH]--;
    }
  };

  prototype.destroy = function (this: Handle, ...args: unknown[]): unknown {
    if (!this[DEPTH]) return destroy.apply(this, args);
    if (this[PENDING]) return undefined;
    this[PENDING] = true;
    process.nextTick(() => {
      this.sendPending(); // what the peer is still owed: the GOAWAY, the last frames
      destroy.apply(this, args);
    });
    return undefined;
  };

  prototype[DONE] = true;
}

install();
