/**
 * What an inspection of a node finds: each finding says in one line what it is and in another what to do, and brings
 * its own repair where that is safe. Safe means: nobody can lose data or a working device by it, whatever happened
 * in between.
 *
 * @module
 */
import type { HostContext } from "../context.ts";
import { hostProc } from "../namespace.ts";

/** How bad it is: `broken` needs somebody now, `left-over` is in the way, `risk` will break something one day. */
export type Severity = "broken" | "left-over" | "risk";

/** See the module text. */
export interface Finding {
  /** How bad. */
  readonly severity: Severity;
  /** What was looked at, the same on every node: `iscsi session`, `file system`, ... */
  readonly subject: string;
  /** What was found, in one line. */
  readonly what: string;
  /** What somebody can do about it, in one line; a command where there is one. */
  readonly todo: string;
  /** Does it; absent where a person has to decide. Finds out again that it is still so. @throws it did not work */
  readonly repair?: () => Promise<void>;
}

/** What an inspection sees. */
export interface NodeView {
  /** The host. */
  readonly context: HostContext;
  /** Run directory of Drover. */
  readonly run: string;
  /** Directory of the volumes' devices. */
  readonly devices: string;
  /** Directory of the notes about freezes. */
  readonly freezes: string;
  /** The names of volumes that an engine serves on this node; may have words that are none. */
  readonly served: () => ReadonlySet<string>;
  /** Whether somebody listens there. `unknown`: no answer, neither yes nor no. */
  readonly listens: (
    address: Deno.ConnectOptions | Deno.UnixConnectOptions,
  ) => Promise<"yes" | "no" | "unknown">;
}

/** Looks at one kind of thing. Throws when it cannot look. */
export type Inspection = (node: NodeView) => Promise<Finding[]>;

/** How long a listener may take to answer, milliseconds. */
const CONNECT_MS = 2_000;
/** The command of an engine, ours and Longhorn's, whose first argument is the volume. */
const ENGINE_COMMAND = "controller";

/**
 * The volumes that engines serve, from the command lines of processes. Every word behind `controller` that is no flag
 * counts: one too many keeps something from being removed, one too few could remove something in use.
 */
export function servedVolumes(proc: string = hostProc()): ReadonlySet<string> {
  const names = new Set<string>();
  for (const { name } of Deno.readDirSync(proc)) {
    if (!/^\d+$/.test(name)) continue;
    let words: string[];
    try {
      words = Deno.readTextFileSync(`${proc}/${name}/cmdline`).split("\0");
    } catch {
      continue; // It ended.
    }
    const at = words.indexOf(ENGINE_COMMAND);
    if (at < 0) continue;
    for (const word of words.slice(at + 1)) if (word !== "" && !word.startsWith("-")) names.add(word);
  }
  return names;
}

/** See {@linkcode NodeView.listens}. */
export async function listensAt(
  address: Deno.ConnectOptions | Deno.UnixConnectOptions,
): Promise<"yes" | "no" | "unknown"> {
  const connecting = "path" in address ? Deno.connect(address) : Deno.connect(address);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<"unknown">((resolve) => {
    timer = setTimeout(() => resolve("unknown"), CONNECT_MS);
  });
  const answer = connecting.then((connection) => {
    connection.close();
    return "yes" as const;
  }, (error) => {
    const no = error instanceof Deno.errors.ConnectionRefused || error instanceof Deno.errors.NotFound;
    return no ? "no" as const : "unknown" as const;
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Whether an engine on this node serves a volume of this name. Engines come and go: to be asked again. */
export function isServed(node: NodeView, volume: string): boolean {
  return node.served().has(volume);
}
