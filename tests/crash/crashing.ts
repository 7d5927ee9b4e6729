/**
 * An Io whose process is killed (SIGKILL) right after the n-th call that changes a file or a name.
 *
 * @module
 */
import type { Files } from "../../lib/io/files.ts";
import type { Completer, Io } from "../../lib/io/io.ts";

const NAMES: ReadonlySet<string> = new Set([
  "makeDirectory",
  "rename",
  "link",
  "unlink",
  "removeDirectory",
  "truncate",
  "sync",
  "syncDirectory",
  "writeAt",
  "punchHole",
]);

/** Operations that complete later, and where their completer stands among the arguments. */
const OPERATIONS: ReadonlyMap<string, number> = new Map([
  ["write", 4],
  ["writeDurable", 4],
  ["syncData", 1],
  ["punchHole", 3],
  ["fallocate", 4],
]);

type Method = (...args: unknown[]) => unknown;

/** Counts calls that change something, and ends the process after the last one it may see. */
export class CrashPoint {
  /** Calls so far. */
  count = 0;

  /** Counts nothing yet. @param last ends the process after this many calls; Infinity never does */
  constructor(readonly last: number) {}

  #changed(): void {
    if (++this.count >= this.last) Deno.kill(Deno.pid, "SIGKILL");
  }

  /** The same Io, with its calls counted. */
  over(io: Io): Io {
    const files = this.#files(io.files);
    return new Proxy(io, {
      get: (target, name) => {
        if (name === "files") return files;
        const value = Reflect.get(target, name, target), place = OPERATIONS.get(String(name));
        if (typeof value !== "function") return value;
        if (place === undefined) return value.bind(target);
        return (...args: unknown[]) => {
          const who = args[place] as Completer;
          args[place] = {
            complete: (tag: number, result: number) => {
              this.#changed();
              who.complete(tag, result);
            },
          };
          (value as Method).apply(target, args);
        };
      },
    });
  }

  #files(files: Files): Files {
    return new Proxy(files, {
      get: (target, name) => {
        const value = Reflect.get(target, name, target);
        if (typeof value !== "function") return value;
        return (...args: unknown[]) => {
          const result = (value as Method).apply(target, args);
          const creates = name === "open" &&
            (args[1] as { create?: number } | undefined)?.create !== undefined;
          if (creates || NAMES.has(String(name))) this.#changed();
          return result;
        };
      },
    });
  }
}
