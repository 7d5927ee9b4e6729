/**
 * Parsing XML of object stores: no document types, no entities but those of XML itself, values as texts.
 *
 * @module
 */
import { XMLParser } from "fast-xml-parser";

/** An answer that is not what the protocol says. */
export class XmlError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "XmlError";
}

/** An element with its children; a text where it has none. */
export type XmlNode = Readonly<Record<string, unknown>>;

/** Bytes of the longest document that is looked at. */
const MAX_XML_BYTES = 16 * 1024 ** 2;

const NAMED: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

function unescapeXml(text: string): string {
  return text.replace(
    /&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|(amp|lt|gt|quot|apos));/gi,
    (all, decimal, hex, name) => {
      if (name !== undefined) return NAMED[String(name).toLowerCase()] ?? all;
      const code = decimal === undefined ? Number.parseInt(hex, 16) : Number(decimal);
      return code > 0x10ffff ? all : String.fromCodePoint(code);
    },
  );
}

/** Narrows to an element with children. */
export function isNode(value: unknown): value is XmlNode {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The text of a child; empty when there is none. */
export function textOf(node: XmlNode, name: string): string {
  const value = node[name];
  return typeof value === "string" ? unescapeXml(value) : "";
}

/** The children of a name that may come more than once. */
export function nodesOf(node: XmlNode, name: string): XmlNode[] {
  const value = node[name];
  return Array.isArray(value) ? value.filter(isNode) : [];
}

/**
 * A function that parses documents and returns the outermost element, undefined when it has another name.
 *
 * @param lists names of elements that come more than once
 */
export function xmlReader(
  lists: readonly string[],
): (data: Uint8Array, rootName: string) => XmlNode | undefined {
  const parser = new XMLParser({
    ignoreAttributes: true,
    parseTagValue: false,
    trimValues: false,
    processEntities: false,
    isArray: (name: string) => lists.includes(name),
  });
  return (data, rootName) => {
    if (data.length > MAX_XML_BYTES) throw new XmlError("the answer is too long");
    const text = new TextDecoder().decode(data);
    if (/<!(?:DOCTYPE|ENTITY)/i.test(text)) throw new XmlError("the answer has a document type");
    let parsed: unknown;
    try {
      parsed = parser.parse(text, true);
    } catch (cause) {
      throw new XmlError("the answer is not XML", { cause });
    }
    const found = isNode(parsed) ? parsed[rootName] : undefined;
    // An element without content is parsed as an empty text.
    return isNode(found) ? found : found === "" ? {} : undefined;
  };
}
