/**
 * Mutual TLS for the services of a node, from a directory of three files (a mounted secret, usually):
 *
 * | file | content |
 * |---|---|
 * | `ca.crt` | who is trusted: both sides' certificates must chain to it |
 * | `tls.crt` | this side's certificate; it serves and it calls with it |
 * | `tls.key` | its private key |
 *
 * Both sides present a certificate that bears {@linkcode PEER_NAME}, whatever address they have: the name says
 * "one of us", not "the host at that address". Only TLS 1.3 is spoken. Files that cannot be used are an error;
 * nothing here ever falls back to plain text.
 *
 * The files are looked at again from time to time, so that renewed certificates need no restart. A set that does
 * not fit together (a renewal that is half written) is left alone until it does; the old one stays in use.
 *
 * @module
 */

import "./setup.ts";
import * as grpc from "@grpc/grpc-js";
import { Buffer } from "node:buffer";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { Code, RpcError } from "./errors.ts";

/** The name that every certificate bears, in a DNS name or as its common name; Longhorn's. */
export const PEER_NAME = "longhorn-backend.longhorn-system";

/** How often the files are looked at, milliseconds. A renewed secret is there days before the old one ends. */
export const TLS_RELOAD_MS = 30_000;

/** A certificate with less than this left is spoken of in the log, milliseconds. */
const SOON_MS = 7 * 24 * 60 * 60 * 1000;

/** Largest file that is read, bytes: a chain of certificates has some kilobytes. */
const MAX_FILE_BYTES = 1024 * 1024;

/** Files for TLS that cannot be used. */
export class TlsError extends Error {
  /** Name of the class. */
  override readonly name = "TlsError";
}

/** Who is told what becomes of the files; a logger fits. */
export interface TlsLog {
  /** Something changed as it should. */
  info(message: string, fields: Record<string, string>): void;
  /** Something is wrong that does no harm yet. */
  warn(message: string, fields: Record<string, string>): void;
  /** Peers refuse this side. */
  error(message: string, fields: Record<string, string>): void;
}

const SILENT: TlsLog = { info: () => {}, warn: () => {}, error: () => {} };

/** The three files, read. */
export interface TlsMaterial {
  /** Certificates of those who are trusted, PEM. */
  readonly ca: Buffer;
  /** This side's certificate and those between it and the trusted one, PEM. */
  readonly certificate: Buffer;
  /** Its private key, PEM. */
  readonly key: Buffer;
}

async function readFile(path: string): Promise<Buffer> {
  try {
    const { size } = await Deno.stat(path);
    if (size > MAX_FILE_BYTES) throw new TlsError(`${path}: ${size} bytes are no certificate or key`);
    return Buffer.from(await Deno.readFile(path));
  } catch (cause) {
    if (cause instanceof TlsError) throw cause;
    const why = cause instanceof Deno.errors.NotFound ? "is not there" : `cannot be read: ${cause}`;
    throw new TlsError(`${path} ${why}; a TLS directory holds ca.crt, tls.crt and tls.key`, { cause });
  }
}

function parse<T>(path: string, make: () => T): T {
  try {
    return make();
  } catch (cause) {
    throw new TlsError(`${path}: neither certificate nor key can be read from it (PEM is expected)`, {
      cause,
    });
  }
}

/** Reads and checks the files. @throws {TlsError} */
async function readMaterial(directory: string): Promise<TlsMaterial> {
  const paths = [`${directory}/ca.crt`, `${directory}/tls.crt`, `${directory}/tls.key`] as const;
  // One after the other: the first that is wrong is the one that is named.
  const ca = await readFile(paths[0]);
  const certificate = await readFile(paths[1]);
  const key = await readFile(paths[2]);
  parse(paths[0], () => new X509Certificate(ca));
  const own = parse(paths[1], () => new X509Certificate(certificate));
  const matches = parse(paths[2], () => own.checkPrivateKey(createPrivateKey(key)));
  if (!matches) throw new TlsError(`${paths[2]} is not the key of ${paths[1]}`);
  return { ca, certificate, key };
}

/** Whether a certificate bears {@linkcode PEER_NAME}. */
export function bearsPeerName(commonName: string | undefined, subjectAltName: string | undefined): boolean {
  if (commonName === PEER_NAME) return true;
  return (subjectAltName ?? "").split(/,\s*/).includes(`DNS:${PEER_NAME}`);
}

function same(a: TlsMaterial, b: TlsMaterial): boolean {
  return a.ca.equals(b.ca) && a.certificate.equals(b.certificate) && a.key.equals(b.key);
}

/** What the library keeps inside its credentials, as far as it is used here. */
interface ServerCredentialInternals {
  serverConstructorOptions: Record<string, unknown> | null;
  updateSecureContextOptions(options: { ca: Buffer; cert: Buffer[]; key: Buffer[] }): void;
}

/** What is known of a caller's certificate, as the library tells it. */
export interface PeerCertificate {
  /** Absent without a certificate. */
  readonly sslPeerCertificate?: {
    readonly subject?: { readonly CN?: string | string[] };
    readonly subjectaltname?: string;
  };
}

