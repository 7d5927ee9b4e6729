import assert from "node:assert/strict";
import { Errno } from "./errno.ts";
import { openIo, UnknownWorldError, WORLD_VARIABLE } from "./open.ts";

const ARENA_BYTES = 1 << 20;

function withEnvironment(value: string | undefined, body: () => void): void {
  const before = Deno.env.get(WORLD_VARIABLE);
  const set = (text: string | undefined) =>
    text === undefined ? Deno.env.delete(WORLD_VARIABLE) : Deno.env.set(WORLD_VARIABLE, text);
  set(value);
  try {
    body();
  } finally {
    set(before);
  }
}

function opened(): [string, string[]] {
  const notes: string[] = [];
  using io = openIo({ arenaBytes: ARENA_BYTES, note: (reason) => notes.push(reason) });
  return [io.world, notes];
}

Deno.test("io_uring is chosen where it works, and nothing is noted", () => {
  withEnvironment(undefined, () => assert.deepEqual(opened(), ["uring", []]));
  withEnvironment("uring", () => assert.deepEqual(opened(), ["uring", []]));
});

Deno.test("the environment forces a world; the caller goes first", () => {
  withEnvironment("poll", () => {
    const [world, notes] = opened();
    assert.equal(world, "poll");
    assert.match(notes.join(), /asked for/);
    using io = openIo({ arenaBytes: ARENA_BYTES, world: "uring" });
    assert.equal(io.world, "uring");
  });
});

Deno.test("a world that does not exist is refused by name", () => {
  withEnvironment("epoll", () =>
    assert.throws(opened, (error) => {
      assert(error instanceof UnknownWorldError);
      assert.match(error.message, /DROVER_IO is "epoll"; it must be "uring", "poll" or unset/);
      return true;
    }));
});

function onFilteredThread(request: { errno: number; force?: "uring" }): Promise<Record<string, unknown>> {
  const worker = new Worker(new URL("./open_test_worker.ts", import.meta.url), { type: "module" });
  return new Promise<Record<string, unknown>>((resolve, reject) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = (event) => {
      event.preventDefault();
      reject(new Error(event.message));
    };
    worker.postMessage(request);
  }).finally(() => worker.terminate());
}

Deno.test("where io_uring is refused, poll is used and the reason is noted", async () => {
  const forbidden = await onFilteredThread({ errno: Errno.EPERM });
  assert.equal(forbidden.world, "poll");
  assert.match(String(forbidden.notes), /io_uring_setup.*EPERM.*seccomp/);
  const unknown = await onFilteredThread({ errno: Errno.ENOSYS });
  assert.equal(unknown.world, "poll");
  assert.match(String(unknown.notes), /ENOSYS.*5\.11/);
});

Deno.test("where io_uring is refused but demanded, opening fails with the reason", async () => {
  const result = await onFilteredThread({ errno: Errno.EPERM, force: "uring" });
  assert.match(String(result.error), /IoError: io_uring_setup: operation not permitted/);
});

Deno.test("an arena that is not touched costs no memory", () => {
  const resident = () => Deno.memoryUsage().rss;
  const before = resident();
  const arenas = Array.from({ length: 4 }, () => openIo({ arenaBytes: 1 << 30, world: "uring" }));
  const grown = resident() - before;
  arenas.forEach((io) => io[Symbol.dispose]());
  assert(grown < 64 * 1024 * 1024, `four arenas of 1 GiB cost ${grown} bytes`);
});
