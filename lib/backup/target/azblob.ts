/**
 * A container of Azure's blob service as a target, signed with the account's key.
 *
 * Used are Put Blob, Get Blob, Get Blob Properties, Delete Blob and List Blobs of version 2021-08-06, which takes
 * blobs of up to 5000 MiB in one request.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { type AzurePage, parseAzurePage } from "./azblob_page.ts";
import { sharedKey } from "./azblob_sign.ts";
import { CredentialError, type Credentials } from "./credentials.ts";
import { DEFAULT_TIMES, HttpClient, type HttpTimes, MAX_ANSWER_BYTES, MAX_OBJECT_BYTES } from "./http.ts";
import { HttpError, type HttpReply } from "./http_message.ts";
import { entryOf, folderPrefix, namesBelow, unlessMissing } from "./object_store.ts";
import { checkPath } from "./paths.ts";
import { DEFAULT_RETRY, forEachOf, type RetryOptions, withRetries } from "./retry.ts";
import { type Entry, NotFoundError, type Target, TargetError } from "./target.ts";
import type { AzureAddress } from "./url.ts";
import { XmlError } from "./xml_text.ts";

/** Version of the service's interface. */
const VERSION = "2021-08-06";
/** Domain of the public cloud. */
const DEFAULT_SUFFIX = "core.windows.net";
/** Removals of one folder that run at once. */
const WIDTH = 8;

/** Settings that tests change. */
export interface AzureOptions {
  /** Default {@linkcode DEFAULT_RETRY}. */
  readonly retry?: RetryOptions;
  /** Default {@linkcode DEFAULT_TIMES}. */
  readonly times?: HttpTimes;
}

interface Call {
  readonly operation: string;
  readonly path: string;
  readonly method: string;
  /** Name in the container; undefined: the container itself. */
  readonly blob?: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  readonly signal?: AbortSignal | undefined;
  readonly limitBytes?: number;
}

/** Opens a container. @throws {CredentialError} when account or key are missing or make no sense */
export function openAzure(
  address: AzureAddress,
  credentials: Credentials,
  options: AzureOptions = {},
): Target {
  const account = credentials.get("AZBLOB_ACCOUNT_NAME");
  const key = credentials.get("AZBLOB_ACCOUNT_KEY");
  if (account === undefined || key === undefined) {
    const lacking = account === undefined ? "AZBLOB_ACCOUNT_NAME" : "AZBLOB_ACCOUNT_KEY";
    throw new CredentialError(`${address.url}: ${lacking} is not set`);
  }
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(key)) {
    throw new CredentialError(`${address.url}: AZBLOB_ACCOUNT_KEY is not a key: it has to be in base64`);
  }
  const given = credentials.get("AZBLOB_ENDPOINT");
  const base = given ?? `https://${account}.blob.${address.suffix || DEFAULT_SUFFIX}`;
  if (!URL.canParse(base) || !/^https?:$/.test(new URL(base).protocol)) {
    throw new CredentialError(`${address.url}: AZBLOB_ENDPOINT is not the URL of a blob service`);
  }
  const url = new URL(base);
  const client = new HttpClient(
    url,
    credentials,
    credentials.get("AZBLOB_CERT"),
    options.times ?? DEFAULT_TIMES,
  );
  const container = `${url.origin}${url.pathname.replace(/\/+$/, "")}/${address.container}`;
  const raw = Uint8Array.from(atob(key), (c) => c.charCodeAt(0));
  return new AzureTarget(address, container, client, account, raw, options.retry ?? DEFAULT_RETRY);
}

class AzureTarget implements Target {
  readonly url: string;
  readonly #address: AzureAddress;
  readonly #container: string;
  readonly #client: HttpClient;
  readonly #account: string;
  readonly #key: Uint8Array;
  readonly #retry: RetryOptions;

  constructor(
    address: AzureAddress,
    container: string,
    client: HttpClient,
    account: string,
    key: Uint8Array,
    retry: RetryOptions,
  ) {
    this.url = address.url;
    this.#address = address;
    this.#container = container;
    this.#client = client;
    this.#account = account;
    this.#key = key;
    this.#retry = retry;
  }