/** The identity of this process in calls, see the module text. */
export class TlsIdentity implements Disposable {
  readonly #directory: string;
  readonly #listeners = new Set<(material: TlsMaterial) => void>();
  readonly #log: TlsLog;
  #material: TlsMaterial;
  readonly #timer: ReturnType<typeof setInterval>;
  #problem = "";

  private constructor(directory: string, material: TlsMaterial, log: TlsLog) {
    this.#directory = directory;
    this.#log = log;
    this.#material = material;
    this.#warn();
    this.#timer = setInterval(() => void this.reload(), TLS_RELOAD_MS);
    // It must not keep a process alive that has nothing else to do.
    Deno.unrefTimer(this.#timer as unknown as number);
  }

  /**
   * Reads the files of a directory.
   *
   * @param log told of renewals, and of certificates that peers refuse
   * @throws {TlsError} naming the file and what is wrong with it
   */
  static async load(directory: string, log: TlsLog = SILENT): Promise<TlsIdentity> {
    return new TlsIdentity(directory, await readMaterial(directory), log);
  }

  /** The files as they were read last. */
  get material(): TlsMaterial {
    return this.#material;
  }

  /** Looks at the files now. What cannot be used is said in the log once, and the old set stays. */
  async reload(): Promise<void> {
    const log = this.#log, directory = this.#directory;
    try {
      const material = await readMaterial(this.#directory);
      this.#problem = "";
      if (same(material, this.#material)) return;
      this.#material = material;
      log.info("certificates were renewed", { directory });
      this.#warn();
      for (const listener of this.#listeners) listener(material);
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      if (problem !== this.#problem) log.warn("certificates are not renewed", { directory, problem });
      this.#problem = problem;
    }
  }

  /** Tells of renewals. @returns ends that */
  onRenewal(listener: (material: TlsMaterial) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Credentials of a server that asks for certificates, speaks nothing below TLS 1.3, and follows renewals until
   * `dispose` is called. The library has settings for neither, so they are made where it keeps them.
   * @internal
   */
  forServer(): { credentials: grpc.ServerCredentials; dispose: () => void } {
    const { ca, certificate, key } = this.#material;
    const pairs = [{ private_key: key, cert_chain: certificate }];
    const credentials = grpc.ServerCredentials.createSsl(ca, pairs, true);
    const internals = credentials as unknown as ServerCredentialInternals;
    if (!internals.serverConstructorOptions || typeof internals.updateSecureContextOptions !== "function") {
      throw new TlsError("the gRPC library looks different inside; adapt lib/rpc/tls.ts");
    }
    internals.serverConstructorOptions["minVersion"] = "TLSv1.3";
    internals.serverConstructorOptions["rejectUnauthorized"] = true;
    const dispose = this.onRenewal((renewed) =>
      internals.updateSecureContextOptions({
        ca: renewed.ca,
        cert: [renewed.certificate],
        key: [renewed.key],
      })
    );
    return { credentials, dispose };
  }

  /**
   * Credentials of a client, and options of its channel: the server's certificate bears {@linkcode PEER_NAME}
   * instead of its address.
   * @internal
   */
  forClient(): { credentials: grpc.ChannelCredentials; options: grpc.ChannelOptions } {
    const { ca, certificate, key } = this.#material;
    return {
      credentials: grpc.credentials.createSsl(ca, key, certificate),
      options: { "grpc.ssl_target_name_override": PEER_NAME, "grpc.default_authority": PEER_NAME },
    };
  }

  /**
   * Refuses a caller whose certificate is a stranger's.
   *
   * @throws RpcError with PERMISSION_DENIED
   */
  checkPeer({ sslPeerCertificate: certificate }: PeerCertificate): void {
    const names = [certificate?.subject?.CN ?? []].flat();
    if (names.includes(PEER_NAME) || bearsPeerName(undefined, certificate?.subjectaltname)) return;
    const text = `the certificate of the caller does not bear the name ${PEER_NAME}`;
    throw new RpcError(Code.PERMISSION_DENIED, text);
  }

  /** Stops looking at the files. */
  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#listeners.clear();
  }

  /** Says in the log what peers will object to. */
  #warn(): void {
    const { validFrom, validTo, subject, subjectAltName } = new X509Certificate(this.#material.certificate);
    const log = this.#log, directory = this.#directory;
    const end = Date.parse(validTo);
    if (end < Date.now()) {
      log.error("the certificate has expired: peers refuse it", { directory, end: validTo });
    } else if (end < Date.now() + SOON_MS) {
      log.warn("the certificate expires soon", { directory, end: validTo });
    }
    if (Date.parse(validFrom) > Date.now()) {
      log.error("the certificate is not valid yet: peers refuse it", { directory, begin: validFrom });
    }
    const commonName = /^CN=(.*)$/m.exec(subject)?.[1];
    if (!bearsPeerName(commonName, subjectAltName)) {
      log.error("the certificate does not bear the name of a peer: peers refuse it", {
        directory,
        name: PEER_NAME,
      });
    }
  }
}
