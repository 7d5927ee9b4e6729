/**
 * Listening addresses on command lines: `HOST:PORT`, `tcp://HOST:PORT`, `unix:PATH`.
 *
 * @module
 */
import type { Address } from "../../lib/io/io.ts";
import { UsageError } from "./program.ts";

/**
 * Reads an address of the data path.
 * @throws {UsageError} naming the text and what is expected
 */
export function parseDataAddress(text: string): Address {
  if (text.startsWith("unix:")) {
    const path = text.slice(5).replace(/^\/\/(?=\/)/, "");
    if (path.startsWith("/")) return { kind: "unix", path };
  }
  const match = /^(?:tcp:\/\/)?(?:\[([0-9a-fA-F:.]+)\]|([^:/[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > 65535) {
    throw new UsageError(`address "${text}": expected HOST:PORT or unix:/absolute/path`);
  }
  return { kind: "tcp", host: match[1] ?? match[2], port };
}
