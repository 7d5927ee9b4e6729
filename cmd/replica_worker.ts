/**
 * The volume thread of the replica process: the directory and its data server.
 *
 * @module
 */
import { MailboxServer, serveThread } from "../lib/io/mailbox_server.ts";
import { openIo } from "../lib/io/open.ts";
import { BufferPool } from "../lib/io/pool.ts";
import { getLogger } from "../lib/log/log.ts";
import { ReplicaHost, type ReplicaOptions } from "../lib/replica/host.ts";
import { MAX_FRAME_PAYLOAD } from "../lib/wire/frame.ts";

/** Address space for all buffers; only what was used once costs memory. */
const ARENA_BYTES = 256 * 1024 * 1024;
/** Buffers of requests under way. */
const POOL_BYTES = 128 * 1024 * 1024;

serveThread((init, shared) => {
  const options = init as ReplicaOptions;
  const log = getLogger({ replica: options.directory, thread: "volume" });
  const io = openIo({ arenaBytes: ARENA_BYTES, note: (reason) => log.warn(reason) });
  const pool = new BufferPool(io, POOL_BYTES, MAX_FRAME_PAYLOAD);
  const host = new ReplicaHost(
    io,
    pool,
    options,
    () => crypto.randomUUID(),
    (error) => log.warn(error.message),
  );
  const mailbox = new MailboxServer(io, shared, {
    ...host.handlers(),
    stop: (_body, reply) => host.stop((error) => error === undefined ? reply.ok() : reply.error(error)),
  });
  void mailbox;
  return { io, ready: { world: io.world, dataPort: host.dataPort } };
});
