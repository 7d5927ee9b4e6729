import assert from "node:assert/strict";
import { peerTest } from "../../tests/support/conditional.ts";
import { run, runAnyway } from "../../tests/support/process.ts";
import { tempDir } from "../../tests/support/temp.ts";
import { Code, connect, implement, RpcError, type RpcServer, serve } from "./mod.ts";
import { Authority } from "../../tests/support/certificates.ts";
import { echoService } from "./testing/echo.ts";
import { bearsPeerName, PEER_NAME, TlsError, TlsIdentity } from "./tls.ts";

/** A client that was refused has a timer until it may dial again, also after it was closed. */
const REDIALS = { sanitizeOps: false, sanitizeResources: false };
const NEEDS = { needs: ["openssl"], ...REDIALS };

const handlers = {
  ask: (request: { data: string }) => ({ data: request.data }),
  count: async function* () {
    yield { data: "one" };
  },
  chat: async function* () {
    yield { data: "one" };
  },
};

function listen(tls: TlsIdentity): Promise<RpcServer> {
  return serve({ address: "127.0.0.1:0", services: [implement(echoService, handlers)], tls });
}

/** Calls; @returns the answer, or the code and text of the failure */
async function ask(address: string, tls?: TlsIdentity): Promise<string> {
  const client = connect(echoService, address, { ...(tls ? { tls } : {}), timeoutMs: 10_000 });
  try {
    return (await client.unary("ask", { data: "answer" })).data;
  } catch (error) {
    assert.ok(error instanceof RpcError);
    return `${error.code} ${error.message}`;
  } finally {
    client.close();
  }
}

peerTest("a peer without a good certificate of ours is refused, whichever way it is bad", NEEDS, async () => {
  using directory = tempDir();
  const ours = await Authority.make(directory, "ours"), theirs = await Authority.make(directory, "theirs");
  using good = await TlsIdentity.load(await ours.issue("good"));
  using byCommonName = await TlsIdentity.load(
    await ours.issue("common", { bears: "localhost", commonName: PEER_NAME }),
  );
  using wrongName = await TlsIdentity.load(await ours.issue("name", { bears: "other.example" }));
  using expired = await TlsIdentity.load(await ours.issue("expired", { days: -1 }));
  using wrongAuthority = await TlsIdentity.load(await theirs.issue("rogue", { trust: ours }));
  using distrusts = await TlsIdentity.load(await ours.issue("distrusts", { trust: theirs }));
  const server = await listen(good);
  try {
    assert.equal(await ask(server.address, good), "answer");
    assert.equal(await ask(server.address, byCommonName), "answer");
    const refused = await ask(server.address, wrongName);
    assert.equal(refused, `7 the certificate of the caller does not bear the name ${PEER_NAME}`);
    const others = { expired, wrongAuthority, distrusts, plain: undefined };
    for (const [what, tls] of Object.entries(others)) {
      assert.match(await ask(server.address, tls), /^14 /, what);
    }
    const client = connect(echoService, server.address, { tls: wrongName });
    await assert.rejects(client.stream("count", {}).next(), { code: Code.PERMISSION_DENIED });
    await assert.rejects(client.bidi("chat", []).next(), { code: Code.PERMISSION_DENIED });
    client.close();
  } finally {
    await server.close();
  }
});

peerTest("a server with a bad certificate is not called", NEEDS, async () => {
  using directory = tempDir();
  const ours = await Authority.make(directory, "ours"), theirs = await Authority.make(directory, "theirs");
  using good = await TlsIdentity.load(await ours.issue("good"));
  const bad = {
    name: await ours.issue("name", { bears: "other.example" }),
    expired: await ours.issue("expired", { days: -1 }),
    authority: await theirs.issue("rogue", { trust: ours }),
  };
  for (const [what, path] of Object.entries(bad)) {
    using tls = await TlsIdentity.load(path);
    const server = await listen(tls);
    assert.match(await ask(server.address, good), /^14 /, what);
    await server.close();
  }
});

peerTest("nothing below TLS 1.3 is spoken, and no certificate means no connection", NEEDS, async () => {
  using directory = tempDir();
  const path = await (await Authority.make(directory, "ours")).issue("good");
  using good = await TlsIdentity.load(path);
  const server = await listen(good);
  try {
    const at = [
      "s_client",
      "-connect",
      `127.0.0.1:${server.port}`,
      "-CAfile",
      `${path}/ca.crt`,
      "-alpn",
      "h2",
    ];
    const own = ["-cert", `${path}/tls.crt`, "-key", `${path}/tls.key`];
    assert.match((await run("openssl", [...at, ...own, "-tls1_3"])).stdout, /New, TLSv1\.3/);
    assert.notEqual((await runAnyway("openssl", [...at, ...own, "-tls1_2"])).code, 0);
    const without = await runAnyway("openssl", [...at, "-tls1_3", "-ign_eof"]);
    assert.match(without.stderr + without.stdout, /certificate required|unexpected eof/);
  } finally {
    await server.close();
  }
});

