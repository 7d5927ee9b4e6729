/**
 * Serves a disk in memory over iSCSI on 127.0.0.1 until it is killed: what tests with other people's initiators
 * talk to.
 *
 * Prints a line of JSON per event, with how much of its memory is lent. Options: `--bytes N`, `--volume NAME`,
 * `--lun N`, `--chap JSON` (see `ChapSettings`), `--port N` (default: a free one), `--world W`, `--stop-file
 * PATH` (its appearance makes the server stop in an orderly way).
 *
 * @module
 */
import { parseArgs } from "node:util";
import { MAX_TRANSFER_BYTES } from "../lib/block/device.ts";
import { MemoryDevice } from "../lib/block/memory_device.ts";
import type { Completer } from "../lib/io/io.ts";
import { openIo } from "../lib/io/open.ts";
import { BufferPool } from "../lib/io/pool.ts";
import type { ChapSettings } from "../lib/frontend/iscsi/chap.ts";
import { IscsiFrontend, targetNameOf } from "../lib/frontend/iscsi/target.ts";

/** Memory of the server: room for the pool and 16 connections. */
const ARENA_BYTES = 256 * 1024 * 1024;
const POOL_BYTES = 128 * 1024 * 1024;
/** How often to look for the stop file, milliseconds. */
const LOOK_MS = 50;

const { values } = parseArgs({
  options: {
    bytes: { type: "string", default: String(1024 * 1024 * 1024) },
    volume: { type: "string", default: "vol-1" },
    lun: { type: "string", default: "1" },
    chap: { type: "string" },
    port: { type: "string", default: "0" },
    world: { type: "string" },
    "stop-file": { type: "string" },
  },
});
const world = values.world === "poll" || values.world === "uring" ? values.world : undefined;
const io = openIo({ arenaBytes: ARENA_BYTES, ...(world ? { world } : {}) });
const pool = new BufferPool(io, POOL_BYTES, MAX_TRANSFER_BYTES);
const device = new MemoryDevice(io, values.volume, Number(values.bytes));
const chap = values.chap === undefined ? undefined : JSON.parse(values.chap) as ChapSettings;
let total = pool.free;
const say = (what: object): void => console.log(JSON.stringify({ ...what, lent: total - pool.free }));
const frontend = new IscsiFrontend(io, pool, device, {
  address: { kind: "tcp", host: "127.0.0.1", port: Number(values.port) },
  targetName: targetNameOf(values.volume),
  lun: Number(values.lun),
  ...(chap ? { chap } : {}),
  onEvent: say,
});
total = pool.free;
say({ kind: "serving", endpoint: frontend.endpoint, portal: `127.0.0.1:${frontend.port}`, world: io.world });
const stopFile = values["stop-file"];
if (stopFile !== undefined) {
  const look: Completer = {
    complete() {
      if (!io.files.exists(stopFile)) io.timer(LOOK_MS, look, 0);
      else {
        frontend.stop(() => {
          total = POOL_BYTES;
          say({ kind: "stopped" });
          io.stop();
        });
      }
    },
  };
  io.timer(LOOK_MS, look, 0);
}
io.run();
