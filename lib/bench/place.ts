/**
 * Names of targets as people write them.
 *
 * | text | what |
 * |---|---|
 * | `unix:/path`, `tcp:host:port`, `tcp://host:port` | frames: an engine's socket frontend, a replica's data port |
 * | `nbd://host[:port]/export` | NBD over TCP |
 * | `nbd+unix:///export?socket=/path` | NBD over a unix socket |
 * | `iscsi://host[:port]/iqn.name/lun` | iSCSI |
 * | `file:/path` | a file or a block device of this machine |
 *
 * @module
 */
import type { Address } from "../io/io.ts";
import type { IscsiPlace } from "./iscsi.ts";
import type { NbdPlace } from "./nbd.ts";
import { BenchError } from "./target.ts";

/** Ports registered with IANA. */
const NBD_PORT = 10809;
const ISCSI_PORT = 3260;
const MAX_LUN = 255;
const MAX_PORT = 65535;

/** Where a load goes. */
export type Place =
  | { readonly kind: "frames"; readonly address: Address }
  | { readonly kind: "nbd" } & NbdPlace
  | { readonly kind: "iscsi" } & IscsiPlace
  | { readonly kind: "file"; readonly path: string };

/** What a target may look like, for messages and help. */
export const PLACE_FORMS: readonly string[] = [
  "unix:/path or tcp:host:port (frames: an engine's socket frontend, a replica's data port)",
  "nbd://host[:port]/export or nbd+unix:///export?socket=/path",
  "iscsi://host[:port]/iqn/lun",
  "file:/path (a file or a block device)",
];

function wrong(text: string, why: string): BenchError {
  return new BenchError(`target "${text}": ${why}\na target is one of\n  ${PLACE_FORMS.join("\n  ")}`);
}

function tcp(text: string, host: string, port: number): Address {
  if (host === "" || !(port >= 1 && port <= MAX_PORT)) throw wrong(text, "expected a host and a port");
  return { kind: "tcp", host: host.replace(/^\[|\]$/g, ""), port };
}

function nbd(text: string, url: URL): Place {
  let exportName: string;
  try {
    exportName = decodeURIComponent(url.pathname.replace(/^\//, ""));
  } catch (cause) {
    throw new BenchError(`target "${text}": the name of the export is not well encoded`, { cause });
  }
  const structured = url.searchParams.get("replies") !== "simple";
  if (url.protocol === "nbd:") {
    const address = tcp(text, url.hostname, Number(url.port || NBD_PORT));
    return { kind: "nbd", address, exportName, structured };
  }
  const path = url.searchParams.get("socket") ?? "";
  if (!path.startsWith("/")) throw wrong(text, "expected ?socket=/path");
  return { kind: "nbd", address: { kind: "unix", path }, exportName, structured };
}

function iscsi(text: string, url: URL): Place {
  const match = /^\/([^/]+)(?:\/(\d+))?$/.exec(url.pathname);
  const lun = Number(match?.[2] ?? 0);
  if (!match || lun > MAX_LUN) throw wrong(text, `expected /iqn/lun with a lun of 0 to ${MAX_LUN}`);
  const address = tcp(text, url.hostname, Number(url.port || ISCSI_PORT));
  return { kind: "iscsi", address, targetName: decodeURIComponent(match[1]), lun };
}

/**
 * Reads the name of a target.
 * @throws {BenchError} naming the text and what is expected
 */
export function parsePlace(text: string): Place {
  const frames = /^tcp:(?:\/\/)?(\[[0-9a-fA-F:.]+\]|[^:/[\]]+):(\d{1,5})$/.exec(text);
  if (frames) return { kind: "frames", address: tcp(text, frames[1], Number(frames[2])) };
  const path = /^(unix|file):(?:\/\/(?=\/))?(\/.+)$/.exec(text);
  if (path?.[1] === "unix") return { kind: "frames", address: { kind: "unix", path: path[2] } };
  if (path) return { kind: "file", path: path[2] };
  if (/^(?:unix|file):/.test(text)) throw wrong(text, "expected an absolute path");
  if (/^tcp:/.test(text)) throw wrong(text, "expected a host and a port");
  if (!/^(?:nbd|nbd\+unix|iscsi):\/\//.test(text)) throw wrong(text, "no such kind of target");
  let url: URL;
  try {
    url = new URL(text);
  } catch (cause) {
    throw new BenchError(wrong(text, "not a URI").message, { cause });
  }
  return url.protocol === "iscsi:" ? iscsi(text, url) : nbd(text, url);
}