peerTest(
  "renewed files are used by server and client without a restart; half a renewal is not",
  NEEDS,
  async () => {
    using directory = tempDir();
    const old = await Authority.make(directory, "old"), renewed = await Authority.make(directory, "renewed");
    const place = await old.issue("place"), said: string[] = [];
    const say = (message: string) => said.push(message);
    using tls = await TlsIdentity.load(place, { info: say, warn: say, error: say });
    using ofOld = await TlsIdentity.load(await old.issue("of-old"));
    const server = await listen(tls);
    const client = connect(echoService, server.address, { tls });
    try {
      assert.equal((await client.unary("ask", { data: "before" })).data, "before");
      const next = await renewed.issue("next");
      await Deno.copyFile(`${next}/tls.crt`, `${place}/tls.crt`);
      await tls.reload();
      assert.equal(await ask(server.address, ofOld), "answer", "the old set is in use");
      await Deno.copyFile(`${next}/tls.key`, `${place}/tls.key`);
      await Deno.copyFile(`${next}/ca.crt`, `${place}/ca.crt`);
      await tls.reload();
      assert.match(await ask(server.address, ofOld), /^14 /);
      assert.equal((await client.unary("ask", { data: "after" })).data, "after");
      assert.deepEqual(said, ["certificates are not renewed", "certificates were renewed"]);
    } finally {
      client.close();
      await server.close();
    }
  },
);

peerTest("files that cannot be used are named, with what is wrong", NEEDS, async () => {
  using directory = tempDir();
  const authority = await Authority.make(directory, "ours");
  const path = await authority.issue("good"), other = await authority.issue("other");
  const fails = (file: RegExp): Promise<void> =>
    assert.rejects(TlsIdentity.load(path), (error) => error instanceof TlsError && file.test(error.message));
  await Deno.copyFile(`${other}/tls.key`, `${path}/tls.key`);
  await fails(/good\/tls\.key is not the key of .*tls\.crt/);
  await Deno.writeTextFile(`${path}/tls.key`, "nothing");
  await fails(/good\/tls\.key: neither/);
  await Deno.remove(`${path}/ca.crt`);
  await fails(/good\/ca\.crt is not there/);
});

Deno.test("a name counts as a DNS name or as the common name, and only whole", () => {
  assert.ok(bearsPeerName(PEER_NAME, undefined));
  assert.ok(bearsPeerName("x", `DNS:a, DNS:${PEER_NAME}, IP Address:127.0.0.1`));
  assert.ok(!bearsPeerName(`a.${PEER_NAME}`, `DNS:a.${PEER_NAME}`));
  assert.ok(!bearsPeerName(undefined, `URI:DNS:${PEER_NAME}`));
  assert.ok(!bearsPeerName(undefined, undefined));
});

/** A client on gRPC's C core: asks after health, prints the status number or the code of the failure. */
const PYTHON_CLIENT = `
import grpc, sys
def read(name): return open(sys.argv[2] + "/" + name, "rb").read()
credentials = grpc.ssl_channel_credentials(read("ca.crt"), read("tls.key"), read("tls.crt"))
options = [("grpc.ssl_target_name_override", "${PEER_NAME}")]
channel = grpc.secure_channel("127.0.0.1:" + sys.argv[1], credentials, options=options)
try:
    print(list(channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20)))
except grpc.RpcError as error:
    print(error.code().name)
`;

peerTest(
  "a client of another implementation is served over mutual TLS, and a stranger is not",
  { needs: ["openssl", "python3-grpcio"], ...REDIALS },
  async () => {
    using directory = tempDir();
    const ours = await Authority.make(directory, "ours");
    const good = await ours.issue("good"), stranger = await ours.issue("name", { bears: "other.example" });
    using tls = await TlsIdentity.load(good);
    const server = await listen(tls);
    try {
      const ask = async (path: string): Promise<string> =>
        (await run("/usr/bin/python3", ["-c", PYTHON_CLIENT, String(server.port), path])).stdout.trim();
      assert.equal(await ask(good), "[8, 1]", "field 1 is 1: SERVING");
      assert.equal(await ask(stranger), "PERMISSION_DENIED");
    } finally {
      await server.close();
    }
  },
);
