/**
 * Signatures of requests to S3, version 4 (AWS, "Authenticating Requests: Using the Authorization Header"). By hand and
 * without promises: a block's request is signed in a twentieth of a millisecond.
 *
 * @module
 */
import { createHash, createHmac } from "node:crypto";

/** Who signs. */
export interface S3Keys {
  /** AWS_ACCESS_KEY_ID. */
  readonly accessKeyId: string;
  /** AWS_SECRET_ACCESS_KEY. */
  readonly secretAccessKey: string;
  /** AWS_SESSION_TOKEN. */
  readonly sessionToken?: string;
}

/** What is signed. */
export interface S3Unsigned {
  /** Method. */
  readonly method: string;
  /** Complete URL; its path is percent-encoded as {@linkcode encodeKey} does it. */
  readonly url: URL;
  /** All headers that are signed, with names in small letters; `x-amz-content-sha256` is among them. */
  readonly headers: Readonly<Record<string, string>>;
  /** The time that is signed, milliseconds since 1970. */
  readonly timeMs: number;
}

function hmac(key: string | Uint8Array, text: string): Uint8Array {
  return createHmac("sha256", key).update(text).digest();
}

function escape(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

/** Percent-encoding as signatures want it: all but the unreserved characters of RFC 3986, and `/`. */
export function encodeKey(key: string): string {
  return key.split("/").map(escape).join("/");
}

/** The query as it is sent and signed: names and values encoded, sorted; "" for none. */
export function encodeQuery(query: Readonly<Record<string, string>>): string {
  return Object.entries(query).map(([name, value]) => `${escape(name)}=${escape(value)}`).sort().join("&");
}

/** Signs requests with one pair of keys, for one region. */
export class S3Signer {
  readonly #keys: S3Keys;
  readonly #region: string;
  #day = "";
  #dayKey: Uint8Array = new Uint8Array(0);

  /** Signs for a region. */
  constructor(keys: S3Keys, region: string) {
    this.#keys = keys;
    this.#region = region;
  }

  /** The headers of a request that is signed: those given, the time, the token, the signature. */
  sign({ method, url, headers, timeMs }: S3Unsigned): Headers {
    const { accessKeyId, sessionToken } = this.#keys;
    const time = new Date(timeMs).toISOString().replace(/[:-]|\.\d{3}/g, "");
    const all: Record<string, string> = { ...headers, host: url.host, "x-amz-date": time };
    if (sessionToken !== undefined) all["x-amz-security-token"] = sessionToken;
    const names = Object.keys(all).sort(), signed = names.join(";");
    const lines = names.map((name) => `${name}:${(all[name] ?? "").trim().replace(/\s+/g, " ")}\n`).join("");
    const canonical = `${method}\n${url.pathname}\n${url.search.slice(1)}\n${lines}\n${signed}\n` +
      headers["x-amz-content-sha256"];
    const day = time.slice(0, 8), scope = `${day}/${this.#region}/s3/aws4_request`;
    const sum = createHash("sha256").update(canonical).digest("hex");
    const key = this.#keyOf(day);
    const signature = createHmac("sha256", key).update(`AWS4-HMAC-SHA256\n${time}\n${scope}\n${sum}`).digest(
      "hex",
    );
    const result = new Headers(all);
    result.delete("host");
    result.set(
      "authorization",
      `AWS4-HMAC-SHA256 Credential=${accessKeyId}/${scope}, SignedHeaders=${signed}, Signature=${signature}`,
    );
    return result;
  }

  /** The key of a day, derived once. */
  #keyOf(day: string): Uint8Array {
    if (this.#day !== day) {
      const ofDay = hmac(`AWS4${this.#keys.secretAccessKey}`, day);
      this.#dayKey = hmac(hmac(hmac(ofDay, this.#region), "s3"), "aws4_request");
      this.#day = day;
    }
    return this.#dayKey;
  }
}
