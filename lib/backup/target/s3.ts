/**
 * A bucket of an S3 service as a target.
 *
 * Six requests are used: PutObject, GetObject, HeadObject, DeleteObject, ListObjectsV2, and for objects that are
 * too large for one request the three of a multipart upload. Signatures are of version 4; the body's SHA-256 is part
 * of what is signed, so that the service refuses a body that was damaged on the way. A body that comes back is
 * checked against its length and, where the ETag is an MD5, against that.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { CredentialError, type Credentials } from "./credentials.ts";
import { DEFAULT_TIMES, HttpClient, type HttpTimes, MAX_ANSWER_BYTES, MAX_OBJECT_BYTES } from "./http.ts";
import { HttpError, type HttpReply } from "./http_message.ts";
import { entryOf, folderPrefix, namesBelow, unlessMissing } from "./object_store.ts";
import { checkPath } from "./paths.ts";
import { DEFAULT_RETRY, forEachOf, type RetryOptions, withRetries } from "./retry.ts";
import { explainFailure, isPassing, type S3Endpoint, s3Endpoint } from "./s3_endpoint.ts";
import { S3Signer } from "./s3_sign.ts";
import { isCompleted, parseFailure, parsePage, parseUploadId, type S3Page } from "./s3_xml.ts";
import { type Entry, NotFoundError, type Target, TargetError } from "./target.ts";
import type { S3Address } from "./url.ts";
import { XmlError } from "./xml_text.ts";

/** Objects above this size are uploaded in parts, bytes. One request takes up to 5 GiB (AWS S3 user guide). */
export const MULTIPART_ABOVE_BYTES = 64 * 1024 ** 2;
/** Size of a part, bytes; the services' limits are 5 MiB to 5 GiB, and 10,000 parts. */
export const PART_BYTES = 32 * 1024 ** 2;
/** Parts of one object, and removals of one folder, that run at once. */
const WIDTH = 8;

/** Settings that tests change. */
export interface S3Options {
  /** Default {@linkcode DEFAULT_RETRY}. */
  readonly retry?: RetryOptions;
  /** Default {@linkcode DEFAULT_TIMES}. */
  readonly times?: HttpTimes;
  /** Default {@linkcode MULTIPART_ABOVE_BYTES}. */
  readonly multipartAboveBytes?: number;
  /** Default {@linkcode PART_BYTES}. */
  readonly partBytes?: number;
}

/** One request before it is signed. */
interface Call {
  readonly operation: string;
  /** Path below the target, for messages. */
  readonly path: string;
  readonly method: string;
  /** Key in the bucket; undefined: the bucket itself. */
  readonly key?: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  readonly signal?: AbortSignal | undefined;
  readonly limitBytes?: number;
  /** Memory for the answer's body. */
  readonly into?: Uint8Array | undefined;
  /** Looks at a good answer; throwing a retryable {@linkcode TargetError} asks for another try. */
  readonly check?: (reply: HttpReply) => void;
}

/** Percent-encoding as signatures want it: all but the unreserved characters of RFC 3986. */
function encodeKey(key: string): string {
  return key.split("/").map((part) =>
    encodeURIComponent(part).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
  ).join("/");
}

function md5(data: Uint8Array, encoding: "hex" | "base64"): string {
  return createHash("md5").update(data).digest(encoding);
}

/** Off this thread: for a block it takes a millisecond. */
async function sha256(data: Uint8Array): Promise<string> {
  const sum = await crypto.subtle.digest("SHA-256", data as Uint8Array<ArrayBuffer>);
  return new Uint8Array(sum).toHex();
}

/** The ETag as an MD5 in hexadecimal digits, when it can be one. */
function md5OfEtag(headers: Headers): string | undefined {
  const encryption = headers.get("x-amz-server-side-encryption");
  if (
    (encryption !== null && encryption !== "AES256") ||
    headers.has("x-amz-server-side-encryption-customer-algorithm")
  ) {
    return undefined;
  }
  return /^"?([0-9a-f]{32})"?$/i.exec(headers.get("etag") ?? "")?.[1]?.toLowerCase();
}

