/**
 * Repeats what instances write into their logs on the manager's own output, as `[name] line`: whoever collects the
 * output of a pod expects the engines there.
 *
 * The kernel tells which files changed; between two rounds they are only noted, so a talkative instance costs a read
 * per round and not one per line. Nothing happens while nobody writes.
 *
 * @module
 */
import type { Clock } from "./clock.ts";
import { ECHO_MS, LOG_LINE_BYTES } from "./limits.ts";
import type { LogDirectory } from "./log_file.ts";
import { isName } from "./names.ts";

interface Followed {
  /** Position in the log, see `LogDirectory.end`. */
  at: number;
  /** A line whose end has not come yet. */
  rest: string;
  readonly decoder: TextDecoder;
}

/** See the module text. */
export class LogEcho {
  readonly #logs: LogDirectory;
  readonly #write: (text: string) => void;
  readonly #followed = new Map<string, Followed>();
  readonly #changed = new Set<string>();

  /**
   * Makes one. What stands in the logs now was written before its time and is not repeated.
   *
   * @param write takes whole lines
   */
  constructor(logs: LogDirectory, write: (text: string) => void) {
    this.#logs = logs;
    this.#write = write;
    for (const name of logs.names()) this.#follow(name).at = logs.end(name);
  }

  #follow(name: string): Followed {
    const known = this.#followed.get(name);
    if (known) return known;
    const followed = { at: 0, rest: "", decoder: new TextDecoder() };
    this.#followed.set(name, followed);
    return followed;
  }

  /** Notes that a file of the directory changed. */
  note(path: string): void {
    const name = /([^/]+)\.log$/.exec(path)?.[1];
    if (name !== undefined && isName(name)) this.#changed.add(name);
  }

  /** Repeats what is new in the files that were noted. */
  round(): void {
    for (const name of this.#changed) {
      try {
        this.#repeat(name);
      } catch {
        // It is gone, or cannot be read just now.
        this.#followed.delete(name);
      }
    }
    this.#changed.clear();
  }

  #repeat(name: string): void {
    const followed = this.#follow(name), end = this.#logs.end(name);
    if (end === 0) this.#followed.delete(name);
    // The file was removed, and another one has its name.
    if (followed.at > end) followed.at = 0;
    while (followed.at < end) {
      const { bytes, next } = this.#logs.piece(name, followed.at, end);
      if (bytes.length === 0) return;
      followed.at = next;
      const lines = (followed.rest + followed.decoder.decode(bytes, { stream: true })).split("\n");
      followed.rest = lines.pop() ?? "";
      if (followed.rest.length > LOG_LINE_BYTES) {
        lines.push(followed.rest);
        followed.rest = "";
      }
      if (lines.length > 0) this.#write(lines.map((line) => `[${name}] ${line}\n`).join(""));
    }
  }

  /** Watches until the signal is aborted. */
  async run(clock: Clock, signal: AbortSignal): Promise<void> {
    using watcher = Deno.watchFs(this.#logs.directory, { recursive: false });
    signal.addEventListener("abort", () => watcher.close(), { once: true });
    let round: Promise<void> | undefined;
    for await (const { kind, paths } of watcher) {
      if (kind === "access") continue;
      for (const path of paths) this.note(path);
      round ??= clock.sleep(ECHO_MS, signal).then(() => {
        round = undefined;
        this.round();
      });
    }
    await round;
  }
}
