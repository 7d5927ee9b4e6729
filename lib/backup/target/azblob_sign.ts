/**
 * Signatures of requests to Azure's blob service with an account's key ("Shared Key").
 *
 * @module
 */
import { createHmac } from "node:crypto";

/** What a signature covers. */
export interface SignedRequest {
  /** Method. */
  readonly method: string;
  /** Complete URL. */
  readonly url: URL;
  /** All headers that are sent, `content-length` among them where there is a body. */
  readonly headers: Headers;
}

/** The headers of the string to sign that come one to a line, in this order. */
const PLAIN_HEADERS = [
  "content-encoding",
  "content-language",
  "content-length",
  "content-md5",
  "content-type",
  "date",
  "if-modified-since",
  "if-match",
  "if-none-match",
  "if-unmodified-since",
  "range",
] as const;

/**
 * The text that a Shared Key signature covers (Microsoft, "Authorize with Shared Key", blob service, version
 * 2015-02-21 and later).
 *
 * | lines | content |
 * | --- | --- |
 * | 1 | the method |
 * | 2 to 12 | {@linkcode PLAIN_HEADERS}; a length of 0 is empty |
 * | then | all `x-ms-` headers, sorted, `name:value` |
 * | then | `/` account and path of the URL |
 * | last | the parameters, sorted, `name:value` |
 */
export function stringToSign(request: SignedRequest, account: string): string {
  const { method, url, headers } = request;
  const plain = PLAIN_HEADERS.map((name) => {
    const value = headers.get(name) ?? "";
    return name === "content-length" && value === "0" ? "" : value;
  });
  const own = [...headers].filter(([name]) => name.startsWith("x-ms-")).sort(([a], [b]) => a < b ? -1 : 1)
    .map(([name, value]) => `${name}:${value.trim()}`);
  const parameters = new Map<string, string[]>();
  for (const [name, value] of url.searchParams) {
    const key = name.toLowerCase();
    parameters.set(key, [...parameters.get(key) ?? [], value]);
  }
  const sorted = [...parameters].sort(([a], [b]) => a < b ? -1 : 1)
    .map(([name, values]) => `${name}:${values.sort().join(",")}`);
  return [method, ...plain, ...own, `/${account}${url.pathname}`, ...sorted].join("\n");
}

/** Value of the header `authorization`. @param key the account's key, decoded */
export function sharedKey(request: SignedRequest, account: string, key: Uint8Array): string {
  const signature = createHmac("sha256", key).update(stringToSign(request, account)).digest("base64");
  return `SharedKey ${account}:${signature}`;
}
