/**
 * Ways to an S3 service: buckets with host names of their own, proxies with TLS through them, and services that want
 * another checksum.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import http from "node:http";
import net from "node:net";
import { Authority } from "../../../tests/support/certificates.ts";
import { peerTest } from "../../../tests/support/conditional.ts";
import { s3Server } from "../../../tests/support/s3_server.ts";
import { tempDir } from "../../../tests/support/temp.ts";
import { checkContract } from "./contract_test_kit.ts";
import { Credentials } from "./credentials.ts";
import { openS3 } from "./s3.ts";
import type { Target } from "./target.ts";
import { parseTargetUrl, type S3Address } from "./url.ts";

function open(url: string, credentials: Record<string, string>): Target {
  const retry = { retries: 5, firstPauseMs: 1, maxPauseMs: 5 };
  return openS3(parseTargetUrl(url) as S3Address, Credentials.from(credentials), { retry });
}

interface Server extends AsyncDisposable {
  readonly url: string;
}

async function listen(server: http.Server): Promise<Server> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  const address = server.address(), port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    url: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose](): Promise<void> {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

/** A proxy that sends everything to one port of this machine, whatever host is meant. */
function proxyTo(port: number, seen: string[]): http.Server {
  const server = http.createServer((request, response) => {
    const { host = "" } = request.headers;
    seen.push(`${request.method} ${host}`);
    const { pathname, search } = new URL(request.url ?? "");
    const options = {
      host: "127.0.0.1",
      port,
      method: request.method ?? "",
      path: pathname + search,
      agent: false,
    };
    const headers = { ...request.headers, connection: "close" };
    const out = http.request({ ...options, headers, setHost: false }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(response);
    });
    out.on("error", () => request.socket.destroy());
    request.pipe(out);
  });
  server.on("connect", (request: http.IncomingMessage, socket: net.Socket) => {
    seen.push(`CONNECT ${request.url}`);
    const out = net.connect(port, "127.0.0.1", () => {
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      out.pipe(socket);
      socket.pipe(out);
    });
    for (const one of [out, socket]) one.on("error", () => [out, socket].forEach((each) => each.destroy()));
    for (const one of [out, socket]) one.on("close", () => [out, socket].forEach((each) => each.destroy()));
  });
  return server;
}

function portOf(endpoint: string): number {
  return Number(new URL(endpoint).port);
}

peerTest("a bucket with a host name of its own keeps what a target promises, through a proxy", {
  needs: ["versitygw"],
}, async () => {
  await using server = await s3Server({ virtualDomain: "s3.test" });
  const seen: string[] = [];
  await using proxy = await listen(proxyTo(portOf(server.endpoint), seen));
  await using target = open(server.url("some/path/"), {
    ...server.credentials("http://s3.test"),
    VIRTUAL_HOSTED_STYLE: "true",
    HTTP_PROXY: proxy.url,
  });
  await checkContract(target);
  assert.ok(seen.length > 10);
  assert.deepEqual([...new Set(seen.map((one) => one.split(" ")[1]))], ["bucket.s3.test"]);
});

peerTest("TLS with one's own authority goes through a proxy", {
  needs: ["versitygw", "openssl"],
}, async () => {
  using dir = tempDir();
  const authority = await Authority.make(dir, "ca"),
    issued = await authority.issue("server", { bears: "localhost" });
  await using server = await s3Server({ certificate: `${issued}/tls.crt`, key: `${issued}/tls.key` });
  const seen: string[] = [];
  await using proxy = await listen(proxyTo(portOf(server.endpoint), seen));
  const credentials = { ...server.credentials(), HTTPS_PROXY: proxy.url };
  {
    await using target = open(server.url(), credentials);
    await assert.rejects(target.children(""), /the server's certificate is not trusted; .* AWS_CERT/);
  }
  await using target = open(server.url(), {
    ...credentials,
    AWS_CERT: Deno.readTextFileSync(`${issued}/ca.crt`),
  });
  await checkContract(target);
  assert.deepEqual([...new Set(seen)], [`CONNECT localhost:${portOf(server.endpoint)}`]);
});

Deno.test("bodies are signed by their SHA-256; a service that wants their MD5 too is given it from then on", async () => {
  const stored: Buffer[] = [];
  let refused = 0;
  const service = http.createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    assert.equal(request.headers["x-amz-content-sha256"], createHash("sha256").update(body).digest("hex"));
    assert.match(request.headers.authorization ?? "", /SignedHeaders=[^,]*x-amz-content-sha256/);
    const md5 = request.headers["content-md5"];
    if (md5 === undefined) {
      refused++;
      const message =
        "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock";
      response.writeHead(400).end(`<Error><Code>InvalidRequest</Code><Message>${message}</Message></Error>`);
      return;
    }
    assert.equal(md5, createHash("md5").update(body).digest("base64"));
    stored.push(body);
    response.writeHead(200).end();
  });
  await using server = await listen(service);
  await using target = open("s3://bucket@r/", {
    AWS_ACCESS_KEY_ID: "a",
    AWS_SECRET_ACCESS_KEY: "b",
    AWS_ENDPOINTS: server.url,
  });
  for (const value of [1, 2, 3]) await target.write("x", new Uint8Array(100).fill(value));
  assert.deepEqual([refused, stored.map((body) => body[0])], [1, [1, 2, 3]]);
});
