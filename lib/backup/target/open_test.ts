import assert from "node:assert/strict";
import { tempDir } from "../../../tests/support/temp.ts";
import { Credentials } from "./credentials.ts";
import { openTarget } from "./open.ts";
import { s3Endpoint } from "./s3_endpoint.ts";
import { openShare, type ShareMount, shareMount } from "./share.ts";
import { parseTargetUrl, type S3Address, type ShareAddress } from "./url.ts";

const NONE = Credentials.from({});

function share(url: string, credentials: Record<string, string> = {}): ShareMount {
  return shareMount(parseTargetUrl(url) as ShareAddress, Credentials.from(credentials), "/mounts");
}

Deno.test("targets are opened by the kind of their URL, and what is missing is named", async () => {
  using dir = tempDir();
  await using target = await openTarget(`file://${dir.path}`, NONE);
  await target.write("a/b", new Uint8Array(1));
  assert.equal(Deno.statSync(dir.join("a/b")).size, 1);
  await assert.rejects(openTarget("s3://bucket@r/", NONE), /s3:\/\/bucket@r\/: AWS_ACCESS_KEY_ID is not set/);
  await assert.rejects(openTarget("azblob://backups@x/", NONE), /AZBLOB_ACCOUNT_NAME is not set/);
  await assert.rejects(openTarget("nfs://h:/x", NONE), /shares cannot be mounted by this program/);
  const keys = { AWS_ACCESS_KEY_ID: "a", AWS_SECRET_ACCESS_KEY: "b" };
  const open = (more: Record<string, string>) =>
    openTarget("s3://bucket@r/", Credentials.from({ ...keys, ...more }));
  await assert.rejects(open({ AWS_ENDPOINTS: "ftp://x" }), /AWS_ENDPOINTS is not the URL of an S3 service/);
  await assert.rejects(
    open({ HTTPS_PROXY: "gopher://u:hidden@x" }),
    (error: Error) =>
      /the proxy is neither http, https nor socks5/.test(error.message) && !/hidden/.test(error.message),
  );
});

Deno.test("buckets are reached where AWS and other services have them", () => {
  const at = (url: string, credentials: Record<string, string> = {}): unknown =>
    Object.values(s3Endpoint(parseTargetUrl(url) as S3Address, Credentials.from(credentials)));
  assert.deepEqual(at("s3://data@eu-west-1/x"), ["https://data.s3.eu-west-1.amazonaws.com", "eu-west-1"]);
  assert.deepEqual(at("s3://my.data@cn-north-1/"), [
    "https://s3.cn-north-1.amazonaws.com.cn/my.data",
    "cn-north-1",
  ]);
  const own = { AWS_ENDPOINTS: "http://minio:9000/" };
  assert.deepEqual(at("s3://data@r/", own), ["http://minio:9000/data", "r"]);
  assert.deepEqual(at("s3://data", { AWS_ENDPOINTS: "minio:9000" }), [
    "https://minio:9000/data",
    "us-east-1",
  ]);
  assert.deepEqual(at("s3://data@r/", { ...own, VIRTUAL_HOSTED_STYLE: "true" }), [
    "http://data.minio:9000",
    "r",
  ]);
});

Deno.test("shares are mounted at Longhorn's places, with options in the order they are to be tried", () => {
  assert.deepEqual(share("nfs://10.0.0.1:/opt/backups"), {
    type: "nfs",
    source: "10.0.0.1:/opt/backups",
    directory: "/mounts/10_0_0_1/opt/backups",
    tries: ["4.2", "4.1", "4.0"].map((v) => [`vers=${v}`, "actimeo=1", "soft", "timeo=300", "retry=2"]),
  });
  assert.deepEqual(share("nfs://h:/x?nfsOptions=nfsvers=4.1,hard").tries, [["nfsvers=4.1", "hard"]]);
  assert.deepEqual(share("cifs://srv/share/dir", { CIFS_USERNAME: "me", CIFS_PASSWORD: "p" }), {
    type: "cifs",
    source: "//srv/share/dir",
    directory: "/mounts/srv/share/dir",
    tries: [["soft"]],
    login: { username: "me", password: "p" },
  });
});

Deno.test("a mounted share is a directory; one that cannot be mounted says why", async () => {
  using dir = tempDir();
  const address = parseTargetUrl("nfs://h:/x") as ShareAddress;
  const mounter = { mount: (mount: ShareMount) => Deno.mkdir(mount.directory, { recursive: true }) };
  await using target = await openShare(address, NONE, mounter, { mountDirectory: dir.path });
  await target.write("a", new Uint8Array(2));
  assert.equal(Deno.statSync(dir.join("h/x/a")).size, 2);
  const failing = { mount: () => Promise.reject(new Error("no server")) };
  await assert.rejects(openShare(address, NONE, failing), /nfs:\/\/h:\/x: mount: no server/);
});
