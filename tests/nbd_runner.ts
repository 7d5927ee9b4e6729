/**
 * Serves a disk in memory over NBD until it is killed: what the tests with other people's clients talk to.
 *
 * Arguments: `tcp` or the path of a unix socket, the size in bytes, and optionally the file whose appearance
 * makes it stop in an orderly way. Prints the endpoint, and after every event how much of its pools is free.
 *
 * @module
 */
import { MemoryDevice } from "../lib/block/memory_device.ts";
import { MAX_TRANSFER_BYTES } from "../lib/block/device.ts";
import { NbdFrontend } from "../lib/frontend/nbd/frontend.ts";
import type { Address, Completer } from "../lib/io/io.ts";
import { openIo } from "../lib/io/open.ts";
import { BufferPool } from "../lib/io/pool.ts";

const ARENA_BYTES = 256 * 1024 * 1024;
const POOL_BYTES = 64 * 1024 * 1024;
const LOOK_MS = 50;

const [where = "tcp", size = "67108864", stopFile] = Deno.args;
const address: Address = where === "tcp"
  ? { kind: "tcp", host: "127.0.0.1", port: 0 }
  : { kind: "unix", path: where };
const io = openIo({ arenaBytes: ARENA_BYTES });
const pool = new BufferPool(io, POOL_BYTES, MAX_TRANSFER_BYTES);
const device = new MemoryDevice(io, "vol-1", Number(size));
const total = pool.free;
const frontend = new NbdFrontend(io, pool, device, {
  address,
  onEvent: (text) =>
    console.log(
      `event: ${text}; buffers out ${total - pool.free}, slots free ${frontend.slots.free}, ` +
        `flushes ${device.flushes}, chunks ${device.chunks}`,
    ),
});
console.log(`serving ${frontend.endpoint}`);
if (stopFile !== undefined) {
  const look: Completer = {
    complete() {
      if (!io.files.exists(stopFile)) io.timer(LOOK_MS, look, 0);
      else {
        frontend.stop(() => {
          console.log("stopped");
          io.stop();
        });
      }
    },
  };
  io.timer(LOOK_MS, look, 0);
}
io.run();