/** Opens a bucket. @throws {CredentialError} when keys are missing or the endpoint makes no sense */
export function openS3(address: S3Address, credentials: Credentials, options: S3Options = {}): Target {
  const accessKeyId = credentials.get("AWS_ACCESS_KEY_ID");
  const secretAccessKey = credentials.get("AWS_SECRET_ACCESS_KEY");
  if (accessKeyId === undefined || secretAccessKey === undefined) {
    const lacking = accessKeyId === undefined ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY";
    throw new CredentialError(`${address.url}: ${lacking} is not set`);
  }
  const endpoint = s3Endpoint(address, credentials);
  const client = new HttpClient(
    new URL(endpoint.bucketUrl),
    credentials,
    credentials.get("AWS_CERT"),
    options.times ?? DEFAULT_TIMES,
  );
  const sessionToken = credentials.get("AWS_SESSION_TOKEN");
  const keys = { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) };
  return new S3Target(address, endpoint, client, keys, options);
}

interface Keys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

class S3Target implements Target {
  readonly url: string;
  readonly #address: S3Address;
  readonly #endpoint: S3Endpoint;
  readonly #client: HttpClient;
  readonly #keys: Keys;
  readonly #retry: RetryOptions;
  readonly #multipartAbove: number;
  readonly #partBytes: number;
  /** Keys derived for signing, one a day. */
  readonly #signingKeys = new Map<string, ArrayBuffer>();
  /** The service asks for the MD5 of bodies, which costs more than all else on a body's way. */
  #wantsMd5 = false;

  constructor(address: S3Address, endpoint: S3Endpoint, client: HttpClient, keys: Keys, options: S3Options) {
    this.url = address.url;
    this.#address = address;
    this.#endpoint = endpoint;
    this.#client = client;
    this.#keys = keys;
    this.#retry = options.retry ?? DEFAULT_RETRY;
    this.#multipartAbove = options.multipartAboveBytes ?? MULTIPART_ABOVE_BYTES;
    this.#partBytes = options.partBytes ?? PART_BYTES;
  }

