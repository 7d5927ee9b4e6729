/**
 * Certificates for tests, made by openssl: directories as `TlsIdentity` reads them.
 *
 * @module
 */

import { run } from "./process.ts";
import type { TempDir } from "./temp.ts";
import { PEER_NAME } from "../../lib/rpc/tls.ts";

/** A certificate authority in a directory. */
export class Authority {
  readonly #directory: TempDir;
  readonly #name: string;

  private constructor(directory: TempDir, name: string) {
    this.#directory = directory;
    this.#name = name;
  }

  /** Makes one; its files are `NAME.key` and `NAME.crt`. */
  static async make(directory: TempDir, name: string): Promise<Authority> {
    const path = directory.join(name);
    await run("openssl", ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", `${path}.key`]);
    const subject = ["-days", "30", "-subj", `/CN=${name}`];
    await run("openssl", ["req", "-x509", "-new", "-key", `${path}.key`, "-out", `${path}.crt`, ...subject]);
    return new Authority(directory, name);
  }

  /**
   * Makes a TLS directory: a key, a certificate of this authority, and whom to trust.
   *
   * @param name of the directory; it may be there already
   * @param options `bears`: the DNS name in the certificate; `commonName`: its subject; `days`: how long it is
   *   good (below 0: it has expired); `trust`: another authority
   * @returns the path of the directory
   */
  async issue(
    name: string,
    options: { bears?: string; commonName?: string; days?: number; trust?: Authority } = {},
  ): Promise<string> {
    const path = this.#directory.join(name), authority = this.#directory.join(this.#name);
    const { bears = PEER_NAME, commonName = "test", days = 30, trust = this } = options;
    await Deno.mkdir(path, { recursive: true });
    await Deno.writeTextFile(`${path}/ext`, `subjectAltName=DNS:${bears}\n`);
    await run("openssl", ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", `${path}/tls.key`]);
    const request = ["-new", "-key", `${path}/tls.key`, "-subj", `/CN=${commonName}`, "-out", `${path}/csr`];
    await run("openssl", ["req", ...request]);
    const signer = ["-CA", `${authority}.crt`, "-CAkey", `${authority}.key`, "-CAcreateserial"];
    const out = ["-days", String(days), "-extfile", `${path}/ext`, "-out", `${path}/tls.crt`];
    await run("openssl", ["x509", "-req", "-in", `${path}/csr`, ...signer, ...out]);
    await Deno.copyFile(trust.#directory.join(`${trust.#name}.crt`), `${path}/ca.crt`);
    return path;
  }
}
