/**
 * The client commands under Longhorn's names, against a volume that remembers what it was asked.
 */
import assert from "node:assert/strict";
import { fakeVolume, portsFor } from "../lib/client/test_kit.ts";
import { ptypes } from "../lib/rpc/mod.ts";
import { spawnDeno } from "./support/process.ts";
import { freePortRange } from "./support/ports.ts";
import { inRepository } from "./support/repository.ts";
import { tempDir } from "./support/temp.ts";

interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function program(name: string, ...args: string[]): Promise<Result> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", inRepository(`cmd/${name}.ts`), ...args],
    stdin: "null",
    env: { NO_COLOR: "1", DROVER_LOG_LEVEL: "error" },
  }).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

async function ok(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await program("longhorn", ...args);
  assert.equal(code, 0, `${args.join(" ")}: ${stdout}${stderr}`);
  return stdout;
}

Deno.test("replicas are listed, added, updated and removed with Longhorn's words", async () => {
  await using fake = await fakeVolume(freePortRange(portsFor(3)), 3, 2, { volumeName: "vol" });
  const [first, second, third] = fake.all;
  const url = ["--url", `http://${fake.address}/v1`];
  first.state.chain = ["volume-head-001.img", "volume-snap-a.img"];
  second.mode = ptypes.ReplicaMode.ERR;
  fake.controller.replicaPrepareRebuild = () => ({ syncFileInfoList: [] });
  fake.controller.replicaUpdate = (request) => request;
  const width = first.address.length + 1;
  assert.equal(
    await ok(...url, "ls"),
    `${"ADDRESS".padEnd(width)}MODE CHAIN\n` +
      `${first.address} RW   [volume-head-001.img volume-snap-a.img]\n${second.address} ERR  \n`,
  );
  await ok(...url, "--volume-name", "vol", "rm-replica", second.address);
  await ok(...url, "add-replica", "--size", "1m", "--current-size", "1m", third.address);
  assert.deepEqual(fake.listed.map(({ address }) => address), [first.address, third.address]);
  assert.equal(await ok(...url, "rebuild-status"), "{}\n");
  assert.equal(await ok(...url, "update", "--mode", "ERR", third.address), "");
  assert.deepEqual(fake.calls.at(-1)?.request, { address: { address: third.address }, mode: 2 });
  const wrong = await program("longhorn", ...url, "--volume-name", "other", "ls-replica");
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, /^longhorn: incorrect volume name other; check .* address$/m);
  const bare = await program("longhorn", ...url, "add", third.address);
  assert.deepEqual([bare.code, bare.stderr], [2, "longhorn: --size is required\n"]);
});

Deno.test("snapshots are made, listed, described, removed and purged with Longhorn's words", async () => {
  await using fake = await fakeVolume(freePortRange(portsFor(1)), 1);
  const url = ["--url", fake.address], [only] = fake.all;
  only.state.chain = ["volume-head-001.img", "volume-snap-b.img", "volume-snap-a.img"];
  only.state.disks = {
    "volume-head-001.img": { name: "volume-head-001.img", parent: "volume-snap-b.img", size: "0" },
    "volume-snap-b.img": {
      name: "volume-snap-b.img",
      parent: "volume-snap-a.img",
      children: { "volume-head-001.img": true },
      userCreated: true,
      created: "2026-07-12T08:00:00Z",
      size: "4096",
      labels: { k: "<v>" },
    },
  };
  fake.controller.volumeSnapshot = ({ name }) => ({ name: name || "made-up" });
  assert.equal(
    await ok(...url, "snapshot", "create", "--label", "a=1", "--label", "b=2", "--freeze-fs", "s1"),
    "s1\n",
  );
  assert.deepEqual(fake.calls.at(-1)?.request, {
    name: "s1",
    labels: { a: "1", b: "2" },
    freezeFilesystem: true,
  });
  assert.equal(await ok(...url, "snapshots"), "ID\nb\na\n");
  assert.equal(
    await ok(...url, "snapshots", "info"),
    `{\n\t"b": {\n\t\t"name": "b",\n\t\t"parent": "a",\n\t\t"children": {\n\t\t\t"volume-head": true\n\t\t},\n` +
      `\t\t"removed": false,\n\t\t"usercreated": true,\n\t\t"created": "2026-07-12T08:00:00Z",\n` +
      `\t\t"size": "4096",\n\t\t"labels": {\n\t\t\t"k": "\\u003cv\\u003e"\n\t\t}\n\t},\n` +
      `\t"volume-head": {\n\t\t"name": "volume-head",\n\t\t"parent": "b",\n\t\t"children": {},\n` +
      `\t\t"removed": false,\n\t\t"usercreated": false,\n\t\t"created": "",\n\t\t"size": "0",\n` +
      `\t\t"labels": {}\n\t}\n}\n`,
  );
  await ok(...url, "snapshot", "rm", "a", "b");
  await ok(...url, "snapshot", "purge", "--skip-if-in-progress");
  assert.equal(
    await ok(...url, "snapshot", "purge-status"),
    `{\n\t"${only.address}": {\n\t\t"error": "",\n\t\t"isPurging": false,\n\t\t"progress": 0,\n\t\t"state": ""\n\t}\n}\n`,
  );
  await ok(...url, "hash", "a", "--rehash");
  await ok(...url, "snapshot", "hash-cancel", "a");
  assert.match(await ok(...url, "hash-status", "a"), /"silentlyCorrupted": false/);
  only.state.rebuilding = true;
  const refused = await program("longhorn", ...url, "snapshot", "rm", "a");
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /^Failed to delete a: cannot remove a snapshot because .* is rebuilding$/m);
  const label = await program("longhorn", ...url, "snapshot", "create", "--label", "x");
  assert.deepEqual([label.code, label.stderr], [2, "longhorn: --label x: expected KEY=VALUE\n"]);
});