  async *list(prefix: string): AsyncIterable<Entry> {
    checkPath(prefix, "list", this.url, true);
    for await (const page of this.#pages("list", prefix, undefined)) {
      for (const { key, bytes, modifiedMs } of page.objects) {
        // Consoles make empty objects for "folders".
        if (!key.endsWith("/")) yield { path: this.#pathOf(key), bytes, modifiedMs };
      }
    }
  }

  async children(folder: string): Promise<string[]> {
    checkPath(folder, "list", this.url, true);
    const prefix = folderPrefix(folder), paths: string[] = [];
    for await (const page of this.#pages("list", prefix, "/")) {
      paths.push(
        ...page.objects.map(({ key }) => this.#pathOf(key)),
        ...page.prefixes.map((one) => this.#pathOf(one)),
      );
    }
    return namesBelow(prefix, paths);
  }

  async head(path: string): Promise<Entry | undefined> {
    checkPath(path, "head", this.url);
    const call = { operation: "head", path, method: "HEAD", key: this.#keyOf(path) };
    const found = await unlessMissing(this.#call(call));
    if (found === undefined) return undefined;
    const entry = entryOf(path, found.headers);
    if (entry) return entry;
    throw this.#error("the service does not tell size and time of the object", "head", path, false);
  }

  async read(path: string, signal?: AbortSignal, into?: Uint8Array): Promise<Uint8Array> {
    checkPath(path, "read", this.url);
    let damaged: string | undefined;
    const check = ({ headers, body }: HttpReply): void => {
      // A block is named by its checksum: whoever reads it finds out, with a better one than MD5.
      const expected = path.endsWith(".blk") ? undefined : md5OfEtag(headers);
      if (expected === undefined) return;
      const sum = md5(body, "hex");
      // The same bytes again with the same ETag: then this service's ETags are no checksums.
      if (sum === expected || damaged === `${sum} ${expected}`) return;
      damaged = `${sum} ${expected}`;
      throw this.#error("the content does not fit its checksum (ETag)", "read", path, true);
    };
    const key = this.#keyOf(path);
    const limitBytes = MAX_OBJECT_BYTES;
    const call = { operation: "read", path, method: "GET", key, signal, limitBytes, into, check };
    return (await this.#call(call)).body;
  }

  async write(path: string, data: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkPath(path, "write", this.url);
    const key = this.#keyOf(path);
    if (data.length > this.#multipartAbove) return await this.#writeParts(path, key, data, signal);
    await this.#call({ operation: "write", path, method: "PUT", key, body: data, signal });
  }

  async #writeParts(path: string, key: string, data: Uint8Array, signal?: AbortSignal): Promise<void> {
    const common = { operation: "write", path, key, signal };
    const begun = await this.#call({ ...common, method: "POST", query: { uploads: "" } });
    const uploadId = this.#parsed("write", path, () => parseUploadId(begun.body));
    try {
      const count = Math.ceil(data.length / this.#partBytes);
      const etags: string[] = new Array(count).fill("");
      await forEachOf(etags.keys(), WIDTH, async (index) => {
        const body = data.subarray(index * this.#partBytes, (index + 1) * this.#partBytes);
        const query = { partNumber: String(index + 1), uploadId };
        const { headers } = await this.#call({ ...common, method: "PUT", query, body });
        etags[index] = headers.get("etag") ?? "";
      });
      const parts = etags.map((etag, index) =>
        `<Part><PartNumber>${index + 1}</PartNumber><ETag>${escapeXml(etag)}</ETag></Part>`
      );
      const text = `<CompleteMultipartUpload>${parts.join("")}</CompleteMultipartUpload>`;
      await this.#complete(path, key, data.length, uploadId, new TextEncoder().encode(text), signal);
    } catch (error) {
      // Parts that nobody finishes cost money. That this fails too must not hide why.
      await this.#call({ operation: "write", path, key, method: "DELETE", query: { uploadId } }).catch(
        () => {},
      );
      throw error;
    }
  }

  async #complete(
    path: string,
    key: string,
    bytes: number,
    uploadId: string,
    body: Uint8Array,
    signal?: AbortSignal,
  ): Promise<void> {
    // Errors come with status 200 too.
    const check = (done: HttpReply): void => {
      if (this.#parsed("write", path, () => isCompleted(done.body))) return;
      const why = explainFailure(done.status, parseFailure(done.body), this.#address);
      throw this.#error(why, "write", path, true);
    };
    try {
      const query = { uploadId };
      await this.#call({ operation: "write", path, method: "POST", key, query, body, signal, check });
    } catch (error) {
      // An earlier try may have done it, and only its answer was lost.
      if (!(error instanceof NotFoundError) || (await this.head(path))?.bytes !== bytes) throw error;
    }
  }

  async remove(path: string): Promise<void> {
    checkPath(path, "remove", this.url);
    await this.#removeKey(path);
  }

  async #removeKey(path: string): Promise<void> {
    await unlessMissing(this.#call({ operation: "remove", path, method: "DELETE", key: this.#keyOf(path) }));
  }

  async removeTree(prefix: string): Promise<void> {
    checkPath(prefix, "remove", this.url, true);
    await forEachOf(this.list(prefix), WIDTH, ({ path }) => this.#removeKey(path));
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#client[Symbol.dispose]();
    return Promise.resolve();
  }

  async *#pages(operation: string, prefix: string, delimiter: string | undefined): AsyncGenerator<S3Page> {
    const query: Record<string, string> = {
      "list-type": "2",
      "encoding-type": "url",
      prefix: this.#keyOf(prefix),
      ...(delimiter !== undefined && { delimiter }),
    };
    for (;;) {
      const { body } = await this.#call({ operation, path: prefix, method: "GET", query: { ...query } });
      const page = this.#parsed(operation, prefix, () => parsePage(body));
      yield page;
      if (page.next === undefined) return;
      // A server that sends the same page for ever must not hold us for ever.
      if (page.next === query["continuation-token"]) {
        throw this.#error("the listing does not get on", operation, prefix, false);
      }
      query["continuation-token"] = page.next;
    }
  }

  #keyOf(path: string): string {
    return this.#address.prefix + path;
  }

  #pathOf(key: string): string {
    if (!key.startsWith(this.#address.prefix)) {
      throw this.#error("the listing has a key that was not asked for", "list", key, false);
    }
    return key.slice(this.#address.prefix.length);
  }

  #error(problem: string, operation: string, path: string, retryable: boolean, cause?: unknown): TargetError {
    return new TargetError(problem, { operation, path, url: this.url, retryable, cause });
  }

  #parsed<T>(operation: string, path: string, parse: () => T): T {
    try {
      return parse();
    } catch (cause) {
      if (!(cause instanceof XmlError)) throw cause;
      throw this.#error(`${cause.message}; is AWS_ENDPOINTS an S3 service?`, operation, path, false, cause);
    }
  }

  #call(call: Call): Promise<HttpReply> {
    return withRetries(() => this.#once(call), call.signal, this.#retry);
  }

  async #once(call: Call): Promise<HttpReply> {
    const { operation, path, signal } = call;
    let reply: HttpReply;
    try {
      const { url, headers } = await this.#sign(call);
      const limitBytes = call.limitBytes ?? MAX_ANSWER_BYTES;
      const body = call.body === undefined ? {} : { body: call.body };
      const { method, into } = call;
      reply = await this.#client.send({ method, url, headers, limitBytes, into, signal, ...body });
    } catch (cause) {
      if (!(cause instanceof HttpError)) throw cause;
      throw this.#error(cause.message, operation, path, cause.retryable, cause);
    }
    if (reply.status >= 200 && reply.status < 300) {
      call.check?.(reply);
      return reply;
    }
    const failure = parseFailure(reply.body);
    // Other codes with this status speak of the bucket, the upload, or the user.
    if (
      reply.status === 404 && /^(?:NoSuchKey|NoSuchUpload|NotFound|)$/.test(failure.code) &&
      call.key !== undefined
    ) {
      throw new NotFoundError({ operation, path, url: this.url });
    }
    // Of a bucket whose objects cannot be changed for a while.
    const asksForMd5 = !this.#wantsMd5 && reply.status === 400 && /content-md5/i.test(failure.message);
    this.#wantsMd5 ||= asksForMd5;
    const passing = asksForMd5 || isPassing(reply.status, failure.code);
    const error = this.#error(explainFailure(reply.status, failure, this.#address), operation, path, passing);
    const after = Number(reply.headers.get("retry-after") ?? NaN);
    throw passing && after > 0 ? Object.assign(error, { afterMs: after * 1000 }) : error;
  }

  async #sign(call: Call): Promise<{ url: string; headers: Headers }> {
    const query = new URLSearchParams(call.query ?? {});
    const path = call.key === undefined ? "" : `/${encodeKey(call.key)}`;
    const text = query.toString().replaceAll("+", "%20");
    const headers: Record<string, string> = {
      "x-amz-content-sha256": call.body === undefined ? "UNSIGNED-PAYLOAD" : await sha256(call.body),
    };
    if (call.body !== undefined && this.#wantsMd5) headers["content-md5"] = md5(call.body, "base64");
    const signer = new S3Signer({
      method: call.method,
      url: `${this.#endpoint.bucketUrl}${path}${text === "" ? "" : `?${text}`}`,
      headers,
      ...this.#keys,
      service: "s3",
      region: this.#endpoint.region,
      cache: this.#signingKeys,
    });
    const signed = await signer.sign();
    // Not signed, because there are services in front of which a proxy changes it.
    signed.headers.set("accept-encoding", "identity");
    return { url: signed.url.href, headers: signed.headers };
  }
}

function escapeXml(text: string): string {
  return text.replace(/[<>&"']/g, (c) => `&#${c.charCodeAt(0)};`);
}
