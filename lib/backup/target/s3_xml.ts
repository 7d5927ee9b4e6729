/**
 * The XML that S3 services answer with. It comes from outside: sizes are bounded before it gets here, document
 * types (and with them entities of the sender's own) are refused, and every value is checked.
 *
 * @module
 */
import { nodesOf, textOf, XmlError, xmlReader } from "./xml_text.ts";

const root = xmlReader(["Contents", "CommonPrefixes"]);

/** What an error document says. */
export interface S3Failure {
  /** Word for programs, such as `NoSuchKey`; empty when the body was no error document. */
  readonly code: string;
  /** Sentence for people. */
  readonly message: string;
  /** The bucket's region, when the server told. */
  readonly region: string;
}

/** Reads an error; whatever cannot be read gives an empty one. */
export function parseFailure(data: Uint8Array): S3Failure {
  try {
    const error = root(data, "Error");
    if (error !== undefined) {
      return {
        code: textOf(error, "Code"),
        message: textOf(error, "Message").slice(0, 500),
        region: textOf(error, "Region"),
      };
    }
  } catch (cause) {
    // A proxy's page, or nothing: the status has to do.
    if (!(cause instanceof XmlError)) throw cause;
  }
  return { code: "", message: "", region: "" };
}

/** One page of a listing. */
export interface S3Page {
  /** Objects. */
  readonly objects: readonly { readonly key: string; readonly bytes: number; readonly modifiedMs: number }[];
  /** What lies behind the delimiter, with the delimiter at the end. */
  readonly prefixes: readonly string[];
  /** Where the next page begins; undefined: this was the last. */
  readonly next: string | undefined;
}

function decoded(text: string, encoded: boolean): string {
  if (!encoded) return text;
  try {
    return decodeURIComponent(text.replaceAll("+", "%20"));
  } catch (cause) {
    throw new XmlError("a key in the listing is wrongly encoded", { cause });
  }
}

/** Reads a page of ListObjectsV2. @throws {XmlError} */
export function parsePage(data: Uint8Array): S3Page {
  const result = root(data, "ListBucketResult");
  if (result === undefined) throw new XmlError("the answer is not a listing");
  const encoded = textOf(result, "EncodingType") === "url";
  const objects = nodesOf(result, "Contents").map((node) => {
    const bytes = Number(textOf(node, "Size"));
    const modifiedMs = Date.parse(textOf(node, "LastModified"));
    if (!Number.isSafeInteger(bytes) || bytes < 0) throw new XmlError("an object in the listing has no size");
    if (Number.isNaN(modifiedMs)) throw new XmlError("an object in the listing has no time");
    return { key: decoded(textOf(node, "Key"), encoded), bytes, modifiedMs };
  });
  const prefixes = nodesOf(result, "CommonPrefixes").map((node) => decoded(textOf(node, "Prefix"), encoded));
  const truncated = textOf(result, "IsTruncated") === "true";
  const next = textOf(result, "NextContinuationToken");
  if (truncated && next === "") throw new XmlError("the listing goes on, but does not say where");
  return { objects, prefixes, next: truncated ? next : undefined };
}

/** The upload id in the answer of CreateMultipartUpload. @throws {XmlError} */
export function parseUploadId(data: Uint8Array): string {
  const id = textOf(root(data, "InitiateMultipartUploadResult") ?? {}, "UploadId");
  if (id === "") throw new XmlError("the answer has no upload id");
  return id;
}

/** True when a multipart upload was completed: the status alone does not tell, errors come with 200 too. */
export function isCompleted(data: Uint8Array): boolean {
  return root(data, "CompleteMultipartUploadResult") !== undefined;
}
