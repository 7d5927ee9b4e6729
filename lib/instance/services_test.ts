import assert from "node:assert/strict";
import { tempDir } from "../../tests/support/temp.ts";
import { waitFor } from "../../tests/support/wait.ts";
import { FilesLibc } from "../io/files_libc.ts";
import {
  diskService,
  imrpc,
  type InstanceMethods,
  instanceService,
  type ProcessManagerMethods,
  processManagerService,
} from "../rpc/imrpc.ts";
import { Code, connect, implement, type RpcClient, serve } from "../rpc/mod.ts";
import { diskHandlers } from "./disk_service.ts";
import { instanceHandlers } from "./instance_service.ts";
import { LogDirectory } from "./log_file.ts";
import { processHandlers } from "./process_service.ts";
import { FakeNode, quiet } from "./test_kit.ts";

/** A client that ends a stream early has a timer for a moment. */
const STREAMS = { sanitizeOps: false, sanitizeResources: false };

interface Served {
  readonly node: FakeNode;
  readonly logs: LogDirectory;
  readonly processes: RpcClient<ProcessManagerMethods>;
  readonly instances: RpcClient<InstanceMethods>;
}

async function served(work: (parts: Served) => Promise<void>): Promise<void> {
  using directory = tempDir();
  const node = new FakeNode(), logs = new LogDirectory(new FilesLibc(), directory.path);
  const server = await serve({
    address: "127.0.0.1:0",
    services: [
      implement(processManagerService, processHandlers(node.table, logs)),
      implement(instanceService, instanceHandlers(node.table, logs)),
    ],
  });
  const processes = connect(processManagerService, server.address);
  const instances = connect(instanceService, server.address);
  try {
    await work({ node, logs, processes, instances });
  } finally {
    processes.close();
    instances.close();
    await server.close();
  }
}

const SPEC = { name: "vol-e-0", binary: "/bin/one", args: ["a"], portCount: 1, portArgs: ["--listen,:"] };
const INSTANCE = {
  name: "vol-e-0",
  type: "engine",
  portCount: 1,
  portArgs: ["--listen,:"],
  processInstanceSpec: { binary: "/bin/one", args: ["a"] },
};

Deno.test("a process is created, listed, described and deleted over the wire", async () => {
  await served(async ({ node, processes }) => {
    const created = await processes.unary("processCreate", { spec: SPEC });
    assert.equal(created.status?.state, "starting");
    assert.equal(created.status?.portStart, 1000);
    assert.deepEqual(created.spec?.portArgs, ["--listen,:"]);
    await assert.rejects(processes.unary("processCreate", { spec: SPEC }), { code: Code.ALREADY_EXISTS });
    await assert.rejects(processes.unary("processCreate", {}), { code: Code.INVALID_ARGUMENT });
    node.machine.healthy.add(1000);
    await node.clock.advance(200);
    const { processes: all } = await processes.unary("processList", {});
    assert.deepEqual(Object.keys(all), ["vol-e-0"]);
    assert.equal(all["vol-e-0"]?.status?.state, "running");
    await assert.rejects(processes.unary("processGet", { name: "x" }), { code: Code.NOT_FOUND });
    const uuid = created.status?.uuid ?? "";
    const deleted = await processes.unary("processDelete", { name: "vol-e-0", uuid });
    assert.equal(deleted.deleted, true);
    await quiet();
    assert.deepEqual((await processes.unary("processList", {})).processes, {});
    const version = await processes.unary("versionGet", {});
    assert.deepEqual([version.instanceManagerAPIVersion, version.instanceManagerAPIMinVersion], [7, 1]);
  });
});

Deno.test("an instance is a process with another message; both see the same ones", async () => {
  await served(async ({ node, processes, instances }) => {
    const created = await instances.unary("instanceCreate", { spec: INSTANCE });
    assert.equal(created.spec?.type, "engine");
    assert.equal(created.status?.portStart, 1000);
    await processes.unary("processCreate", { spec: { ...SPEC, name: "vol-r-0123" } });
    const { instances: all } = await instances.unary("instanceList", {});
    const types = Object.entries(all).map(([name, one]) => [name, one.spec?.type]);
    assert.deepEqual(types, [["vol-e-0", "engine"], ["vol-r-0123", "replica"]]);
    assert.deepEqual(all["vol-e-0"]?.spec?.processInstanceSpec?.args, ["a"]);
    const got = await instances.unary("instanceGet", { name: "vol-e-0", type: "engine" });
    assert.equal(got.status?.uuid, created.status?.uuid);
    node.machine.healthy.add(1000);
    await node.clock.advance(200);
    const spec = { ...INSTANCE, processInstanceSpec: { binary: "/bin/two", args: ["b"] } };
    node.machine.healthy.add(1002);
    const replaced = instances.unary("instanceReplace", { spec, terminateSignal: "SIGHUP" });
    await waitFor(async () => {
      await node.clock.advance(100);
      return node.table.get("vol-e-0").record.binary === "/bin/two";
    });
    assert.equal((await replaced).spec?.processInstanceSpec?.binary, "/bin/two");
    await instances.unary("instanceDelete", { name: "vol-e-0" });
    await quiet();
    assert.equal(node.table.size, 1);
  });
});

