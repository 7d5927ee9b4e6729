/**
 * Finds Drover's own programs, so that one of them can start the others.
 *
 * @module
 */

/** How to start a program: the command, and the arguments that come before its own. */
export interface ProgramCommand {
  /** Path of what is executed. */
  readonly command: string;
  /** Arguments that come before the program's own. */
  readonly args: readonly string[];
}

/** Directory with the launchers of a dist; its launchers set it. */
const DIRECTORY_VARIABLE = "DROVER_BIN";

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/**
 * Locates a program: in `$DROVER_BIN`, beside this one when it is a compiled binary, from source otherwise.
 *
 * @param name such as `engine`
 * @throws {Error} naming the places where it is not
 */
export function locateProgram(name: string): ProgramCommand {
  const directory = Deno.env.get(DIRECTORY_VARIABLE) ||
    (Deno.build.standalone ? Deno.execPath().replace(/\/[^/]*$/, "") : "");
  if (directory !== "") {
    const path = `${directory}/${name}`;
    if (exists(path)) return { command: path, args: [] };
    throw new Error(`the program ${name} is not in ${directory}; set ${DIRECTORY_VARIABLE} to where it is`);
  }
  const source = `${import.meta.dirname}/../${name.replaceAll("-", "_")}.ts`;
  if (exists(source)) return { command: Deno.execPath(), args: ["run", "-A", "--no-check", source] };
  throw new Error(`the program ${name} is not found; set ${DIRECTORY_VARIABLE} to the directory it is in`);
}
