import assert from "node:assert/strict";
import { tempDir } from "../../../tests/support/temp.ts";
import { CredentialError, Credentials } from "./credentials.ts";
import { bypassesProxy } from "./http_proxy.ts";

Deno.test("credentials are read from the environment and do not show themselves", () => {
  const environment: Record<string, string> = {
    AWS_ACCESS_KEY_ID: "key",
    AWS_SECRET_ACCESS_KEY: "hidden",
    https_proxy: "http://p:1",
    HOME: "/root",
    AWS_CERT: "",
  };
  const credentials = Credentials.fromEnvironment((name) => environment[name]);
  assert.equal(credentials.get("AWS_SECRET_ACCESS_KEY"), "hidden");
  assert.equal(credentials.get("HTTPS_PROXY"), "http://p:1");
  assert.equal(credentials.get("AWS_CERT"), undefined, "empty counts as not given");
  assert.doesNotMatch(`${Deno.inspect(credentials)}${JSON.stringify(credentials)}${credentials}`, /hidden/);
  const over = Credentials.from({ AWS_ACCESS_KEY_ID: "other" }).over(credentials);
  assert.deepEqual([over.get("AWS_ACCESS_KEY_ID"), over.get("AWS_SECRET_ACCESS_KEY")], ["other", "hidden"]);
});

Deno.test("a file of credentials is read when only its owner may", async () => {
  using dir = tempDir();
  const path = dir.join("credentials"), cert = dir.join("ca.pem");
  Deno.writeTextFileSync(cert, "-----BEGIN CERTIFICATE-----\n");
  const lines =
    `# of the backups\nexport AWS_ACCESS_KEY_ID = key\nAWS_SECRET_ACCESS_KEY="a=b c"\n\nAWS_CERT_FILE=${cert}\n`;
  Deno.writeTextFileSync(path, lines, { mode: 0o600 });
  const credentials = await Credentials.fromFile(path);
  assert.equal(credentials.get("AWS_ACCESS_KEY_ID"), "key");
  assert.equal(credentials.get("AWS_SECRET_ACCESS_KEY"), "a=b c");
  assert.equal(credentials.get("AWS_CERT"), "-----BEGIN CERTIFICATE-----\n");
  Deno.writeTextFileSync(path, '{"CIFS_USERNAME":"me"}');
  assert.equal((await Credentials.fromFile(path)).get("CIFS_USERNAME"), "me");

  Deno.writeTextFileSync(path, "AWS_ACCESS_KEY_ID=key\nAWS_SECRET=hidden\n");
  await assert.rejects(Credentials.fromFile(path), (error: Error) => {
    assert.ok(error instanceof CredentialError);
    assert.match(error.message, /line 2 is not NAME=VALUE/);
    assert.doesNotMatch(error.message, /hidden/);
    return true;
  });
  Deno.writeTextFileSync(path, '{"hidden');
  await assert.rejects(
    Credentials.fromFile(path),
    (error: Error) => !/hidden/.test(`${error.message}${error.cause}`),
  );
  Deno.chmodSync(path, 0o640);
  await assert.rejects(Credentials.fromFile(path), /others may read this file; run: chmod 600/);
  await assert.rejects(Credentials.fromFile(dir.join("none")), /cannot be read/);
});

Deno.test("proxies are left out where NO_PROXY says so", () => {
  const cases: [string, string, boolean][] = [
    ["s3.example.com", "example.com", true],
    ["s3.example.com", ".example.com", true],
    ["example.com", "example.com", true],
    ["badexample.com", "example.com", false],
    ["10.1.2.3", "10.0.0.0/8, localhost", true],
    ["11.1.2.3", "10.0.0.0/8", false],
    ["localhost", "10.0.0.0/8, localhost", true],
    ["[::1]", "::1", true],
    ["anything", "*", true],
    ["anything", "", false],
  ];
  for (const [host, list, expected] of cases) {
    assert.equal(bypassesProxy(host, list), expected, `${host} ${list}`);
  }
});
