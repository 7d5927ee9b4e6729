/**
 * A volume thread for the tests of the mailbox: it blocks in its ring and answers.
 *
 * @module
 */
import type { Completer } from "./io.ts";
import { Errno, IoError } from "./errno.ts";
import { type Handlers, MailboxServer, type Reply, serveThread } from "./mailbox_server.ts";
import { type KernelWorld, openIo } from "./open.ts";

serveThread((init, shared) => {
  const { world, fail } = init as { world: KernelWorld; fail?: boolean };
  if (fail) throw new IoError("open", "/no/such/directory", Errno.ENOENT);
  const io = openIo({ arenaBytes: 1 << 20, world });
  const later: Completer & { reply: Reply | undefined } = {
    reply: undefined,
    complete() {
      later.reply?.ok("later");
    },
  };
  const handlers: Handlers = {
    echo: (body, reply) => reply.ok(body),
    twice(body, reply) {
      reply.ok(body);
      reply.ok("again");
      reply.error(new Error("again"));
    },
    later(_body, reply) {
      later.reply = reply;
      io.timer(1, later, 0);
    },
    full: (_body, reply) => reply.error(new IoError("write", "volume-head", Errno.ENOSPC)),
    throws: () => {
      throw new RangeError("out of range");
    },
    uncloneable: (_body, reply) => reply.ok(() => {}),
    silent: () => {},
    events(body, reply) {
      for (let i = 0; i < (body as number); i++) server.notify({ i });
      reply.ok();
    },
    die: () => io.defer({ runDeferred: () => boom("the loop broke") }),
  };
  const server = new MailboxServer(io, shared, handlers);
  return { io, ready: { world: io.world } };
});

function boom(message: string): never {
  throw new Error(message);
}
