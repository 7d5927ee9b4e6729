import assert from "node:assert/strict";
import { AwsV4Signer } from "aws4fetch";
import fc from "fast-check";
import { encodeKey, encodeQuery, S3Signer } from "./s3_sign.ts";

const KEYS = {
  accessKeyId: "AKIAIOSFODNN7EXAMPLE",
  secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
};
const NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

function signatureOf(headers: Headers): string {
  return /Signature=([0-9a-f]{64})$/.exec(headers.get("authorization") ?? "")?.[1] ?? "";
}

Deno.test("the examples of the documentation get the signatures that it names", () => {
  const signer = new S3Signer(KEYS, "us-east-1"), timeMs = Date.UTC(2013, 4, 24);
  const cases: [string, string, Record<string, string>, string][] = [
    [
      "GET",
      "test.txt",
      { range: "bytes=0-9", "x-amz-content-sha256": NOTHING },
      "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ],
    [
      "PUT",
      encodeKey("test$file.text"),
      {
        date: "Fri, 24 May 2013 00:00:00 GMT",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
        "x-amz-content-sha256": "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
      },
      "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ],
    [
      "GET",
      `?${encodeQuery({ lifecycle: "" })}`,
      { "x-amz-content-sha256": NOTHING },
      "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    ],
    [
      "GET",
      `?${encodeQuery({ prefix: "J", "max-keys": "2" })}`,
      { "x-amz-content-sha256": NOTHING },
      "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ],
  ];
  for (const [method, path, headers, expected] of cases) {
    const url = new URL(`https://examplebucket.s3.amazonaws.com/${path}`);
    assert.equal(signatureOf(signer.sign({ method, url, headers, timeMs })), expected, `${method} ${path}`);
  }
});

Deno.test("any key, query and token is signed as another signer does it", async () => {
  const text = fc.string({ unit: "binary", minLength: 1, maxLength: 12 }).map((one) => one.toWellFormed());
  await fc.assert(
    fc.asyncProperty(
      fc.array(text, { minLength: 1, maxLength: 3 }),
      fc.dictionary(fc.string({ minLength: 1, maxLength: 8 }), text, { maxKeys: 3 }),
      fc.option(fc.string({ unit: fc.constantFrom(..."abc+/="), minLength: 1 }), { nil: undefined }),
      fc.integer({ min: 0, max: 4e12 }),
      async (key, query, sessionToken, timeMs) => {
        const path = encodeKey(key.join("/")), search = encodeQuery(query);
        // A part of dots would be resolved away; no path of a target has one.
        if (/(^|\/)\.{1,2}(\/|$)/.test(path)) return;
        const url = new URL(`http://host:9000/bucket/${path}${search === "" ? "" : `?${search}`}`);
        const keys = { ...KEYS, ...(sessionToken !== undefined && { sessionToken }) };
        const headers = { "x-amz-content-sha256": "UNSIGNED-PAYLOAD" };
        const ours = new S3Signer(keys, "mars-1").sign({ method: "GET", url, headers, timeMs });
        const datetime = new Date(timeMs).toISOString().replace(/[:-]|\.\d{3}/g, "");
        const options = { method: "GET", url: url.href, headers, ...keys, datetime };
        const theirs = await new AwsV4Signer({ ...options, service: "s3", region: "mars-1" }).sign();
        assert.equal(ours.get("authorization"), theirs.headers.get("authorization"));
      },
    ),
    { numRuns: 200 },
  );
});