Deno.test("what the first data engine does not have is declined, what makes no sense is refused", async () => {
  await served(async ({ node, instances }) => {
    const v2 = { dataEngine: imrpc.DataEngine.DATA_ENGINE_V2 };
    const old = { backendStoreDriver: imrpc.BackendStoreDriver.v2 };
    const unimplemented = { code: Code.UNIMPLEMENTED };
    await assert.rejects(instances.unary("instanceCreate", { spec: { ...INSTANCE, ...v2 } }), unimplemented);
    await assert.rejects(instances.unary("instanceCreate", { spec: { ...INSTANCE, ...old } }), unimplemented);
    await assert.rejects(instances.unary("instanceDelete", { name: "x", ...v2 }), unimplemented);
    await assert.rejects(instances.unary("instanceSuspend", { name: "x" }), unimplemented);
    await assert.rejects(instances.unary("instanceResume", { name: "x" }), unimplemented);
    await assert.rejects(instances.unary("instanceSwitchOverTarget", { name: "x" }), unimplemented);
    await assert.rejects(instances.unary("instanceDeleteTarget", { name: "x" }), unimplemented);
    const bad = { code: Code.INVALID_ARGUMENT };
    await assert.rejects(instances.unary("instanceCreate", {}), bad);
    await assert.rejects(instances.unary("instanceCreate", { spec: { name: "a" } }), bad);
    const dataLayoutType = imrpc.DataLayoutType.DATA_LAYOUT_TYPE_SHARDED;
    await assert.rejects(instances.unary("instanceCreate", { spec: INSTANCE, dataLayoutType }), bad);
    await assert.rejects(instances.unary("logSetLevel", { level: "loud" }), bad);
    assert.equal(node.table.size, 0);
    const { level } = await instances.unary("logGetLevel", {});
    await instances.unary("logSetLevel", { level: "Debug" });
    assert.equal((await instances.unary("logGetLevel", {})).level, "debug");
    await instances.unary("logSetLevel", { level });
    assert.equal((await instances.unary("logGetFlags", {})).flags, "");
  });
});

Deno.test({
  name: "watchers are told what changed, from both services",
  ...STREAMS,
  fn: () =>
    served(async ({ node, processes, instances }) => {
      const over = new AbortController();
      const seen: string[] = [], seenInstances: string[] = [];
      const watching = Promise.allSettled([
        (async () => {
          for await (const one of processes.stream("processWatch", {}, { signal: over.signal })) {
            seen.push(`${one.spec?.name} ${one.status?.state} ${one.deleted}`);
          }
        })(),
        (async () => {
          for await (const one of instances.stream("instanceWatch", {}, { signal: over.signal })) {
            seenInstances.push(`${one.spec?.name} ${one.status?.state} ${one.deleted}`);
          }
        })(),
      ]);
      await waitFor(() => node.table.changes.watchers === 3, { what: "both watchers" });
      await processes.unary("processCreate", { spec: { ...SPEC, portCount: 0, portArgs: [] } });
      await processes.unary("processDelete", { name: "vol-e-0" });
      const last = "vol-e-0 stopped true";
      await waitFor(() => seen.at(-1) === last && seenInstances.at(-1) === last, { what: "the end" });
      assert.deepEqual(seen, seenInstances);
      assert.equal(seen[0], "vol-e-0 starting false");
      assert.ok(seen.includes("vol-e-0 running false"));
      over.abort();
      await watching;
      await waitFor(() => node.table.changes.watchers === 1, { what: "the watchers' end" });
    }),
});

Deno.test("a log is streamed line by line, for processes that are there only", STREAMS, async () => {
  await served(async ({ logs, processes, instances }) => {
    await processes.unary("processCreate", { spec: SPEC });
    const text = Array.from({ length: 3000 }, (_, index) => `line ${index}`).join("\n");
    Deno.writeTextFileSync(logs.path("vol-e-0"), `${text}\n`);
    const lines: string[] = [];
    for await (const { line } of processes.stream("processLog", { name: "vol-e-0" })) lines.push(line);
    assert.equal(lines.join("\n"), text);
    const first = await instances.stream("instanceLog", { name: "vol-e-0" }).next();
    assert.equal(first.value?.line, "line 0");
    Deno.writeTextFileSync(logs.path("secret"), "x");
    await assert.rejects(processes.stream("processLog", { name: "secret" }).next(), { code: Code.NOT_FOUND });
    await assert.rejects(processes.stream("processLog", { name: "../secret" }).next(), {
      code: Code.INVALID_ARGUMENT,
    });
  });
});

Deno.test("there are no block disks; the disk service says only its version", async () => {
  const server = await serve({ address: "127.0.0.1:0", services: [implement(diskService, diskHandlers())] });
  const client = connect(diskService, server.address);
  assert.equal((await client.unary("versionGet", {})).instanceManagerDiskServiceAPIVersion, 1);
  await assert.rejects(client.unary("diskGet", {}), { code: Code.UNIMPLEMENTED });
  await assert.rejects(client.unary("diskCreate", { diskType: imrpc.DiskType.filesystem }), {
    code: Code.UNIMPLEMENTED,
  });
  client.close();
  await server.close();
});
