/**
 * The URLs that name backup targets, and the URLs of single backups, which are the same with a query behind.
 *
 * | form | place |
 * | --- | --- |
 * | `s3://bucket@region/path/` | a bucket; the path is optional |
 * | `nfs://host:/export/path?nfsOptions=a=b,c` | an NFS export, mounted by the kernel |
 * | `cifs://host/share/path?cifsOptions=a=b,c` | an SMB share, mounted by the kernel |
 * | `azblob://container@endpointsuffix/path/` | a container of Azure's blob service |
 * | `vfs:///directory`, `file:///directory` | a directory of this machine |
 * | `TARGET?backup=NAME&volume=NAME` | one backup in a target; `&` in place of `?` when the target has a query |
 *
 * Credentials are never part of a URL: URLs are shown, logged and stored.
 *
 * @module
 */

/** A bucket of an S3 service. */
export interface S3Address {
  /** Kind of the target. */
  readonly kind: "s3";
  /** The URL as it is shown. */
  readonly url: string;
  /** Name of the bucket. */
  readonly bucket: string;
  /** Region that requests are signed for; empty when the URL has none. */
  readonly region: string;
  /** What all keys begin with: empty, or a path with `/` at its end. */
  readonly prefix: string;
}

/** A container of Azure's blob service. */
export interface AzureAddress {
  /** Kind of the target. */
  readonly kind: "azblob";
  /** The URL as it is shown. */
  readonly url: string;
  /** Name of the container. */
  readonly container: string;
  /** Domain below which the accounts lie, such as `core.windows.net`; may be empty. */
  readonly suffix: string;
  /** What all names begin with: empty, or a path with `/` at its end. */
  readonly prefix: string;
}

/** A directory of this machine. */
export interface DirectoryAddress {
  /** Kind of the target. */
  readonly kind: "directory";
  /** The URL as it is shown. */
  readonly url: string;
  /** Absolute path. */
  readonly path: string;
}

/** A share of a file server, to be mounted. */
export interface ShareAddress {
  /** Kind of the target. */
  readonly kind: "nfs" | "cifs";
  /** The URL as it is shown. */
  readonly url: string;
  /** Name or address of the server; IPv6 addresses in brackets. */
  readonly host: string;
  /** Path on the server, with `/` at its front. */
  readonly path: string;
  /** Mount options that the user gave; undefined: the defaults. */
  readonly options: readonly string[] | undefined;
}

/** What a target URL says. */
export type TargetAddress = S3Address | AzureAddress | DirectoryAddress | ShareAddress;

/** A URL that names no target or no backup. */
export class TargetUrlError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "TargetUrlError";
  /** Such URLs come from command lines: a usage error. */
  readonly exitCode = 2;
}

/** Longest URL that is looked at, characters. */
const MAX_URL_CHARS = 4096;

const FORMS = {
  s3: "s3://bucket@region/path/",
  nfs: "nfs://host:/export/path",
  cifs: "cifs://host/share/path",
  azblob: "azblob://container@endpointsuffix/path/",
  vfs: "vfs:///directory",
  file: "file:///directory",
} as const;

/** Mount options that carry credentials: they would be seen in the list of processes and in the mount table. */
const SECRET_OPTIONS = /^(?:user|username|pass|password|passwd|password2|cred|credentials)=/i;

interface Parts {
  readonly scheme: keyof typeof FORMS;
  readonly authority: string;
  readonly path: string;
  readonly query: URLSearchParams;
}

/** The text without what may be a password: what stands between `//` and `@` behind a colon. */
function shown(text: string): string {
  return text.slice(0, 200).replace(/(:\/\/[^/@]*?:)[^/@]*@/, "$1***@");
}

function fail(text: string, why: string, form: string = Object.values(FORMS).join(", ")): never {
  throw new TargetUrlError(`"${shown(text)}" names no backup target: ${why}; write ${form}`);
}

