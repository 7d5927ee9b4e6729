/**
 * The volume thread of the engine process: the volume and its frontend.
 *
 * @module
 */
import { EngineThread, type ThreadFrontend } from "../lib/engine/thread.ts";
import type { VolumeOptions } from "../lib/engine/volume_options.ts";
import { MailboxServer, serveThread } from "../lib/io/mailbox_server.ts";
import { openIo } from "../lib/io/open.ts";
import { BufferPool } from "../lib/io/pool.ts";
import { getLogger } from "../lib/log/log.ts";
import { MAX_FRAME_PAYLOAD } from "../lib/wire/frame.ts";
import { FRONTEND_ARENA_BYTES, makeFrontend } from "./support/frontends.ts";

/** Buffers of requests under way. */
const POOL_BYTES = 256 * 1024 * 1024;
/** Connections to replicas. */
const LINK_BYTES = 256 * 1024 * 1024;
/** Address space for all buffers; only what was used once costs memory. */
const ARENA_BYTES = POOL_BYTES + LINK_BYTES + FRONTEND_ARENA_BYTES;

serveThread((init, shared) => {
  const options = init as VolumeOptions;
  const log = getLogger({ volume: options.name, thread: "volume" });
  const io = openIo({ arenaBytes: ARENA_BYTES, note: (reason) => log.warn(reason) });
  const pool = new BufferPool(io, POOL_BYTES, MAX_FRAME_PAYLOAD);
  const thread = new EngineThread(
    io,
    pool,
    options,
    (kind, frontendOptions, device): ThreadFrontend =>
      makeFrontend(kind, frontendOptions, {
        io,
        pool,
        device,
        log,
        notify: (event) => mailbox.notify(event),
      }),
    (event) => mailbox.notify(event),
  );
  const mailbox = new MailboxServer(io, shared, thread.handlers());
  return { io, ready: { world: io.world } };
});
