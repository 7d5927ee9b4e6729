import assert from "node:assert/strict";
import { createHash, createHmac } from "node:crypto";
import { openAzure } from "./azblob.ts";
import { parseAzurePage } from "./azblob_page.ts";
import { stringToSign } from "./azblob_sign.ts";
import { checkBadPaths, checkContract, checkOddNames } from "./contract_test_kit.ts";
import { CredentialError, Credentials } from "./credentials.ts";
import { TargetError } from "./target.ts";
import { type AzureAddress, parseTargetUrl } from "./url.ts";

const ACCOUNT = "devaccount";
const KEY = btoa("a key of the account");

/** Objects on a page of the fake service's listings: small, so that paging is used. */
const PAGE = 3;

/** A blob service that checks signatures with code of its own, written from the documentation. */
function fakeService(): { endpoint: string; statuses: number[] } & AsyncDisposable {
  const blobs = new Map<string, { data: Uint8Array<ArrayBuffer>; time: Date }>();
  const statuses: number[] = [];

  function signatureOf(request: Request, body: Uint8Array): string {
    const url = new URL(request.url);
    const h = (name: string): string => request.headers.get(name) ?? "";
    const length = body.length === 0 ? "" : String(body.length);
    let text = `${request.method}\n${h("content-encoding")}\n${h("content-language")}\n${length}\n${
      h("content-md5")
    }\n`;
    text += `${h("content-type")}\n\n\n\n\n\n\n`;
    for (const name of [...request.headers.keys()].filter((name) => name.startsWith("x-ms-")).sort()) {
      text += `${name}:${h(name)}\n`;
    }
    text += `/${ACCOUNT}${url.pathname}`;
    for (const name of [...url.searchParams.keys()].sort()) text += `\n${name}:${url.searchParams.get(name)}`;
    return createHmac("sha256", atob(KEY)).update(text).digest("base64");
  }

  function listing(url: URL): Response {
    const prefix = url.searchParams.get("prefix") ?? "", delimiter = url.searchParams.get("delimiter");
    const items = new Map<string, string>();
    const escape = (text: string): string =>
      text.replace(/[<>&"']/g, (c) => `&#x${c.charCodeAt(0).toString(16)};`);
    for (const [name, { data, time }] of blobs) {
      if (!name.startsWith(prefix)) continue;
      const cut = delimiter === null ? -1 : name.indexOf(delimiter, prefix.length);
      if (cut >= 0) {
        const folder = name.slice(0, cut + 1);
        items.set(folder, `<BlobPrefix><Name>${escape(folder)}</Name></BlobPrefix>`);
        continue;
      }
      const properties =
        `<Last-Modified>${time.toUTCString()}</Last-Modified><Content-Length>${data.length}</Content-Length>`;
      items.set(name, `<Blob><Name>${escape(name)}</Name><Properties>${properties}</Properties></Blob>`);
    }
    const names = [...items.keys()].sort();
    const from = Number(url.searchParams.get("marker") ?? 0);
    const page = names.slice(from, from + PAGE).map((name) => items.get(name)).join("");
    const next = from + PAGE < names.length ? String(from + PAGE) : "";
    const xml =
      `\ufeff<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="c"><Blobs>${page}</Blobs>` +
      `<NextMarker>${next}</NextMarker></EnumerationResults>`;
    return new Response(xml);
  }

  async function answer(request: Request): Promise<Response> {
    const url = new URL(request.url), body = await request.bytes();
    const forced = statuses.shift();
    if (forced !== undefined) return new Response("", { status: forced });
    if (request.headers.get("authorization") !== `SharedKey ${ACCOUNT}:${signatureOf(request, body)}`) {
      return new Response("", { status: 403, headers: { "x-ms-error-code": "AuthenticationFailed" } });
    }
    const [, account, container, ...rest] = url.pathname.split("/");
    if (account !== ACCOUNT || container !== "backups") {
      return new Response("", { status: 404, headers: { "x-ms-error-code": "ContainerNotFound" } });
    }
    if (url.searchParams.get("comp") === "list") return listing(url);
    const name = rest.map(decodeURIComponent).join("/");
    if (request.method === "PUT") {
      const sum = createHash("md5").update(body).digest("base64");
      if (request.headers.get("content-md5") !== sum) return new Response("", { status: 400 });
      blobs.set(name, { data: body, time: new Date() });
      return new Response("", { status: 201 });
    }
    const blob = blobs.get(name);
    if (blob === undefined) {
      return new Response("", { status: 404, headers: { "x-ms-error-code": "BlobNotFound" } });
    }
    if (request.method === "DELETE") {
      blobs.delete(name);
      return new Response("", { status: 202 });
    }
    const headers = {
      "last-modified": blob.time.toUTCString(),
      "content-length": String(blob.data.length),
      "content-md5": createHash("md5").update(blob.data).digest("base64"),
    };
    return new Response(request.method === "HEAD" ? null : blob.data, { headers });
  }

  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, answer);
  return {
    endpoint: `http://127.0.0.1:${server.addr.port}/${ACCOUNT}`,
    statuses,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

const RETRY = { retries: 5, firstPauseMs: 1, maxPauseMs: 5 };

function open(endpoint: string, url: string, key = KEY): ReturnType<typeof openAzure> {
  const credentials = { AZBLOB_ACCOUNT_NAME: ACCOUNT, AZBLOB_ACCOUNT_KEY: key, AZBLOB_ENDPOINT: endpoint };
  return openAzure(parseTargetUrl(url) as AzureAddress, Credentials.from(credentials), { retry: RETRY });
}

Deno.test("a container of a blob service keeps what a target promises, with signatures as documented", async () => {
  await using service = fakeService();
  for (const path of ["", "some/path/"]) {
    await using target = open(service.endpoint, `azblob://backups@core.windows.net/${path}`);
    await checkContract(target);
    await checkOddNames(target);
    await checkBadPaths(target);
  }
});

Deno.test("a busy blob service is asked again; wrong settings are named", async () => {
  await using service = fakeService();
  {
    await using target = open(service.endpoint, "azblob://backups@core.windows.net/");
    service.statuses.push(503, 500, 429);
    await target.write("a", new Uint8Array(10));
    service.statuses.push(503);
    assert.equal((await target.read("a")).length, 10);
  }
  {
    await using target = open(service.endpoint, "azblob://nothing@core.windows.net/");
    await assert.rejects(target.read("a"), /there is no such container/);
  }
  await using target = open(service.endpoint, "azblob://backups@core.windows.net/", btoa("other"));
  await assert.rejects(target.write("a", new Uint8Array(1)), (error: Error) => {
    assert.ok(error instanceof TargetError && !error.retryable);
    assert.match(error.message, /check AZBLOB_ACCOUNT_NAME and AZBLOB_ACCOUNT_KEY/);
    return true;
  });
  assert.throws(() => open(service.endpoint, "azblob://backups@x/", "not base64!"), CredentialError);
});

Deno.test("the text that is signed is that of the documentation", () => {
  // The example of "Authorize with Shared Key", section on Get Container Metadata with version 2015-02-21.
  const headers = new Headers({ "x-ms-date": "Fri, 26 Jun 2015 23:39:12 GMT", "x-ms-version": "2015-02-21" });
  const url = new URL(
    "https://myaccount.blob.core.windows.net/mycontainer?restype=container&comp=metadata&timeout=20",
  );
  assert.equal(
    stringToSign({ method: "GET", url, headers }, "myaccount"),
    "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n" +
      "/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20",
  );
});

Deno.test("hostile listings are refused", () => {
  const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
  const bomb = '<!DOCTYPE x [<!ENTITY a "aaaa">]><EnumerationResults><Blobs/></EnumerationResults>';
  assert.throws(() => parseAzurePage(bytes(bomb)), /document type/);
  assert.throws(() => parseAzurePage(bytes("<html>no</html>")), /not a listing/);
  assert.throws(() => parseAzurePage(bytes("no")), /not XML/);
  const blob = "<EnumerationResults><Blobs><Blob><Name>a</Name></Blob></Blobs></EnumerationResults>";
  assert.throws(() => parseAzurePage(bytes(blob)), /lacks its name, size or time/);
  assert.deepEqual(parseAzurePage(bytes("<EnumerationResults/>")), { blobs: [], prefixes: [], next: "" });
});
