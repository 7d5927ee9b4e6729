/**
 * The sending side's connection: requests, and their answers in order. A request's promise resolves with its answer;
 * several may be under way.
 *
 * @module
 */
import { type Answer, ByteStream, formatRequest, HttpError, parseAnswer, writeAll } from "./http1.ts";
import { BASE_PATH, EXTENSION_FIELD } from "./ssync_server.ts";

/** An answer with its body. */
export interface Reply {
  /** 200 and so on. */
  readonly status: number;
  /** The body as text. */
  readonly text: string;
  /** The receiver knows Drover's additions. */
  readonly extended: boolean;
}

interface Waiting {
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: Error) => void;
  readonly since: number;
}

/** How often answers that are late are looked for, milliseconds. */
const TICK_MS = 1000;

/** See the module text. */
export class SsyncClient implements Disposable {
  readonly #stream: ByteStream;
  readonly #waiting: Waiting[] = [];
  readonly #timer: ReturnType<typeof setInterval>;
  #broken: Error | undefined;
  #reading = false;
  #writing: Promise<void> = Promise.resolve();

  private constructor(
    readonly connection: Deno.TcpConn,
    readonly host: string,
    readonly timeoutMs: number,
  ) {
    this.#stream = new ByteStream(connection);
    this.#timer = setInterval(() => this.#look(), TICK_MS);
  }

  /** Connects. @param timeoutMs for every answer */
  static async connect(host: string, port: number, timeoutMs: number): Promise<SsyncClient> {
    const connection = await Deno.connect({ hostname: host, port });
    connection.setNoDelay(true);
    return new SsyncClient(connection, `${host.includes(":") ? `[${host}]` : host}:${port}`, timeoutMs);
  }

  /** Requests without an answer. */
  get underWay(): number {
    return this.#waiting.length;
  }

  /** Answers come although requests are large: the limit is on silence. */
  #look(): void {
    const first = this.#waiting[0];
    const quiet = performance.now() - Math.max(first?.since ?? Infinity, this.#stream.lastRead);
    if (quiet > this.timeoutMs) this.#break(new HttpError(504, `${this.host} does not answer`));
  }

  #break(error: Error): void {
    if (this.#broken) return;
    this.#broken = error;
    for (const { reject } of this.#waiting.splice(0)) reject(error);
    try {
      this.connection.close();
    } catch {
      // Closed by the peer.
    }
  }

  /**
   * Sends a request.
   *
   * @param name of the request, with its query
   * @param body in pieces, which must not change until `written`
   * @returns `written` resolves when the body may be changed, `reply` with the answer
   */
  send(
    method: "GET" | "POST",
    name: string,
    ...body: readonly Uint8Array[]
  ): { readonly written: Promise<void>; readonly reply: Promise<Reply> } {
    const reply = new Promise<Reply>((resolve, reject) => {
      if (this.#broken) return reject(this.#broken);
      this.#waiting.push({ resolve, reject, since: performance.now() });
    });
    // Whoever only looks at the reply of a later request has this one's error, too.
    reply.catch(() => {});
    const length = body.reduce((sum, { length }) => sum + length, 0);
    const head = formatRequest(method, BASE_PATH + name, this.host, length);
    const written = this.#writing = this.#writing.then(() => this.#write(head, body));
    if (!this.#reading) this.#read();
    return { written, reply };
  }

  async #write(head: Uint8Array, body: readonly Uint8Array[]): Promise<void> {
    try {
      for (const part of [head, ...body]) {
        if (this.#broken) return;
        await writeAll(this.connection, part);
      }
    } catch (error) {
      // The receiver may have said why before it closed: its answer counts, when there is one.
      await new Promise((resolve) => setTimeout(resolve, 50));
      this.#break(new HttpError(502, `the connection to ${this.host} broke`, { cause: error }));
    }
  }

  async #read(): Promise<void> {
    this.#reading = true;
    try {
      while (this.#waiting.length > 0) {
        const head = await this.#stream.head();
        if (head === undefined) throw new HttpError(502, `${this.host} ended the connection`);
        const answer = parseAnswer(head), reply = await this.#reply(answer);
        this.#waiting.shift()?.resolve(reply);
      }
    } catch (error) {
      this.#break(
        error instanceof HttpError
          ? error
          : new HttpError(502, `the connection to ${this.host} broke`, { cause: error }),
      );
    } finally {
      this.#reading = false;
    }
  }

  async #reply(answer: Answer): Promise<Reply> {
    const body = answer.length === undefined
      ? await this.#stream.chunkedBody()
      : await this.#stream.body(answer.length);
    const text = new TextDecoder().decode(body);
    return { status: answer.status, text, extended: answer.fields.has(EXTENSION_FIELD.toLowerCase()) };
  }

  /** Sends a request and waits for its answer. @throws {HttpError} unless the answer is 200 */
  async call(method: "GET" | "POST", name: string, ...body: readonly Uint8Array[]): Promise<Reply> {
    return accepted(await this.send(method, name, ...body).reply);
  }

  /** Ends the connection. */
  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#break(new HttpError(499, "the connection was closed"));
  }
}

/** An answer that says yes. @throws {HttpError} with the receiver's words */
export function accepted(reply: Reply): Reply {
  if (reply.status !== 200) throw new HttpError(reply.status, reply.text.trim() || `status ${reply.status}`);
  return reply;
}
