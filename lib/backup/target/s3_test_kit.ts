/**
 * S3 services as the tests of the target open them.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Authority } from "../../../tests/support/certificates.ts";
import { type S3Server, s3Server } from "../../../tests/support/s3_server.ts";
import { tempDir } from "../../../tests/support/temp.ts";
import { checkContract } from "./contract_test_kit.ts";
import { Credentials } from "./credentials.ts";
import { openS3, type S3Options } from "./s3.ts";
import type { Target } from "./target.ts";
import { parseTargetUrl, type S3Address } from "./url.ts";

/** Short pauses, and times after which a test would have failed anyway. */
export const QUICK: S3Options = {
  retry: { retries: 5, firstPauseMs: 1, maxPauseMs: 5 },
  times: { answerMs: 10_000, stallMs: 10_000, slowestBytesPerSecond: 1024 * 1024 },
};

/** Opens a target of a bucket. */
export function open(
  url: string,
  credentials: Record<string, string>,
  options: S3Options = QUICK,
): Target {
  return openS3(parseTargetUrl(url) as S3Address, Credentials.from(credentials), options);
}

/**
 * Starts a service whose certificate is of one's own authority.
 *
 * @param work given the service, and what checks that it is trusted with AWS_CERT only, by way of more credentials
 */
export async function withOwnAuthority(
  work: (server: S3Server, check: (more: Record<string, string>) => Promise<void>) => Promise<void>,
): Promise<void> {
  using dir = tempDir();
  const authority = await Authority.make(dir, "ca"),
    issued = await authority.issue("server", { bears: "localhost" });
  await using server = await s3Server({ certificate: `${issued}/tls.crt`, key: `${issued}/tls.key` });
  await work(server, async (more) => {
    const credentials = { ...server.credentials(), ...more };
    {
      await using target = open(server.url(), credentials);
      await assert.rejects(target.children(""), /the server's certificate is not trusted; .* AWS_CERT/);
    }
    await using target = open(server.url(), {
      ...credentials,
      AWS_CERT: Deno.readTextFileSync(`${issued}/ca.crt`),
    });
    await checkContract(target);
  });
}
