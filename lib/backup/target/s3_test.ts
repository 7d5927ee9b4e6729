import assert from "node:assert/strict";
import http from "node:http";
import { peerTest } from "../../../tests/support/conditional.ts";
import { type Exchange, type Fault, faultProxy } from "../../../tests/support/fault_proxy.ts";
import { freePorts } from "../../../tests/support/ports.ts";
import { s3Server } from "../../../tests/support/s3_server.ts";
import { Authority } from "../../../tests/support/certificates.ts";
import { tempDir } from "../../../tests/support/temp.ts";
import { checkBadPaths, checkContract, checkOddNames, ODD_NAMES } from "./contract_test_kit.ts";
import { Credentials } from "./credentials.ts";
import { openS3, type S3Options } from "./s3.ts";
import { NotFoundError, type Target, TargetError } from "./target.ts";
import { parseTargetUrl, type S3Address } from "./url.ts";

const QUICK: S3Options = {
  retry: { retries: 5, firstPauseMs: 1, maxPauseMs: 5 },
  times: { answerMs: 10_000, stallMs: 10_000, slowestBytesPerSecond: 1024 * 1024 },
};

function open(url: string, credentials: Record<string, string>, options: S3Options = QUICK): Target {
  return openS3(parseTargetUrl(url) as S3Address, Credentials.from(credentials), options);
}

const needs = ["versitygw"];

peerTest("a bucket of a real S3 service keeps what a target promises", { needs }, async () => {
  await using server = await s3Server();
  for (const path of ["", "some/path/"]) {
    await using target = open(server.url(path), server.credentials());
    await checkContract(target);
    await checkBadPaths(target);
    await checkOddNames(target, ODD_NAMES);
  }
});

peerTest("listings of more than a page, and objects in parts, are whole", { needs }, async () => {
  await using server = await s3Server();
  const options = { ...QUICK, multipartAboveBytes: 6 * 1024 ** 2, partBytes: 5 * 1024 ** 2 };
  await using target = open(server.url("p"), server.credentials(), options);
  const large = new Uint8Array(11 * 1024 ** 2 + 1);
  for (let at = 0; at < large.length; at += 65536) crypto.getRandomValues(large.subarray(at, at + 65536));
  await target.write("large", large);
  assert.deepEqual(await target.read("large"), large);
  // As files, which is quicker: 1,100 objects are two pages.
  Deno.mkdirSync(`${server.files}/p/many`);
  for (let i = 0; i < 1100; i++) Deno.writeTextFileSync(`${server.files}/p/many/${i}`, "x");
  const seen = new Set<string>();
  for await (const { path } of target.list("many/")) seen.add(path);
  assert.equal(seen.size, 1100);
  assert.equal((await target.children("many")).length, 1100);
});

