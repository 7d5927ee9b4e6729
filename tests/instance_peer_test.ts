/**
 * The instance manager and a caller that shares no code with it: gRPC's C core, and what protoc makes of `proto/`.
 *
 * @module
 */
import assert from "node:assert/strict";
import { TestNode } from "./instance_kit.ts";
import { Authority } from "./support/certificates.ts";
import { peerTest } from "./support/conditional.ts";
import { run, runAnyway } from "./support/process.ts";
import { inRepository } from "./support/repository.ts";
import { tempDir } from "./support/temp.ts";

/** Debian's Python, which has the packages; another one may come first on the PATH. */
const PYTHON = "/usr/bin/python3";

/** What protoc makes of the files of the instance manager, and of those that they import. */
async function protocCode(directory: string): Promise<void> {
  const files = ["imrpc", "ptypes"].flatMap((room) =>
    [...Deno.readDirSync(inRepository(`proto/${room}`))].map(({ name }) =>
      inRepository(`proto/${room}/${name}`)
    )
  );
  await run("protoc", ["-I", inRepository("proto"), `--python_out=${directory}`, ...files]);
}

for (const secure of [false, true]) {
  peerTest(
    `a foreign caller finds all services and their promises, ${secure ? "by mutual TLS" : "in plain text"}`,
    {
      needs: ["python3-grpcio", "protoc", ...(secure ? ["openssl"] : [])],
      sanitizeOps: false,
      sanitizeResources: false,
    },
    async () => {
      using directory = tempDir();
      await protocCode(directory.path);
      const tls = secure ? [await (await Authority.make(directory, "ours")).issue("node")] : [];
      await using node = await TestNode.start(secure ? ["--tls-dir", ...tls] : [], 200);
      const peer = await runAnyway(PYTHON, [
        inRepository("tests/instance_peer.py"),
        directory.path,
        String(node.port),
        node.sleepers[0],
        node.path("volumes"),
        ...tls,
      ]);
      assert.equal(peer.code, 0, `${peer.stdout}\n${peer.stderr}\n${node.manager.output}`);
      assert.match(peer.stdout, /^done$/m);
      if (!secure) return;
      const plain = await runAnyway(PYTHON, [
        inRepository("tests/instance_peer.py"),
        directory.path,
        String(node.port),
        node.sleepers[0],
        node.path("volumes"),
      ]);
      assert.notEqual(plain.code, 0);
      assert.doesNotMatch(plain.stdout, /^ok/m);
    },
  );
}
