/**
 * Becoming another program: the process stays, with its number, its parent and its standard streams.
 *
 * @module
 */
import { errnoText } from "../../lib/io/errno.ts";
import type { ProgramCommand } from "./programs.ts";

const encoder = new TextEncoder();

/** Strings that end with a zero byte, and a list of pointers to them that ends with a null pointer. */
function pointers(texts: readonly string[]): { list: BigUint64Array<ArrayBuffer>; keep: Uint8Array[] } {
  const keep = texts.map((text) => {
    if (text.includes("\0")) throw new Error(`${JSON.stringify(text)}: an argument cannot hold a zero byte`);
    return encoder.encode(`${text}\0`);
  });
  const list = new BigUint64Array(texts.length + 1);
  keep.forEach((bytes, i) =>
    list[i] = Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes as BufferSource))
  );
  return { list, keep };
}

/**
 * Runs another program in place of this one (execv). Returns only by throwing.
 *
 * @param program what is run
 * @param args its own arguments
 * @throws {Error} when it cannot be started
 */
export function become({ command, args: first }: ProgramCommand, args: readonly string[]): never {
  const libc = Deno.dlopen("libc.so.6", {
    execv: { parameters: ["buffer", "buffer"], result: "i32" },
    __errno_location: { parameters: [], result: "pointer" },
  });
  const { list, keep } = pointers([command, ...first, ...args]);
  libc.symbols.execv(keep[0] as BufferSource, list);
  const at = libc.symbols.__errno_location();
  const errno = at === null ? 0 : new Deno.UnsafePointerView(at).getInt32();
  libc.close();
  throw new Error(`cannot start ${command}: ${errnoText(errno)}`);
}
