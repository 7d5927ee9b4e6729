/**
 * Helpers of the tests that run over the kernel worlds: start operations, run the loop until they ended.
 *
 * @module
 */
import type { Completer, Io } from "./io.ts";
import { type KernelWorld, openIo } from "./open.ts";

/** Every test of the interface runs in both. */
export const WORLDS: readonly KernelWorld[] = ["uring", "poll"];

/** Bytes of the arena of a test: nothing is paid for what is not touched. */
export const TEST_ARENA_BYTES = 64 * 1024 * 1024;

/** Starts one operation. */
export type Start = (who: Completer, tag: number) => void;

/** Runs the loop until all operations ended; @returns their results in order */
export function settle(io: Io, ...starts: Start[]): number[] {
  const results: number[] = new Array<number>(starts.length).fill(NaN);
  let open = starts.length;
  const who: Completer = {
    complete(tag, result) {
      results[tag] = result;
      if (--open === 0) io.stop();
    },
  };
  starts.forEach((start, tag) => start(who, tag));
  io.run();
  return results;
}

/** As {@linkcode settle} for one operation. */
export function settleOne(io: Io, start: Start): number {
  return settle(io, start)[0] as number;
}

/** Registers a test for each world, with an Io and a fresh directory that are gone afterwards. */
export function testWorlds(name: string, body: (io: Io, directory: string) => void | Promise<void>): void {
  for (const world of WORLDS) {
    Deno.test(`${world}: ${name}`, async () => {
      const directory = await Deno.makeTempDir({ prefix: "drover-io-" });
      try {
        using io = openIo({ arenaBytes: TEST_ARENA_BYTES, world });
        await body(io, directory);
      } finally {
        await Deno.remove(directory, { recursive: true });
      }
    });
  }
}

/** A connected pair of stream sockets over `kind`, the connecting end first; and their listener. */
export function pair(io: Io, kind: "tcp" | "unix", directory: string): [number, number, number] {
  const path = `${directory}/pair.sock`;
  const listener = io.listen(kind === "tcp" ? { kind, host: "127.0.0.1", port: 0 } : { kind, path });
  const address = kind === "tcp"
    ? { kind, host: "localhost", port: io.boundPort(listener) } as const
    : { kind, path } as const;
  const [server, client] = settle(
    io,
    (who, tag) => io.accept(listener, who, tag),
    (who, tag) => io.connect(address, who, tag),
  ) as [number, number];
  return [client, server, listener];
}

/** A cheap pattern to recognise bytes by. */
export function patternByte(seed: number, index: number): number {
  return (Math.imul(seed + index, 0x9e3779b1) >>> 24) & 0xff;
}
