/**
 * Serves a disk in memory over iSCSI on a free port of 127.0.0.1, for foreign initiators in tests and by hand.
 *
 * Prints one line of JSON with the endpoint, then one line per event. Ends when its standard input does.
 * Options: `--bytes N`, `--volume NAME`, `--lun N`, `--chap JSON` (see `ChapSettings`), `--port N`, `--world W`.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { MemoryDevice } from "../lib/block/memory_device.ts";
import { openIo } from "../lib/io/open.ts";
import { BufferPool } from "../lib/io/pool.ts";
import { type ChapSettings } from "../lib/frontend/iscsi/chap.ts";
import { IscsiFrontend, targetNameOf } from "../lib/frontend/iscsi/target.ts";

/** Memory of the server: room for the pool and 16 connections. */
const ARENA_BYTES = 256 * 1024 * 1024;
const POOL_BYTES = 128 * 1024 * 1024;
const LARGEST_BUFFER_BYTES = 4 * 1024 * 1024;

const { values } = parseArgs({
  options: {
    bytes: { type: "string", default: String(1024 * 1024 * 1024) },
    volume: { type: "string", default: "vol-1" },
    lun: { type: "string", default: "1" },
    chap: { type: "string" },
    port: { type: "string", default: "0" },
    world: { type: "string" },
  },
});
const say = (what: unknown): void => console.log(JSON.stringify(what));
const world = values.world === "poll" || values.world === "uring" ? values.world : undefined;
const io = openIo({ arenaBytes: ARENA_BYTES, ...(world ? { world } : {}) });
const pool = new BufferPool(io, POOL_BYTES, LARGEST_BUFFER_BYTES);
const device = new MemoryDevice(io, values.volume, Number(values.bytes));
const chap = values.chap === undefined ? undefined : JSON.parse(values.chap) as ChapSettings;
const frontend = new IscsiFrontend(io, pool, device, {
  address: { kind: "tcp", host: "127.0.0.1", port: Number(values.port) },
  targetName: targetNameOf(values.volume),
  lun: Number(values.lun),
  ...(chap ? { chap } : {}),
  onEvent: (event) => say(event),
});
say({ endpoint: frontend.endpoint, portal: `127.0.0.1:${frontend.port}`, free: pool.free, world: io.world });
// The loop blocks this thread, so the end of standard input is read by the same loop.
const CONTROL_BYTES = 4096;
const at = io.arena.reserve(CONTROL_BYTES);
const control = {
  complete(): void {
    frontend.stop(() => io.stop());
  },
};
io.read(0, at, CONTROL_BYTES, 0, control, 0);
io.run();
say({ stopped: true, free: pool.free });
