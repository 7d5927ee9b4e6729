import assert from "node:assert/strict";
import { AwsV4Signer } from "aws4fetch";
import { S3Signer } from "./s3_sign.ts";

const KEYS = {
  accessKeyId: "AKIAIOSFODNN7EXAMPLE",
  secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
};
const NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

Deno.test("the documentation's example gets the signature that it names", async () => {
  const { headers } = await new S3Signer({
    ...KEYS,
    url: "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J",
    headers: { "x-amz-content-sha256": NOTHING },
    service: "s3",
    region: "us-east-1",
    datetime: "20130524T000000Z",
  }).sign();
  assert.match(
    headers.get("authorization") ?? "",
    /Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7$/,
  );
});

Deno.test("signatures are those of the library, on one day and on the next, with a token and without", async () => {
  const cache = new Map<string, ArrayBuffer>();
  for (const datetime of ["20260101T235959Z", "20260102T000000Z", "20260102T000001Z"]) {
    for (const token of [{}, { sessionToken: "to/ken+=" }]) {
      const url = "http://host:9000/bucket/a%20b/%C3%A4?list-type=2&prefix=x%2Fy";
      const request = { ...KEYS, ...token, method: "PUT", url, service: "s3", region: "mars-1", datetime };
      const ours = await new S3Signer({ ...request, cache }).sign();
      const theirs = await new AwsV4Signer(request).sign();
      assert.deepEqual([...ours.headers], [...theirs.headers]);
    }
  }
  assert.equal(cache.size, 2, "one key a day");
});