function split(text: string): Parts {
  if (text.length > MAX_URL_CHARS) fail(text, `it is longer than ${MAX_URL_CHARS} characters`);
  // deno-lint-ignore no-control-regex
  if (/[\x00-\x1f\x7f]/.test(text)) fail(text, "it has control characters");
  const match = /^([a-z0-9+.-]+):\/\/([^/?#]*)([^?#]*)(?:\?([^#]*))?(#.*)?$/i.exec(text);
  if (match === null) fail(text, "it is not a URL");
  const [, word = "", authority = "", rawPath = "", query = "", fragment] = match;
  const scheme = word.toLowerCase();
  if (!Object.hasOwn(FORMS, scheme)) fail(text, `the kind "${scheme}" is not known`);
  if (fragment !== undefined) fail(text, 'it has a "#"', FORMS[scheme as keyof typeof FORMS]);
  let path: string;
  try {
    path = decodeURIComponent(rawPath);
  } catch {
    return fail(text, 'a "%" in it is not followed by two hexadecimal digits');
  }
  if (path.split("/").some((part) => part === "." || part === "..")) fail(text, 'the path has "." or ".."');
  if (path.includes("\0")) fail(text, "it has control characters");
  return { scheme: scheme as keyof typeof FORMS, authority, path, query: new URLSearchParams(query) };
}

function prefixOf(path: string): string {
  const clean = path.split("/").filter((part) => part !== "").join("/");
  return clean === "" ? "" : `${clean}/`;
}

function onlyKeys(text: string, parts: Parts, ...allowed: string[]): void {
  for (const key of parts.query.keys()) {
    if (!allowed.includes(key)) fail(text, `the parameter "${key}" is not known`, FORMS[parts.scheme]);
  }
}

/** `name@place` of S3 and Azure. */
function nameAt(text: string, parts: Parts): readonly [string, string] {
  const form = FORMS[parts.scheme];
  const at = parts.authority.lastIndexOf("@");
  const name = at < 0 ? parts.authority : parts.authority.slice(0, at);
  const place = at < 0 ? "" : parts.authority.slice(at + 1);
  if (name.includes(":") || name.includes("@")) {
    fail(text, "credentials do not belong into it, they come from the environment", form);
  }
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$/.test(name)) fail(text, `"${name}" is no name of a bucket`, form);
  if (!/^[A-Za-z0-9.-]*$/.test(place)) fail(text, `"${place}" is no region`, form);
  return [name, place];
}

function parseShare(text: string, kind: "nfs" | "cifs", parts: Parts): ShareAddress {
  const form = FORMS[kind];
  const parameter = `${kind}Options`;
  onlyKeys(text, parts, parameter);
  if (parts.authority.includes("@")) {
    fail(text, "a user does not belong into it (set CIFS_USERNAME and CIFS_PASSWORD for cifs)", form);
  }
  const host = /^([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:?)$/.exec(parts.authority);
  if (host === null || host[1] === undefined) fail(text, `"${parts.authority}" is no name of a server`, form);
  if (kind === "nfs" && host[2] !== ":") fail(text, "a colon has to stand between host and path", form);
  if (kind === "cifs" && host[2] === ":") fail(text, "there is a colon behind the host", form);
  const path = `/${prefixOf(parts.path)}`.replace(/(.)\/$/, "$1");
  if (kind === "cifs" && path === "/") fail(text, "the share is missing", form);
  const given = parts.query.get(parameter);
  const options = given === null ? undefined : given.split(",").filter((option) => option !== "");
  for (const option of options ?? []) {
    if (!/^[\w.=:/-]+$/.test(option)) fail(text, "a mount option has a character that options do not have");
    if (SECRET_OPTIONS.test(option)) {
      fail(text, "credentials do not belong into mount options, they come from the environment", form);
    }
  }
  // The options are shown in messages, so they are checked first.
  return { kind, url: text, host: host[1], path, options };
}

/**
 * Reads a target URL.
 *
 * @throws {TargetUrlError} naming what is wrong and the form that is right
 */
export function parseTargetUrl(text: string): TargetAddress {
  const parts = split(text);
  switch (parts.scheme) {
    case "s3": {
      onlyKeys(text, parts);
      const [bucket, region] = nameAt(text, parts);
      return { kind: "s3", url: text, bucket, region, prefix: prefixOf(parts.path) };
    }
    case "azblob": {
      onlyKeys(text, parts);
      const [container, suffix] = nameAt(text, parts);
      return { kind: "azblob", url: text, container, suffix, prefix: prefixOf(parts.path) };
    }
    case "nfs":
    case "cifs":
      return parseShare(text, parts.scheme, parts);
    case "vfs":
    case "file": {
      onlyKeys(text, parts);
      if (parts.authority !== "") {
        fail(
          text,
          `"${parts.authority}" stands where nothing should, three slashes are needed`,
          "vfs:///dir",
        );
      }
      const path = `/${prefixOf(parts.path)}`.replace(/(.)\/$/, "$1");
      if (path === "/") fail(text, "the directory is missing", FORMS[parts.scheme]);
      return { kind: "directory", url: text, path };
    }
  }
}

/** One backup, or one volume's backups, in a target. */
export interface BackupUrl {
  /** The target's own URL. */
  readonly target: string;
  /** Name of the backup volume; empty when the URL has none. */
  readonly volume: string;
  /** Name of the backup; empty when the URL has none. */
  readonly backup: string;
}

/** URL of a backup, or with an empty backup of a volume: the form that Longhorn shows and takes. */
export function encodeBackupUrl({ target, volume, backup }: BackupUrl): string {
  const query = new URLSearchParams();
  // Sorted by name.
  if (backup !== "") query.set("backup", backup);
  if (volume !== "") query.set("volume", volume);
  return `${target}${target.includes("?") ? "&" : "?"}${query}`;
}

/**
 * Takes the URL of a backup or of a backup volume apart. A plain target URL gives empty names.
 *
 * @throws {TargetUrlError}
 */
export function decodeBackupUrl(text: string): BackupUrl {
  const mark = text.indexOf("?");
  const pieces = mark < 0 ? [] : text.slice(mark + 1).split("&");
  const found = new Map<string, string>();
  const others = pieces.filter((piece) => {
    const [key, value] = [...new URLSearchParams(piece)][0] ?? ["", ""];
    if (key !== "backup" && key !== "volume") return true;
    if (found.has(key)) throw new TargetUrlError(`"${shown(text)}" has two names of a ${key}`);
    if (value === "") throw new TargetUrlError(`"${shown(text)}" has an empty name of a ${key}`);
    found.set(key, value);
    return false;
  });
  const base = mark < 0 ? text : text.slice(0, mark);
  const target = others.length === 0 ? base : `${base}?${others.join("&")}`;
  parseTargetUrl(target);
  return { target, volume: found.get("volume") ?? "", backup: found.get("backup") ?? "" };
}
