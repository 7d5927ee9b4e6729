/**
 * What a target needs beside its URL: keys, passwords, endpoints, certificates, proxies. They come from the
 * environment, from a file, or with a request, always under the names that Longhorn gives them, and are kept as
 * values of their own: two backups in one process never see each other's.
 *
 * @module
 */
import { Secret } from "../../log/secret.ts";

/** The names, as in Longhorn's credential secrets; true for what must not be seen. */
export const CREDENTIAL_NAMES = {
  AWS_ACCESS_KEY_ID: true,
  AWS_SECRET_ACCESS_KEY: true,
  AWS_SESSION_TOKEN: true,
  AWS_ENDPOINTS: false,
  AWS_CERT: false,
  VIRTUAL_HOSTED_STYLE: false,
  AWS_SIGN_ACCEPT_ENCODING: false,
  CIFS_USERNAME: true,
  CIFS_PASSWORD: true,
  AZBLOB_ACCOUNT_NAME: false,
  AZBLOB_ACCOUNT_KEY: true,
  AZBLOB_ENDPOINT: false,
  AZBLOB_CERT: false,
  HTTP_PROXY: false,
  HTTPS_PROXY: false,
  NO_PROXY: false,
} as const;

/** One of {@linkcode CREDENTIAL_NAMES}. */
export type CredentialName = keyof typeof CREDENTIAL_NAMES;

/** Credentials that cannot be read. */
export class CredentialError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "CredentialError";
  /** What the user gave is wrong: a usage error. */
  readonly exitCode = 2;
}

/** Largest file of credentials, bytes; certificates are the long ones. */
const MAX_FILE_BYTES = 1024 * 1024;

function isName(name: string): name is CredentialName {
  return Object.hasOwn(CREDENTIAL_NAMES, name);
}

/** A set of credentials. Prints as nothing. */
export class Credentials {
  readonly #values: ReadonlyMap<CredentialName, Secret>;

  private constructor(values: ReadonlyMap<CredentialName, Secret>) {
    this.#values = values;
  }

  /** From a map, such as a request's. Empty values count as not given; names that are not known are left out. */
  static from(values: Readonly<Record<string, string>>): Credentials {
    const kept = new Map<CredentialName, Secret>();
    for (const [name, value] of Object.entries(values)) {
      if (isName(name) && value !== "") kept.set(name, new Secret(value));
    }
    return new Credentials(kept);
  }

  /** From this process's environment; proxies also under their names in small letters. */
  static fromEnvironment(
    get: (name: string) => string | undefined = (name) => Deno.env.get(name),
  ): Credentials {
    const values: Record<string, string> = {};
    for (const name of Object.keys(CREDENTIAL_NAMES)) {
      const value = get(name) ?? (name.endsWith("_PROXY") ? get(name.toLowerCase()) : undefined);
      if (value !== undefined) values[name] = value;
    }
    return Credentials.from(values);
  }

  /**
   * From a file: lines `NAME=VALUE`, or a JSON object. `AWS_CERT_FILE=PATH` and `AZBLOB_CERT_FILE=PATH` read a
   * certificate from a file of its own, since a line cannot hold one.
   *
   * @throws {CredentialError} naming file and line, and when others may read the file
   */
  static async fromFile(path: string): Promise<Credentials> {
    let text: string;
    try {
      const { mode, size } = await Deno.stat(path);
      if (mode !== null && (mode & 0o077) !== 0) {
        throw new CredentialError(`${path}: others may read this file; run: chmod 600 ${path}`);
      }
      if (size > MAX_FILE_BYTES) throw new CredentialError(`${path}: too large for a file of credentials`);
      text = await Deno.readTextFile(path);
    } catch (cause) {
      if (cause instanceof CredentialError) throw cause;
      throw new CredentialError(`${path}: the file of credentials cannot be read`, { cause });
    }
    const values = text.trimStart().startsWith("{") ? parseJson(path, text) : parseLines(path, text);
    for (const name of ["AWS_CERT", "AZBLOB_CERT"]) {
      const file = values[`${name}_FILE`];
      delete values[`${name}_FILE`];
      if (file === undefined || file === "") continue;
      try {
        values[name] = await Deno.readTextFile(file);
      } catch (cause) {
        throw new CredentialError(`${path}: ${name}_FILE: ${file} cannot be read`, { cause });
      }
    }
    return Credentials.from(values);
  }

  /** A value, for the code that needs it; undefined when it was not given. */
  get(name: CredentialName): string | undefined {
    return this.#values.get(name)?.reveal();
  }

  /** These, and where they have nothing the others'. */
  over(others: Credentials): Credentials {
    return new Credentials(new Map([...others.#values, ...this.#values]));
  }

  /** For a request to another process of ours; never for a log. */
  reveal(): Record<string, string> {
    return Object.fromEntries([...this.#values].map(([name, value]) => [name, value.reveal()]));
  }
}

function parseLines(path: string, text: string): Record<string, string> {
  const values: Record<string, string> = {};
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (/^\s*(#|$)/.test(line)) continue;
    const match = /^\s*(?:export\s+)?([A-Z_]+)\s*=\s*(.*?)\s*$/.exec(line);
    const name = match?.[1] ?? "";
    if (!isName(name) && !/^(?:AWS|AZBLOB)_CERT_FILE$/.test(name)) {
      // The line is not quoted: it may be a key that stands in the wrong place.
      throw new CredentialError(
        `${path}: line ${index + 1} is not NAME=VALUE with one of ${
          Object.keys(CREDENTIAL_NAMES).join(", ")
        }`,
      );
    }
    values[name] = (match?.[2] ?? "").replace(/^(["'])(.*)\1$/, "$2");
  }
  return values;
}

function parseJson(path: string, text: string): Record<string, string> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    // The cause quotes what it read: not for messages.
    throw new CredentialError(`${path}: not valid JSON`);
  }
  const values: Record<string, string> = {};
  for (const [name, value] of Object.entries(parsed as Record<string, unknown>)) {
    if (typeof value !== "string") throw new CredentialError(`${path}: the value of a name is not a text`);
    values[name] = value;
  }
  return values;
}
