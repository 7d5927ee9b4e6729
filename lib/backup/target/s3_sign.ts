/**
 * Signatures of requests to S3 as `aws4fetch` makes them, with the hashes on this thread. The library has each of them
 * made by a thread of the runtime's: for texts of a few hundred bytes the way there and back costs twenty times the
 * hash, which with three of them for each block was a tenth of a restore.
 *
 * @module
 */
import { createHash, createHmac } from "node:crypto";
import { AwsV4Signer } from "aws4fetch";

function hmac(key: string | ArrayBuffer, text: string): ArrayBuffer {
  const sum = createHmac("sha256", typeof key === "string" ? key : new Uint8Array(key)).update(text).digest();
  return new Uint8Array(sum).buffer;
}

/**
 * Signs one request; see the module text. `cache` keeps the keys of the days.
 * @internal
 */
export class S3Signer extends AwsV4Signer {
  /** The signature in hex digits. */
  override async signature(): Promise<string> {
    const day = this.datetime.slice(0, 8);
    let key = this.cache.get(day);
    if (key === undefined) {
      const ofDay = hmac(`AWS4${this.secretAccessKey}`, day);
      key = hmac(hmac(hmac(ofDay, this.region), this.service), "aws4_request");
      this.cache.set(day, key);
    }
    return new Uint8Array(hmac(key, await this.stringToSign())).toHex();
  }

  /** The text that is signed. */
  override async stringToSign(): Promise<string> {
    const sum = createHash("sha256").update(await this.canonicalString()).digest("hex");
    return ["AWS4-HMAC-SHA256", this.datetime, this.credentialString, sum].join("\n");
  }
}
