/**
 * Names of instances. They come from callers and become names of files, so what is not plainly a name is refused.
 *
 * @module
 */
import { Code, RpcError } from "../rpc/errors.ts";

/** Longest name, characters: `NAME.log.1` must fit into a file name of 255 bytes. */
const MAX_NAME = 200;

const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

/** How engines are called: the volume, `-e-`, and a part without a hyphen (Longhorn's rule). */
const ENGINE = /^(.+?)-e-[^-]*$/;

/** Checks a name. @throws RpcError with INVALID_ARGUMENT when it is missing or is none */
export function checkName(name: string): void {
  if (name === "") {
    throw new RpcError(Code.INVALID_ARGUMENT, "missing required argument: the name of the process");
  }
  if (NAME.test(name) && name.length <= MAX_NAME) return;
  throw new RpcError(
    Code.INVALID_ARGUMENT,
    `process name ${
      JSON.stringify(name.slice(0, MAX_NAME))
    }: 1 to ${MAX_NAME} letters, digits, "_", "." or "-", ` +
      "the first a letter or digit",
  );
}

/** True for what {@linkcode checkName} accepts. */
export function isName(name: string): boolean {
  return NAME.test(name) && name.length <= MAX_NAME;
}

/** The volume of an engine, by the name of the engine's process; undefined for other processes. */
export function volumeOfEngine(name: string): string | undefined {
  return ENGINE.exec(name)?.[1];
}