  async *list(prefix: string): AsyncIterable<Entry> {
    checkPath(prefix, "list", this.url, true);
    for await (const page of this.#pages(prefix, undefined)) {
      for (const { name, bytes, modifiedMs } of page.blobs) {
        yield { path: this.#pathOf(name), bytes, modifiedMs };
      }
    }
  }

  async children(folder: string): Promise<string[]> {
    checkPath(folder, "list", this.url, true);
    const prefix = folderPrefix(folder), paths: string[] = [];
    for await (const page of this.#pages(prefix, "/")) {
      paths.push(
        ...page.blobs.map(({ name }) => this.#pathOf(name)),
        ...page.prefixes.map((one) => this.#pathOf(one)),
      );
    }
    return namesBelow(prefix, paths);
  }

  async head(path: string): Promise<Entry | undefined> {
    checkPath(path, "head", this.url);
    const call = { operation: "head", path, method: "HEAD", blob: this.#nameOf(path) };
    const found = await unlessMissing(this.#call(call));
    if (found === undefined) return undefined;
    const entry = entryOf(path, found.headers);
    if (entry) return entry;
    throw this.#error("the service does not tell size and time of the blob", "head", path, false);
  }

  async read(path: string, signal?: AbortSignal): Promise<Uint8Array> {
    checkPath(path, "read", this.url);
    const blob = this.#nameOf(path);
    const call = { operation: "read", path, method: "GET", blob, signal, limitBytes: MAX_OBJECT_BYTES };
    return (await this.#call(call)).body;
  }

  async write(path: string, data: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkPath(path, "write", this.url);
    await this.#call({
      operation: "write",
      path,
      method: "PUT",
      blob: this.#nameOf(path),
      body: data,
      signal,
    });
  }

  async remove(path: string): Promise<void> {
    checkPath(path, "remove", this.url);
    await unlessMissing(
      this.#call({ operation: "remove", path, method: "DELETE", blob: this.#nameOf(path) }),
    );
  }

  async removeTree(prefix: string): Promise<void> {
    checkPath(prefix, "remove", this.url, true);
    await forEachOf(this.list(prefix), WIDTH, ({ path }) => this.remove(path));
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#client[Symbol.dispose]();
    return Promise.resolve();
  }

  async *#pages(prefix: string, delimiter: string | undefined): AsyncGenerator<AzurePage> {
    let marker = "";
    for (;;) {
      const query = {
        restype: "container",
        comp: "list",
        prefix: this.#nameOf(prefix),
        ...(delimiter !== undefined && { delimiter }),
        ...(marker !== "" && { marker }),
      };
      const { body } = await this.#call({ operation: "list", path: prefix, method: "GET", query });
      const page = this.#parse(body, prefix);
      if (page.next !== "" && page.next === marker) {
        throw this.#error("the listing does not get on", "list", prefix, false);
      }
      yield page;
      if (page.next === "") return;
      marker = page.next;
    }
  }

  #parse(body: Uint8Array, prefix: string): AzurePage {
    try {
      return parseAzurePage(body);
    } catch (cause) {
      if (!(cause instanceof XmlError)) throw cause;
      const problem = `${cause.message}; is AZBLOB_ENDPOINT a blob service?`;
      throw this.#error(problem, "list", prefix, false, cause);
    }
  }

  #nameOf(path: string): string {
    return this.#address.prefix + path;
  }

  #pathOf(name: string): string {
    if (!name.startsWith(this.#address.prefix)) {
      throw this.#error("the listing has a name that was not asked for", "list", name, false);
    }
    return name.slice(this.#address.prefix.length);
  }

  #error(problem: string, operation: string, path: string, retryable: boolean, cause?: unknown): TargetError {
    return new TargetError(problem, { operation, path, url: this.url, retryable, cause });
  }

  #call(call: Call): Promise<HttpReply> {
    return withRetries(() => this.#once(call), call.signal, this.#retry);
  }

  async #once(call: Call): Promise<HttpReply> {
    const { operation, path, signal, body } = call;
    const blob = call.blob?.split("/").map(encodeURIComponent).join("/");
    const url = new URL(blob === undefined ? this.#container : `${this.#container}/${blob}`);
    for (const [name, value] of Object.entries(call.query ?? {})) url.searchParams.set(name, value);
    const headers = new Headers({ "x-ms-version": VERSION, "x-ms-date": new Date().toUTCString() });
    if (body !== undefined) {
      headers.set("x-ms-blob-type", "BlockBlob");
      headers.set("content-type", "application/octet-stream");
      headers.set("content-md5", createHash("md5").update(body).digest("base64"));
      headers.set("content-length", String(body.length));
    }
    headers.set("authorization", sharedKey({ method: call.method, url, headers }, this.#account, this.#key));
    headers.set("accept-encoding", "identity");
    // The runtime sets it itself, to the same.
    headers.delete("content-length");
    let reply: HttpReply;
    try {
      const limitBytes = call.limitBytes ?? MAX_ANSWER_BYTES;
      const sent = body === undefined ? {} : { body };
      reply = await this.#client.send({
        method: call.method,
        url: url.href,
        headers,
        limitBytes,
        signal,
        ...sent,
      });
    } catch (cause) {
      if (!(cause instanceof HttpError)) throw cause;
      throw this.#error(cause.message, operation, path, cause.retryable, cause);
    }
    const { status } = reply;
    if (status >= 200 && status < 300) return this.#checked(call, reply);
    const code = reply.headers.get("x-ms-error-code") ?? "";
    if (status === 404 && code !== "ContainerNotFound" && call.blob !== undefined) {
      throw new NotFoundError({ operation, path, url: this.url });
    }
    const passing = status === 408 || status === 429 || (status >= 500 && status !== 501);
    throw this.#error(explain(status, code), operation, path, passing);
  }

  /** A body whose MD5 the service keeps has to have it. */
  #checked(call: Call, reply: HttpReply): HttpReply {
    const expected = reply.headers.get("content-md5");
    if (call.operation === "read" && expected !== null) {
      if (createHash("md5").update(reply.body).digest("base64") !== expected) {
        throw this.#error("the content does not fit its checksum (MD5)", call.operation, call.path, true);
      }
    }
    return reply;
  }
}

function explain(status: number, code: string): string {
  const told = code === "" ? `status ${status}` : `status ${status}, ${code}`;
  if (status === 401 || status === 403) {
    return "access denied: check AZBLOB_ACCOUNT_NAME and AZBLOB_ACCOUNT_KEY, and the clock of this machine " +
      `(${told})`;
  }
  if (code === "ContainerNotFound") {
    return `there is no such container; look at the container in the target's URL (${told})`;
  }
  return `the service answered with ${told}`;
}