peerTest("wrong settings are told apart, and no error shows a secret", { needs }, async () => {
  await using server = await s3Server();
  const good = server.credentials();
  const [nobody] = freePorts(1);
  const cases: [string, Record<string, string>, RegExp][] = [
    [
      server.url(),
      { ...good, AWS_ACCESS_KEY_ID: "hidden-key" },
      /does not know the key in AWS_ACCESS_KEY_ID/,
    ],
    [server.url(), { ...good, AWS_SECRET_ACCESS_KEY: "hidden-secret" }, /AWS_SECRET_ACCESS_KEY is wrong/],
    ["s3://nobucket@us-east-1/", good, /there is no such bucket; look at the bucket/],
    ["s3://bucket@mars-1/", good, /the region "mars-1" in the target's URL is not the bucket's/],
    [
      server.url(),
      { ...good, AWS_ENDPOINTS: `http://127.0.0.1:${nobody}` },
      /the server refuses connections/,
    ],
    [server.url(), { ...good, AWS_ENDPOINTS: "http://no-such-host.invalid" }, /server's name is not known/],
  ];
  for (const [url, credentials, expected] of cases) {
    await using target = open(url, credentials);
    await assert.rejects(target.children(""), (error: Error) => {
      assert.ok(error instanceof TargetError);
      assert.match(error.message, expected);
      for (let e: unknown = error; e instanceof Error; e = e.cause) {
        assert.doesNotMatch(`${e.message}${e.stack}`, /hidden|testpassword/);
      }
      return true;
    });
  }
});

peerTest("what a network does in passing is not noticed", { needs }, async () => {
  await using server = await s3Server();
  await using proxy = await faultProxy(server.endpoint);
  await using target = open(server.url("x"), server.credentials(proxy.endpoint));
  const slowDown = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
  const faults: Fault[] = [
    { kind: "status", status: 500 },
    { kind: "status", status: 503, body: slowDown },
    { kind: "status", status: 429 },
    { kind: "cut" },
    { kind: "lose answer" },
    { kind: "truncate" },
    { kind: "damage answer" },
    { kind: "damage request" },
    { kind: "delay", milliseconds: 50 },
  ];
  const data = crypto.getRandomValues(new Uint8Array(50_000));
  for (const fault of faults) {
    const begin = proxy.seen.length;
    // The first of the exchanges of each call meets the fault.
    let hit = false;
    const strike = (): void => {
      hit = false;
      proxy.decide = () => hit ? undefined : (hit = true, fault);
    };
    // Only a body that can be damaged is.
    const reads = fault.kind !== "damage request";
    strike();
    await target.write("a", data);
    if (reads) strike();
    assert.deepEqual(await target.read("a"), data, JSON.stringify(fault));
    if (fault.kind !== "damage answer" && reads) {
      strike();
      assert.deepEqual(await target.children(""), ["a"]);
      strike();
      assert.equal((await target.head("a"))?.bytes, data.length);
      strike();
      await target.remove("a");
    }
    assert.ok(proxy.seen.length > begin + 2);
  }
});

peerTest("faults that stay are given up after the sixth try, others at once", { needs }, async () => {
  await using server = await s3Server();
  await using proxy = await faultProxy(server.endpoint);
  await using target = open(server.url(), server.credentials(proxy.endpoint));
  const tries = async (fault: Fault, expected: RegExp): Promise<number> => {
    const begin = proxy.seen.length;
    proxy.decide = (): Fault => fault;
    await assert.rejects(target.read("a"), expected);
    return proxy.seen.length - begin;
  };
  assert.equal(await tries({ kind: "status", status: 500, body: "<html>oh" }, /answered with status 500/), 6);
  // The runtime tries once more by itself where a connection was used before.
  assert.ok(await tries({ kind: "cut" }, /the connection failed/) >= 6);
  assert.equal(await tries({ kind: "status", status: 403 }, /access denied: check AWS_ACCESS_KEY_ID/), 1);
  assert.equal(await tries({ kind: "status", status: 404 }, /not found/), 1);
  assert.equal(
    await tries({ kind: "status", status: 200, headers: { "content-length": "2000000000" } }, /longer than/),
    1,
  );
});

peerTest("a server that stops in the middle is left after the time limit", { needs }, async () => {
  await using server = await s3Server();
  await using proxy = await faultProxy(server.endpoint);
  const times = { answerMs: 5_000, stallMs: 50, slowestBytesPerSecond: 1024 * 1024 };
  await using target = open(server.url(), server.credentials(proxy.endpoint), { ...QUICK, times });
  await target.write("a", new Uint8Array(100_000));
  let stalls = 0;
  proxy.decide = (): Fault | undefined => stalls++ < 2 ? { kind: "stall" } : undefined;
  assert.equal((await target.read("a")).length, 100_000);
  proxy.decide = (): Fault => ({ kind: "stall" });
  const stop = new AbortController();
  const reading = target.read("a", stop.signal);
  setTimeout(() => stop.abort(new Error("cancelled")), 20);
  await assert.rejects(reading, /cancelled/);
});

peerTest(
  "a multipart upload whose answers get lost is finished once, or leaves no parts",
  { needs },
  async () => {
    await using server = await s3Server();
    await using proxy = await faultProxy(server.endpoint);
    const options = { ...QUICK, multipartAboveBytes: 1000, partBytes: 5 * 1024 ** 2 };
    await using target = open(server.url(), server.credentials(proxy.endpoint), options);
    const data = new Uint8Array(6 * 1024 ** 2).fill(7);
    let lost = false;
    proxy.decide = ({ method, path }: Exchange): Fault | undefined => {
      if (lost || method !== "POST" || path.includes("uploads")) return undefined;
      lost = true;
      return { kind: "lose answer" };
    };
    await target.write("large", data);
    assert.deepEqual(await target.read("large"), data);
    proxy.decide = ({ path }: Exchange): Fault | undefined =>
      path.includes("partNumber=2")
        ? { kind: "status", status: 400, body: "<Error><Code>Odd</Code></Error>" }
        : undefined;
    await assert.rejects(target.write("other", data), /status 400, Odd/);
    assert.ok(proxy.seen.some(({ method, path }) => method === "DELETE" && path.includes("uploadId")));
    await assert.rejects(target.read("other"), NotFoundError);
  },
);

peerTest("a service whose certificate is one's own authority's is trusted with AWS_CERT only", {
  needs: ["versitygw", "openssl"],
}, async () => {
  using dir = tempDir();
  const authority = await Authority.make(dir, "ca"),
    issued = await authority.issue("server", { bears: "localhost" });
  await using server = await s3Server({ certificate: `${issued}/tls.crt`, key: `${issued}/tls.key` });
  const credentials = server.credentials();
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

Deno.test("requests go through the proxy with its password, unless NO_PROXY has the host", async () => {
  const seen: string[] = [];
  const page = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
  const proxy = http.createServer((request, response) => {
    seen.push(`${request.url} ${request.headers["proxy-authorization"]}`);
    response.end(page);
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", () => resolve()));
  const address = proxy.address(), port = typeof address === "object" && address !== null ? address.port : 0;
  try {
    const credentials = {
      AWS_ACCESS_KEY_ID: "a",
      AWS_SECRET_ACCESS_KEY: "b",
      AWS_ENDPOINTS: "http://s3.invalid:9000",
      HTTP_PROXY: `http://user:word@127.0.0.1:${port}`,
    };
    {
      await using target = open("s3://bucket@r/", credentials);
      assert.deepEqual(await target.children(""), []);
    }
    assert.equal(seen.length, 1);
    assert.match(seen[0] ?? "", /^http:\/\/s3\.invalid:9000\/bucket\?/);
    assert.ok(seen[0]?.endsWith(`Basic ${btoa("user:word")}`));
    await using target = open("s3://bucket@r/", { ...credentials, NO_PROXY: ".invalid" });
    await assert.rejects(target.children(""), /name is not known/);
    assert.equal(seen.length, 1);
  } finally {
    const closed = new Promise<void>((resolve) => proxy.close(() => resolve()));
    proxy.closeAllConnections();
    await closed;
  }
});