Deno.test("the volume is described, grown and shown with Longhorn's words, by engine as well", async () => {
  await using fake = await fakeVolume(freePortRange(portsFor(1)), 1);
  const url = ["--url", fake.address];
  fake.volume = { name: "vol", size: 4096, frontend: "socket", frontendState: "up", snapshotMaxCount: 250 };
  const info = await program("engine", ...url, "info");
  assert.equal(
    info.stdout,
    `{\n\t"name": "vol",\n\t"size": 4096,\n\t"replicaCount": 1,\n\t"endpoint": "",\n\t"frontend": "socket",\n` +
      `\t"frontendState": "up",\n\t"isExpanding": false,\n\t"lastExpansionError": "",\n` +
      `\t"lastExpansionFailedAt": "",\n\t"unmapMarkSnapChainRemoved": false,\n\t"snapshotMaxCount": 250,\n` +
      `\t"SnapshotMaxSize": 0\n}\n`,
  );
  await ok(...url, "expand", "--size", "8192");
  await ok(...url, "unmap-mark-snap", "--enable");
  await ok(...url, "frontend", "start", "socket");
  await ok(...url, "journal");
  assert.deepEqual(fake.calls.filter(({ method }) => method !== "volumeGet"), [
    { who: "controller", method: "volumeExpand", request: { size: 8192 } },
    { who: "controller", method: "volumeUnmapMarkSnapChainRemovedSet", request: { enabled: true } },
    { who: "controller", method: "volumeFrontendStart", request: { frontend: "socket" } },
    { who: "controller", method: "journalList", request: {} },
  ]);
  const version = JSON.parse(await ok(...url, "version"));
  assert.deepEqual([version.clientVersion.cliAPIVersion, version.serverVersion.version], [12, "fake"]);
  assert.equal(JSON.parse(await ok("version", "--client-only")).serverVersion, null);
  const both = await program("longhorn", ...url, "unmap-mark-snap", "--enable", "--disable");
  assert.equal(both.code, 2);
  const nobody = await program("longhorn", "--url", "127.0.0.1:1", "info");
  assert.equal(nobody.code, 1);
  assert.match(nobody.stderr, /127\.0\.0\.1:1/, "the address is named");
});

Deno.test("longhorn replica becomes a replica, with the process's number and its lifeline", async () => {
  using directory = tempDir();
  const port = freePortRange(16);
  await using process = spawnDeno("cmd/longhorn.ts", [
    "--volume-name",
    "vol",
    "replica",
    directory.join("r"),
    "--listen",
    `127.0.0.1:${port}`,
    "--size",
    "1m",
  ]);
  await process.waitForOutput(/replica ready/);
  assert.match(Deno.readTextFileSync(`/proc/${process.pid}/cmdline`), /\/replica\.ts\0--volume-name=vol\0/);
  const wrong = await program("longhorn", "sync-agent");
  assert.deepEqual([wrong.code, /start longhorn replica/.test(wrong.stderr)], [2, true]);
});
