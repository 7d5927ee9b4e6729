import assert from "node:assert/strict";
import fc from "fast-check";
import { decodeBackupUrl, encodeBackupUrl, parseTargetUrl, TargetUrlError } from "./url.ts";

Deno.test("every kind of target URL is understood", () => {
  const parse = (url: string): unknown => ({ ...parseTargetUrl(url), url: undefined });
  const url = undefined;
  assert.deepEqual(parse("s3://bucket@eu-west-1/"), {
    kind: "s3",
    url,
    bucket: "bucket",
    region: "eu-west-1",
    prefix: "",
  });
  assert.deepEqual(parse("s3://my.Bucket_1@r/a/b%20c"), {
    kind: "s3",
    url,
    bucket: "my.Bucket_1",
    region: "r",
    prefix: "a/b c/",
  });
  assert.deepEqual(parse("s3://bucket//x//"), {
    kind: "s3",
    url,
    bucket: "bucket",
    region: "",
    prefix: "x/",
  });
  assert.deepEqual(parse("nfs://10.0.0.1:/opt/backups"), {
    kind: "nfs",
    url,
    host: "10.0.0.1",
    path: "/opt/backups",
    options: undefined,
  });
  assert.deepEqual(parse("nfs://[fd00::1]:/x?nfsOptions=vers=4.1,soft,timeo=100"), {
    kind: "nfs",
    url,
    host: "[fd00::1]",
    path: "/x",
    options: ["vers=4.1", "soft", "timeo=100"],
  });
  assert.deepEqual(parse("cifs://server/share/dir/"), {
    kind: "cifs",
    url,
    host: "server",
    path: "/share/dir",
    options: undefined,
  });
  assert.deepEqual(parse("azblob://container@core.windows.net/p/"), {
    kind: "azblob",
    url,
    container: "container",
    suffix: "core.windows.net",
    prefix: "p/",
  });
  assert.deepEqual(parse("vfs:///var/backups/"), { kind: "directory", url, path: "/var/backups" });
  assert.deepEqual(parse("file:///a"), { kind: "directory", url, path: "/a" });
});

Deno.test("what is no target URL is refused with what is wrong and the form that is right", () => {
  const cases: [string, RegExp][] = [
    ["backups", /it is not a URL; write s3:\/\/bucket@region\/path\/, nfs:/],
    ["ftp://x/y", /the kind "ftp" is not known/],
    ["s3://key:hidden@bucket@region/", /credentials do not belong into it/],
    ["s3://@region/", /"" is no name of a bucket/],
    ["s3://bucket@reg ion/", /"reg ion" is no region/],
    ["s3://bucket@region/../x", /the path has "\." or "\.\."/],
    ["s3://bucket@region/%2e%2e/x", /the path has "\." or "\.\."/],
    ["s3://bucket@region/?a=b", /the parameter "a" is not known; write s3:/],
    ["s3://bucket@region/#x", /it has a "#"/],
    ["s3://bucket@region/%zz", /is not followed by two hexadecimal digits/],
    ["s3://bucket@region/a\nb", /control characters/],
    ["nfs://host/x", /a colon has to stand between host and path; write nfs:\/\/host:\/export\/path/],
    ["nfs://user:hidden@host:/x", /a user does not belong into it/],
    ["nfs://host:/x?nfsOptions=soft,rw;reboot", /a mount option has a character/],
    ["cifs://host/", /the share is missing/],
    ["cifs://host/s?cifsOptions=username=a,password=hidden", /credentials do not belong into mount options/],
    ["vfs://var/backups", /"var" stands where nothing should/],
    ["vfs:///", /the directory is missing/],
    [`vfs:///${"x".repeat(5000)}`, /longer than 4096 characters/],
  ];
  for (const [url, expected] of cases) {
    assert.throws(() => parseTargetUrl(url), (error: Error) => {
      assert.ok(error instanceof TargetUrlError);
      assert.match(error.message, expected);
      assert.doesNotMatch(error.message.slice(error.message.indexOf(":") + 1), /:hidden/);
      return true;
    }, url);
  }
});

Deno.test("no text makes parsing do anything but answer or refuse", () => {
  const pieces = fc.constantFrom(
    "s3",
    "nfs",
    "://",
    "@",
    ":",
    "/",
    "?",
    "=",
    "..",
    "%2e",
    "%",
    "#",
    "[",
    "]",
    "a",
    "vfs",
    "nfsOptions",
    "\0",
  );
  fc.assert(fc.property(fc.array(pieces, { maxLength: 12 }), (parts) => {
    try {
      const address = parseTargetUrl(parts.join(""));
      const path = address.kind === "s3" || address.kind === "azblob" ? address.prefix : address.path;
      assert.ok(!path.split("/").includes(".."));
    } catch (error) {
      assert.ok(error instanceof TargetUrlError);
    }
  }));
});

Deno.test("URLs of backups have the form that Longhorn's have, and come apart again", () => {
  assert.equal(
    encodeBackupUrl({ target: "s3://bkt@r/", volume: "vol 1", backup: "backup-1" }),
    "s3://bkt@r/?backup=backup-1&volume=vol+1",
  );
  assert.equal(
    encodeBackupUrl({ target: "nfs://h:/x?nfsOptions=soft", volume: "v", backup: "" }),
    "nfs://h:/x?nfsOptions=soft&volume=v",
  );
  assert.deepEqual(decodeBackupUrl("vfs:///x?volume=v&backup=b"), {
    target: "vfs:///x",
    volume: "v",
    backup: "b",
  });
  assert.throws(() => decodeBackupUrl("vfs:///x?volume=v&volume=w"), /two names of a volume/);
  assert.throws(() => decodeBackupUrl("vfs:///x?volume="), /empty name of a volume/);
  const name = fc.stringMatching(/^[a-zA-Z0-9 _.&=?#%+-]{1,20}$/);
  const target = fc.constantFrom("s3://bkt@r/p/", "vfs:///x", "nfs://h:/x?nfsOptions=vers=4.1,soft");
  fc.assert(fc.property(target, name, name, (target, volume, backup) => {
    assert.deepEqual(decodeBackupUrl(encodeBackupUrl({ target, volume, backup })), {
      target,
      volume,
      backup,
    });
  }));
});
