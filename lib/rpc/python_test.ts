/**
 * Our servers and clients against gRPC's C core, by way of Python. The peer learns all messages by reflection, so
 * that this also shows that the descriptors are right.
 *
 * @module
 */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { peerTest } from "../../tests/support/conditional.ts";
import { runAnyway, spawnLogged } from "../../tests/support/process.ts";
import { tempDir } from "../../tests/support/temp.ts";
import {
  type CallContext,
  Code,
  connect,
  type ControllerMethods,
  controllerService,
  type Handlers,
  implement,
  type ptypes,
  type ReplicaMethods,
  replicaService,
  RollbackError,
  RpcError,
  type RpcServer,
  serve,
  unimplemented,
} from "./mod.ts";

const PEER = fileURLToPath(new URL("./testing/python_peer.py", import.meta.url));
/** Debian's Python, which has the packages; another one may come first on the PATH. */
const PYTHON = "/usr/bin/python3";
const NEEDS = ["python3-grpcio"];

async function revert(request: ptypes.ReplicaRevertRequest, call: CallContext): Promise<never> {
  switch (request.name) {
    case "plain":
      throw new Error("replica is already open");
    case "typed":
      throw new RpcError(Code.NOT_FOUND, "ü\n100 %");
    case "rollback":
      throw new RollbackError("FunctionFailedWithoutRollback", "no space");
    case "long":
      throw new Error("x".repeat(100_000));
    default:
      await new Promise<void>((resolve) => call.signal.addEventListener("abort", () => resolve()));
      throw new Error("given up");
  }
}

const REPLICA: ptypes.Replica.$Properties = {
  size: "7",
  head: "volume-head-001.img",
  chain: ["a", "b"],
  revisionCounter: Number.MAX_SAFE_INTEGER,
  headFileSize: Number.MIN_SAFE_INTEGER,
  lastModifyTime: 1_763_771_234_567_891_200,
  disks: { x: { name: "x", children: { y: true }, labels: { k: "ü" } } },
  droverFeatures: 5,
  drover: { id: "r1", generation: 3, members: ["r1", "r2"] },
};

const handlers: Handlers<ReplicaMethods> = {
  replicaGet: () => ({ replica: REPLICA }),
  replicaSnapshot: (request) => ({ replica: { state: JSON.stringify(request) } }),
  replicaRevert: revert,
  replicaCreate: unimplemented,
  replicaDelete: unimplemented,
  replicaOpen: unimplemented,
  replicaClose: unimplemented,
  replicaReload: unimplemented,
  replicaExpand: unimplemented,
  diskRemove: unimplemented,
  diskReplace: unimplemented,
  diskPrepareRemove: unimplemented,
  diskMarkAsRemoved: unimplemented,
  rebuildingSet: unimplemented,
  revisionCounterSet: unimplemented,
  unmapMarkDiskChainRemovedSet: unimplemented,
  snapshotMaxCountSet: unimplemented,
  snapshotMaxSizeSet: unimplemented,
};

function startServer(address: string): Promise<RpcServer> {
  return serve({
    address,
    services: [implement(replicaService, handlers)],
    identity: { role: "replica", volumeName: "vol" },
  });
}

for (const kind of ["TCP", "a unix socket"]) {
  peerTest(`a client on the C core works with our server over ${kind}`, { needs: NEEDS }, async () => {
    using directory = tempDir();
    const server = await startServer(kind === "TCP" ? "127.0.0.1:0" : `unix:${directory.join("s")}`);
    const target = server.address.replace("tcp://", "");
    const { code, stdout, stderr } = await runAnyway(PYTHON, [PEER, "client", target]);
    await server.close();
    assert.equal(code, 0, stdout + stderr);
    assert.match(stdout, /^done$/m);
  });
}

peerTest("our client works with a server on the C core", { needs: NEEDS }, async () => {
  const teacher = await serve({
    address: "127.0.0.1:0",
    services: [implement(controllerService, describedOnly())],
  });
  await using peer = spawnLogged(PYTHON, [PEER, "server", teacher.address.slice("tcp://".length)]);
  const [, port] = await peer.waitForOutput(/^port (\d+)$/m);
  await teacher.close();
  const identity = { volumeName: "vol", instanceName: "vol-e-0" };
  const client = connect(controllerService, `tcp://127.0.0.1:${port}`, { identity });
  const code = (expected: Code, text: RegExp) => (error: unknown): boolean =>
    error instanceof RpcError && error.code === expected && text.test(error.message);

  const { name, size, replicaCount, lastExpansionError } = await client.unary("volumeGet", {});
  assert.deepEqual([name, size, replicaCount, lastExpansionError], ["vol", Number.MAX_SAFE_INTEGER, 3, "ü"]);
  const started = await client.unary("volumeStart", {
    replicaAddresses: ["tcp://a:1", "tcp://b:2"],
    size: 4096,
  });
  assert.deepEqual([started.name, started.size], ["tcp://a:1,tcp://b:2", 4096]);
  await assert.rejects(client.unary("volumeRevert", { name: "plain" }), code(Code.UNKNOWN, /a plain error/));
  const rollback = await client.unary("volumeRevert", { name: "x" }).catch((error) => error);
  assert.equal(RollbackError.from(rollback)?.outcome, "ResultUnknown");
  await assert.rejects(client.unary("volumeExpand", { size: 1 }), code(Code.INTERNAL, /64-bit field/));
  await assert.rejects(client.unary("metricsGet", {}), code(Code.ABORTED, /^vol\/vol-e-0$/));
  await assert.rejects(client.unary("replicaList", {}), code(Code.UNIMPLEMENTED, /./));
  client.close();
});

/** Handlers that are only there so that the service is described. */
function describedOnly(): Handlers<ControllerMethods> {
  const entries = [...controllerService.methods.keys()].map((key) => [key, unimplemented]);
  return Object.fromEntries(entries) as Handlers<ControllerMethods>;
}
