/**
 * A real S3 service for tests: versitygw over a directory.
 *
 * @module
 */
import { findProgram } from "./needs.ts";
import { freePorts } from "./ports.ts";
import { type LoggedProcess, spawnLogged } from "./process.ts";
import { type TempDir, tempDir } from "./temp.ts";
import { waitFor } from "./wait.ts";

/** The service's only user. */
const USER = "testuser", PASSWORD = "testpassword";

/** A running service. Needs `versitygw`. Dispose with `await using`. */
export class S3Server implements AsyncDisposable {
  readonly #process: LoggedProcess;
  readonly #directory: TempDir;
  /** `http://127.0.0.1:PORT`, with a certificate `https://localhost:PORT`. */
  readonly endpoint: string;

  /** Started by {@linkcode s3Server}. */
  constructor(process: LoggedProcess, directory: TempDir, endpoint: string) {
    this.#process = process;
    this.#directory = directory;
    this.endpoint = endpoint;
  }

  /** Where the bucket's objects lie as files. */
  get files(): string {
    return this.#directory.join("bucket");
  }

  /** Settings for a client. @param endpoint another than the service's own: a proxy before it */
  credentials(endpoint: string = this.endpoint): Record<string, string> {
    return { AWS_ACCESS_KEY_ID: USER, AWS_SECRET_ACCESS_KEY: PASSWORD, AWS_ENDPOINTS: endpoint };
  }

  /** URL of the only bucket. */
  url(path = ""): string {
    return `s3://bucket@us-east-1/${path}`;
  }

  /** Stops the service and removes its files. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.stop();
    this.#directory[Symbol.dispose]();
  }
}

/** How a service is started. */
export interface S3ServerOptions {
  /** Directory for its own; default TMPDIR. */
  readonly place?: string;
  /** File with its certificate, which has to be good for `localhost`: it speaks TLS then. */
  readonly certificate?: string;
  /** File with the certificate's key. */
  readonly key?: string;
  /** Domain below which each bucket has a host's name of its own. */
  readonly virtualDomain?: string;
}

/** Starts a service with one bucket, `bucket`. */
export async function s3Server(options: S3ServerOptions = {}): Promise<S3Server> {
  const { place, certificate, key, virtualDomain } = options;
  const directory = tempDir("t-", place);
  Deno.mkdirSync(directory.join("bucket"));
  const [port] = freePorts(1);
  const process = spawnLogged(findProgram("versitygw") ?? "versitygw", [
    "--port",
    `127.0.0.1:${port}`,
    "--quiet",
    "--keep-alive",
    ...(virtualDomain === undefined ? [] : ["--virtual-domain", virtualDomain]),
    ...(certificate === undefined ? [] : ["--cert", certificate, "--key", key ?? ""]),
    "posix",
    directory.path,
  ], { env: { ROOT_ACCESS_KEY: USER, ROOT_SECRET_KEY: PASSWORD } });
  const endpoint = certificate === undefined ? `http://127.0.0.1:${port}` : `https://localhost:${port}`;
  const server = new S3Server(process, directory, endpoint);
  try {
    await waitFor(async () => {
      if (!process.running) throw new Error(`versitygw ended:\n${process.output}`);
      const connection = await Deno.connect({ hostname: "127.0.0.1", port });
      connection.close();
      return true;
    }, { what: "the S3 service" });
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return server;
}
