/**
 * The listings that Azure's blob service answers with. They come from outside: document types are refused, every
 * value is checked.
 *
 * @module
 */
import { isNode, nodesOf, textOf, XmlError, type XmlNode, xmlReader } from "./xml_text.ts";

/** One page of a listing. */
export interface AzurePage {
  /** Blobs. */
  readonly blobs: readonly { readonly name: string; readonly bytes: number; readonly modifiedMs: number }[];
  /** What lies behind the delimiter, with the delimiter at the end. */
  readonly prefixes: readonly string[];
  /** Where the next page begins; empty: this was the last. */
  readonly next: string;
}

const root = xmlReader(["Blob", "BlobPrefix"]);

function child(node: XmlNode, name: string): XmlNode {
  const value = node[name];
  return isNode(value) ? value : {};
}

/** Reads a page. @throws {XmlError} */
export function parseAzurePage(data: Uint8Array): AzurePage {
  const result = root(data, "EnumerationResults");
  if (result === undefined) throw new XmlError("the answer is not a listing");
  const list = child(result, "Blobs");
  const blobs = nodesOf(list, "Blob").map((node) => {
    const properties = child(node, "Properties");
    const bytes = Number(textOf(properties, "Content-Length") || NaN);
    const modifiedMs = Date.parse(textOf(properties, "Last-Modified"));
    const name = textOf(node, "Name");
    if (name === "" || !Number.isSafeInteger(bytes) || bytes < 0 || Number.isNaN(modifiedMs)) {
      throw new XmlError("a blob in the listing lacks its name, size or time");
    }
    return { name, bytes, modifiedMs };
  });
  const prefixes = nodesOf(list, "BlobPrefix").map((node) => textOf(node, "Name"));
  return { blobs, prefixes, next: textOf(result, "NextMarker") };
}
