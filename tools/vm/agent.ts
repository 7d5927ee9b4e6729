/**
 * The host's end of the channel to the agent in the machine (`guest/agent`): scripts go in, exit codes and output
 * come back. QEMU connects to a unix socket that was listening before it started, so nothing is lost.
 *
 * @module
 */

/** What a script left. */
export interface ScriptResult {
  /** Exit code. */
  readonly code: number;
  /** Standard output and standard error together; the last 256 KiB. */
  readonly output: string;
}

/** A script failed, or the machine did not answer. */
export class AgentError extends Error {
  /** For checks. */
  override readonly name = "AgentError";
}

/** Default time limit of a script, milliseconds: the machine may be emulated and the host busy. */
export const SCRIPT_MS = 120_000;

function encode(text: string): string {
  return new TextEncoder().encode(text).toBase64();
}

/** Lines from a unix socket that one client connects to. */
export class LinePort implements AsyncDisposable {
  readonly #listener: Deno.UnixListener;
  readonly #done: Promise<void>;
  #connection: Deno.UnixConn | undefined;

  /** Listens. @param onLine told of each line, without its end */
  constructor(readonly path: string, onLine: (line: string) => void, onEnd: () => void = () => {}) {
    this.#listener = Deno.listen({ transport: "unix", path });
    this.#done = this.#read(onLine).catch(() => {}).finally(onEnd);
  }

  async #read(onLine: (line: string) => void): Promise<void> {
    this.#connection = await this.#listener.accept();
    const decoder = new TextDecoder(), buffer = new Uint8Array(64 * 1024);
    let rest = "";
    for (;;) {
      const count = await this.#connection.read(buffer);
      if (count === null) return;
      const lines = (rest + decoder.decode(buffer.subarray(0, count), { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) onLine(line);
    }
  }

  /** Sends a line. */
  async send(line: string): Promise<void> {
    const data = new TextEncoder().encode(`${line}\n`);
    if (this.#connection === undefined) throw new AgentError("the machine has not connected yet");
    for (let done = 0; done < data.length;) done += await this.#connection.write(data.subarray(done));
  }

  /** Waits until the other end is closed: everything sent has been told then. */
  async drained(): Promise<void> {
    await this.#done;
  }

  /** Closes both. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const each of [this.#listener, this.#connection]) {
      try {
        each?.close();
      } catch {
        // Closed already.
      }
    }
    await this.#done;
  }
}

/** See the module text. */
export class Agent implements AsyncDisposable {
  readonly #port: LinePort;
  readonly #waiting = new Map<number, PromiseWithResolvers<ScriptResult>>();
  #next = 1;
  #ended = false;
  /** The kernel's version, as soon as the agent is there. */
  readonly ready: Promise<string>;

  /** Listens at `path`. */
  constructor(path: string) {
    const ready = Promise.withResolvers<ScriptResult>();
    this.#waiting.set(0, ready);
    this.ready = ready.promise.then(({ output }) => output.trim());
    this.ready.catch(() => {});
    this.#port = new LinePort(path, (line) => this.#onLine(line), () => this.#onEnd());
  }

  #onLine(line: string): void {
    const [id = "", code = "", output = ""] = line.split(" ");
    const waiting = this.#waiting.get(Number(id));
    if (waiting === undefined) return; // It came after its time limit.
    this.#waiting.delete(Number(id));
    const bytes = Uint8Array.fromBase64(output);
    waiting.resolve({ code: Number(code), output: new TextDecoder().decode(bytes) });
  }

  #onEnd(): void {
    this.#ended = true;
    for (const { reject } of this.#waiting.values()) reject(new AgentError("the machine has ended"));
    this.#waiting.clear();
  }

  /** Runs a bash script in the machine. @throws {AgentError} when no answer comes */
  async try(script: string, timeoutMs = SCRIPT_MS): Promise<ScriptResult> {
    if (this.#ended) throw new AgentError("the machine has ended");
    const id = this.#next++, answer = Promise.withResolvers<ScriptResult>();
    this.#waiting.set(id, answer);
    const timer = setTimeout(() => {
      this.#waiting.delete(id);
      answer.reject(new AgentError(`no end after ${timeoutMs / 1000} s: ${script}`));
    }, timeoutMs);
    answer.promise.catch(() => {});
    try {
      await this.#port.send(`${id} ${encode(script)}`);
      return await answer.promise;
    } finally {
      clearTimeout(timer);
    }
  }

  /** As {@linkcode try}, for scripts that have to succeed. @returns the output, trimmed */
  async run(script: string, timeoutMs = SCRIPT_MS): Promise<string> {
    const { code, output } = await this.try(script, timeoutMs);
    if (code !== 0) throw new AgentError(`exit code ${code}: ${script.trim()}\n${output.trim()}`);
    return output.trim();
  }

  /** Closes the channel; the machine turns itself off then. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#port[Symbol.asyncDispose]();
  }
}
