/**
 * One block of LZ4, without any frame around it. Compression is done by WebAssembly; decompression is done here,
 * because a frame may have blocks that refer to the ones before (which the library cannot do), and because what is
 * decompressed comes from outside: every copy is checked against both ends of its buffers.
 *
 * @module
 */
import { CodecError } from "./errors.ts";
import wasm from "lz4-wasm-nodejs/lz4_wasm_nodejs_bg.wasm" with { type: "bytes" };

interface Exports {
  readonly memory: WebAssembly.Memory;
  compress(result: number, input: number, length: number): void;
  __wbindgen_add_to_stack_pointer(by: number): number;
  __wbindgen_malloc(bytes: number): number;
  __wbindgen_free(at: number, bytes: number): void;
}

/** The library puts the input's length before its output. */
const LENGTH_PREFIX = 4;

let loaded: Exports | undefined;

function library(): Exports {
  if (loaded !== undefined) return loaded;
  const unused = (): never => {
    throw new CodecError("the LZ4 library failed");
  };
  const instance = new WebAssembly.Instance(new WebAssembly.Module(wasm), {
    __wbindgen_placeholder__: { __wbindgen_string_new: unused },
  });
  loaded = instance.exports as unknown as Exports;
  return loaded;
}

/** Compresses one block of up to 4 MiB. @returns the length of the result; undefined when it does not fit */
export function compressBlock(input: Uint8Array, into: Uint8Array): number | undefined {
  const lz4 = library();
  const at = lz4.__wbindgen_malloc(input.length);
  new Uint8Array(lz4.memory.buffer).set(input, at);
  const result = lz4.__wbindgen_add_to_stack_pointer(-16);
  try {
    // The callee frees the input.
    lz4.compress(result, at, input.length);
    const view = new DataView(lz4.memory.buffer);
    const output = view.getInt32(result, true), length = view.getInt32(result + 4, true);
    const bytes = length - LENGTH_PREFIX, fits = bytes <= into.length;
    if (fits) into.set(new Uint8Array(lz4.memory.buffer, output + LENGTH_PREFIX, bytes));
    lz4.__wbindgen_free(output, length);
    return fits ? bytes : undefined;
  } finally {
    lz4.__wbindgen_add_to_stack_pointer(16);
  }
}

/** Shortest copy; its length is stored less this. */
const MIN_MATCH = 4;
/** Lengths of this value in a token go on in the bytes behind it. */
const LONG = 15;

/** Copies shorter than this are quicker byte by byte. */
const SHORT = 32;

/** Repeats what lies `distance` before `to`. A copy that reaches into itself doubles what it can take each time. */
function copy(output: Uint8Array, to: number, distance: number, length: number): void {
  const source = to - distance, end = to + length;
  if (distance === 1) return void output.fill(output[source] as number, to, end);
  for (let at = to; at < end;) {
    const part = Math.min(at - source, end - at);
    output.copyWithin(at, source, source + part);
    at += part;
  }
}

function corrupt(what: string): never {
  throw new CodecError(`not LZ4: ${what}`);
}

/**
 * Decompresses one block to `output` from position `at`. Copies may reach back to the start of `output`, so blocks
 * that depend on each other are decompressed one behind the other.
 *
 * @returns the position behind the last byte written
 * @throws {CodecError} when the block is not well-formed, or does not fit into `output`
 */
export function decompressBlock(input: Uint8Array, output: Uint8Array, at: number): number {
  const inputEnd = input.length, outputEnd = output.length;
  let from = 0, to = at;
  while (from < inputEnd) {
    const token = input[from++] as number;
    let literals = token >> 4;
    if (literals === LONG) {
      let more = 255;
      while (more === 255) {
        if (from >= inputEnd) corrupt("it ends in a length");
        more = input[from++] as number;
        literals += more;
      }
    }
    if (literals > inputEnd - from) corrupt("it ends in literals");
    if (literals > outputEnd - to) corrupt("it holds more than it should");
    if (literals < SHORT) { for (let i = 0; i < literals; i++) output[to + i] = input[from + i] as number; }
    else output.set(input.subarray(from, from + literals), to);
    from += literals;
    to += literals;
    if (from === inputEnd) break;
    if (inputEnd - from < 2) corrupt("it ends in an offset");
    const distance = (input[from] as number) | ((input[from + 1] as number) << 8);
    from += 2;
    if (distance === 0 || distance > to) corrupt("it copies from before its start");
    let length = (token & LONG) + MIN_MATCH;
    if (length === LONG + MIN_MATCH) {
      let more = 255;
      while (more === 255) {
        if (from >= inputEnd) corrupt("it ends in a length");
        more = input[from++] as number;
        length += more;
      }
    }
    if (length > outputEnd - to) corrupt("it holds more than it should");
    if (length < SHORT) {
      const source = to - distance;
      for (let i = 0; i < length; i++) output[to + i] = output[source + i] as number;
    } else copy(output, to, distance, length);
    to += length;
  }
  return to;
}
