/**
 * Where a bucket is reached, and what an S3 service's refusals mean for the one who set things up.
 *
 * @module
 */
import { CredentialError, type Credentials } from "./credentials.ts";
import type { S3Failure } from "./s3_xml.ts";
import type { S3Address } from "./url.ts";

/** Region that is signed for when nothing names one; most services that have no regions accept it. */
const DEFAULT_REGION = "us-east-1";

/** Where the objects of a bucket are. */
export interface S3Endpoint {
  /** URL of the bucket, without a slash at its end. */
  readonly bucketUrl: string;
  /** Region that requests are signed for. */
  readonly region: string;
}

function parseEndpoint(text: string): URL {
  const given = text.includes("://") ? text : `https://${text}`;
  const url = URL.canParse(given) ? new URL(given) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== "" || url.search !== "") {
    throw new CredentialError(
      `AWS_ENDPOINTS is not the URL of an S3 service, such as https://s3.example.com:9000`,
    );
  }
  return url;
}

/**
 * The bucket's URL: of the service in AWS_ENDPOINTS, else of AWS. With an endpoint of one's own the bucket is part
 * of the path, unless VIRTUAL_HOSTED_STYLE is true; on AWS it is part of the host's name, unless it has dots,
 * which the wildcard certificate does not cover.
 */
export function s3Endpoint(address: S3Address, credentials: Credentials): S3Endpoint {
  const region = address.region || DEFAULT_REGION;
  const given = credentials.get("AWS_ENDPOINTS");
  const virtual = credentials.get("VIRTUAL_HOSTED_STYLE")?.toLowerCase() === "true";
  if (given !== undefined) {
    const url = parseEndpoint(given);
    const path = url.pathname.replace(/\/+$/, "");
    return virtual
      ? { bucketUrl: `${url.protocol}//${address.bucket}.${url.host}${path}`, region }
      : { bucketUrl: `${url.origin}${path}/${address.bucket}`, region };
  }
  const domain = region.startsWith("cn-") ? "amazonaws.com.cn" : "amazonaws.com";
  const host = `s3.${region}.${domain}`;
  return address.bucket.includes(".")
    ? { bucketUrl: `https://${host}/${address.bucket}`, region }
    : { bucketUrl: `https://${address.bucket}.${host}`, region };
}

const CAUSES: Readonly<Record<string, string>> = {
  InvalidAccessKeyId:
    "the service does not know the key in AWS_ACCESS_KEY_ID (or AWS_ENDPOINTS is another service's)",
  XAdminUserNotFound: "the service does not know the key in AWS_ACCESS_KEY_ID",
  SignatureDoesNotMatch:
    "the signature does not fit: AWS_SECRET_ACCESS_KEY is wrong, or something between here and the service " +
    "changes requests",
  ExpiredToken: "AWS_SESSION_TOKEN has expired",
  InvalidToken: "AWS_SESSION_TOKEN is not valid",
  RequestTimeTooSkewed: "the clock of this machine differs too much from the service's",
  NoSuchBucket: "there is no such bucket; look at the bucket and the region in the target's URL",
  AllAccessDisabled: "the bucket is closed",
  EntityTooLarge: "the service does not take objects of this size",
  QuotaExceeded: "the bucket's quota is used up",
  XMinioStorageFull: "the service's disks are full",
};

/** Refusals that come with a status that does not say it, and go away by themselves. */
const PASSING = new Set([
  "BadDigest",
  "XAmzContentSHA256Mismatch",
  "IncompleteBody",
  "RequestTimeout",
  "SlowDown",
  "InternalError",
  "ServiceUnavailable",
  "OperationAborted",
]);

/** True when another try makes sense. */
export function isPassing(status: number, code: string): boolean {
  return status === 408 || status === 429 || (status >= 500 && status !== 501 && status !== 505) ||
    PASSING.has(code);
}

/** What a refusal means and what to do about it. */
export function explainFailure(status: number, failure: S3Failure, address: S3Address): string {
  const said = [failure.code, failure.message].filter((text) => text !== "").join(": ");
  const told = said === "" ? `status ${status}` : `status ${status}, ${said}`;
  const known = Object.hasOwn(CAUSES, failure.code) ? CAUSES[failure.code] : undefined;
  if (known !== undefined) return `${known} (${told})`;
  if (failure.code === "AuthorizationHeaderMalformed" || (status >= 300 && status < 400)) {
    const right = failure.region === "" ? "" : `; it is ${failure.region}`;
    return `the region "${address.region}" in the target's URL is not the bucket's${right} (${told})`;
  }
  if (status === 401 || status === 403) {
    return "access denied: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that this key may list, read, " +
      `write and delete in bucket ${address.bucket} (${told})`;
  }
  return `the service answered with ${told}`;
}
