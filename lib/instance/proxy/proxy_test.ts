import assert from "node:assert/strict";
import { freePortRange } from "../../../tests/support/ports.ts";
import { tempDir } from "../../../tests/support/temp.ts";
import { saveVolume } from "../../backup/store.ts";
import { Credentials } from "../../backup/target/credentials.ts";
import { openTarget } from "../../backup/target/open.ts";
import { type FakeVolume, fakeVolume, portsFor } from "../../client/test_kit.ts";
import { imrpc, type ProxyEngineMethods, proxyEngineService } from "../../rpc/imrpc.ts";
import { Code, connect, implement, ptypes, type RpcClient, RpcError, serve } from "../../rpc/mod.ts";
import { credentialsOf } from "./credentials.ts";
import { proxyHandlers } from "./service.ts";

/** A client that was refused has a timer until it may dial again, also after it was closed. */
const REDIALS = { sanitizeOps: false, sanitizeResources: false };

interface Parts {
  readonly volume: FakeVolume;
  readonly proxy: RpcClient<ProxyEngineMethods>;
  /** The request that means the volume. */
  readonly engine: imrpc.IProxyEngineRequest;
  readonly remounted: string[];
}

async function proxied(
  work: (parts: Parts) => Promise<void>,
  replicas = 2,
  listed = replicas,
): Promise<void> {
  await using volume = await fakeVolume(freePortRange(portsFor(replicas)), replicas, listed, {
    volumeName: "vol",
  });
  const remounted: string[] = [];
  const mounts = { remount: (name: string) => Promise.resolve(void remounted.push(name)) };
  const server = await serve({
    address: "127.0.0.1:0",
    services: [implement(proxyEngineService, proxyHandlers({ mounts }))],
  });
  const proxy = connect(proxyEngineService, server.address, { timeoutMs: 20_000 });
  const engine = { address: volume.address, volumeName: "vol", engineName: "vol-e-0" };
  try {
    await work({ volume, proxy, engine, remounted });
  } finally {
    proxy.close();
    await server.close();
  }
}

/** The request of the last call of a method. */
function lastCall(volume: FakeVolume, method: string): Record<string, unknown> {
  const found = volume.calls.findLast((call) => call.method === method);
  assert.ok(found, `${method} was called`);
  return found.request;
}

function snapshots(...names: string[]): Record<string, ptypes.IDiskInfo> {
  const disks: Record<string, ptypes.IDiskInfo> = {
    "volume-head-001.img": { name: "volume-head-001.img", size: "4096" },
  };
  for (const name of names) {
    disks[`volume-snap-${name}.img`] = { name: `volume-snap-${name}.img`, size: "8192" };
  }
  return disks;
}

Deno.test("calls about the volume are calls of its engine", REDIALS, async () => {
  await proxied(async ({ volume, proxy, engine: proxyEngineRequest }) => {
    volume.controller = {
      metricsGet: () => ({ metrics: { readIOPS: 7 } }),
      volumeSnapshot: ({ name }) => ({ name: name || "made" }),
    };
    assert.equal((await proxy.unary("volumeGet", proxyEngineRequest)).volume?.name, "vol");
    const { version } = await proxy.unary("serverVersionGet", proxyEngineRequest);
    assert.equal(version?.controllerAPIVersion, 6);
    assert.equal((await proxy.unary("metricsGet", proxyEngineRequest)).metrics?.readIOPS, 7);
    await proxy.unary("volumeExpand", { proxyEngineRequest, expand: { size: 4096 } });
    assert.equal(lastCall(volume, "volumeExpand")["size"], 4096);
    await proxy.unary("volumeFrontendStart", { proxyEngineRequest, frontendStart: { frontend: "iscsi" } });
    assert.equal(lastCall(volume, "volumeFrontendStart")["frontend"], "iscsi");
    await proxy.unary("volumeFrontendShutdown", proxyEngineRequest);
    await proxy.unary("volumeUnmapMarkSnapChainRemovedSet", {
      proxyEngineRequest,
      unmapMarkSnap: { enabled: true },
    });
    assert.equal(lastCall(volume, "volumeUnmapMarkSnapChainRemovedSet")["enabled"], true);
    await proxy.unary("volumeSnapshotMaxCountSet", { proxyEngineRequest, count: { count: 5 } });
    assert.equal(lastCall(volume, "volumeSnapshotMaxCountSet")["count"], 5);
    await proxy.unary("volumeSnapshotMaxSizeSet", { proxyEngineRequest, size: { size: 8192 } });
    assert.equal(lastCall(volume, "volumeSnapshotMaxSizeSet")["size"], 8192);
    const made = await proxy.unary("volumeSnapshot", {
      proxyEngineRequest,
      snapshotVolume: { name: "s", labels: { a: "b" }, freezeFilesystem: true },
    });
    assert.equal(made.snapshot?.name, "s");
    assert.deepEqual(lastCall(volume, "volumeSnapshot")["labels"], { a: "b" });
    await proxy.unary("replicaRebuildConcurrentSyncLimitSet", { proxyEngineRequest, limit: 3 });
    assert.equal(lastCall(volume, "replicaRebuildConcurrentSyncLimitSet")["limit"], 3);
    const { limit } = await proxy.unary("replicaRebuildConcurrentSyncLimitGet", proxyEngineRequest);
    assert.equal(limit, 5);
  });
});

Deno.test(
  "an engine's failure reaches the caller with its code and text; a stranger's port is noticed",
  REDIALS,
  async () => {
    await proxied(async ({ volume, proxy, engine }) => {
      volume.controller = {
        volumeRevert: () => {
          throw new Error("cannot revert: frontend is up");
        },
        volumeSnapshot: () => {
          throw new RpcError(Code.ALREADY_EXISTS, "snapshot s is already existing");
        },
      };
      await assert.rejects(proxy.unary("snapshotRevert", { proxyEngineRequest: engine, name: "s" }), {
        code: Code.UNKNOWN,
        message: "cannot revert: frontend is up",
      });
      const request = { proxyEngineRequest: engine, snapshotVolume: { name: "s" } };
      await assert.rejects(proxy.unary("volumeSnapshot", request), {
        code: Code.ALREADY_EXISTS,
        message: "snapshot s is already existing",
      });
      await assert.rejects(proxy.unary("volumeGet", { ...engine, volumeName: "other" }), {
        code: Code.FAILED_PRECONDITION,
        message: /^incorrect volume name other/,
      });
      await assert.rejects(proxy.unary("volumeGet", { ...engine, address: "127.0.0.1:1" }), {
        code: Code.UNAVAILABLE,
      });
      for (const address of ["", "nonsense", "http://x:1"]) {
        await assert.rejects(proxy.unary("volumeGet", { ...engine, address }), {
          code: Code.INVALID_ARGUMENT,
        });
      }
      await assert.rejects(proxy.unary("volumeExpand", {}), { code: Code.INVALID_ARGUMENT });
      await assert.rejects(proxy.unary("volumeExpand", { proxyEngineRequest: engine }), {
        code: Code.INVALID_ARGUMENT,
      });
    });
  },
);

Deno.test("snapshots are listed, removed, purged and hashed over all replicas", REDIALS, async () => {
  await proxied(async ({ volume, proxy, engine: proxyEngineRequest }) => {
    for (const one of volume.all) {
      one.state = {
        ...one.state,
        head: "volume-head-001.img",
        chain: ["volume-head-001.img", "volume-snap-s1.img"],
        disks: snapshots("s1"),
      };
      one.agent = {
        snapshotHashStatus: () => ({ state: "complete", checksum: one.port, silentlyCorrupted: true }),
        snapshotPurgeStatus: () => ({ state: "complete", progress: 100 }),
      };
    }
    const { disks } = await proxy.unary("snapshotList", proxyEngineRequest);
    assert.deepEqual(Object.keys(disks).sort(), ["s1", "volume-head"]);
    assert.equal(disks["s1"]?.size, "8192");
    await proxy.unary("snapshotRemove", { proxyEngineRequest, names: ["s1"] });
    const marked = volume.calls.filter(({ method }) => method === "diskMarkAsRemoved");
    assert.deepEqual(marked.map(({ who }) => who).sort(), volume.all.map(({ port }) => port).sort());
    await assert.rejects(proxy.unary("snapshotRemove", { proxyEngineRequest }), {
      code: Code.INVALID_ARGUMENT,
    });
    await proxy.unary("snapshotPurge", { proxyEngineRequest, skipIfInProgress: true });
    const purge = (await proxy.unary("snapshotPurgeStatus", proxyEngineRequest)).status;
    assert.deepEqual(Object.keys(purge).sort(), volume.all.map(({ address }) => address).sort());
    assert.equal(Object.values(purge)[0]?.progress, 100);
    await proxy.unary("snapshotHash", { proxyEngineRequest, snapshotName: "s1", rehash: true });
    assert.deepEqual(lastCall(volume, "snapshotHash"), { snapshotName: "s1", rehash: true });
    const hash = (await proxy.unary("snapshotHashStatus", { proxyEngineRequest, snapshotName: "s1" })).status;
    for (const { address, port } of volume.all) {
      assert.equal(hash[address]?.checksum, port);
      assert.equal(hash[address]?.silentlyCorrupted, true);
    }
    const { status } = await proxy.unary("snapshotCloneStatus", proxyEngineRequest);
    assert.equal(Object.keys(status).length, 2);
    await proxy.unary("snapshotClone", {
      proxyEngineRequest,
      fromEngineAddress: volume.address,
      fromVolumeName: "vol",
      snapshotName: "s1",
    });
    assert.equal(lastCall(volume, "snapshotClone")["snapshotFileName"], "s1");
  });
});

Deno.test("replicas are listed, added with a rebuild, changed and removed", REDIALS, async () => {
  await proxied(
    async ({ volume, proxy, engine: proxyEngineRequest }) => {
      const [first, second] = volume.all;
      assert.ok(first && second);
      second.state = { ...second.state, state: "closed" };
      const file = "volume-snap-s1.img";
      volume.controller = {
        replicaPrepareRebuild: () => ({
          syncFileInfoList: [{ fromFileName: file, toFileName: file, actualSize: 4096 }],
        }),
      };
      const replicaAddress = second.address;
      await proxy.unary("replicaAdd", { proxyEngineRequest, replicaAddress, fastSync: true });
      assert.equal(second.mode, ptypes.ReplicaMode.RW);
      assert.equal(lastCall(volume, "filesSync")["fastSync"], true);
      const { replicaList } = await proxy.unary("replicaList", proxyEngineRequest);
      assert.deepEqual(
        replicaList?.replicas?.map(({ address }) => address?.address),
        volume.all.map(({ address }) => address),
      );
      second.mode = ptypes.ReplicaMode.WO;
      second.agent = {
        replicaRebuildStatus: () => ({ isRebuilding: true, progress: 40, fromReplicaAddressList: ["a"] }),
      };
      const { status } = await proxy.unary("replicaRebuildingStatus", proxyEngineRequest);
      assert.deepEqual([status[replicaAddress]?.progress, status[replicaAddress]?.fromReplicaAddressList], [
        40,
        ["a"],
      ]);
      await proxy.unary("replicaVerifyRebuild", { proxyEngineRequest, replicaAddress });
      assert.equal(second.mode, ptypes.ReplicaMode.RW);
      const mode = ptypes.ReplicaMode.ERR;
      await proxy.unary("replicaModeUpdate", { proxyEngineRequest, replicaAddress, mode });
      assert.deepEqual(lastCall(volume, "replicaUpdate"), {
        address: { address: replicaAddress },
        mode,
      });
      await proxy.unary("replicaRemove", { proxyEngineRequest, replicaAddress });
      assert.equal(volume.listed.length, 1);
      await assert.rejects(proxy.unary("replicaRebuildingQosSet", { proxyEngineRequest, qosLimitMbps: 1 }), {
        code: Code.UNIMPLEMENTED,
      });
    },
    2,
    1,
  );
});

Deno.test(
  "a backup is made by one complete replica; its access data goes with the call and nowhere else",
  REDIALS,
  async () => {
    await proxied(async ({ volume, proxy, engine: proxyEngineRequest }) => {
      const [first, second] = volume.all;
      assert.ok(first && second);
      first.mode = ptypes.ReplicaMode.WO;
      second.state = { ...second.state, disks: snapshots("s1") };
      second.agent = {
        backupCreate: () => ({ backup: "backup-1", isIncremental: true }),
        backupStatus: () => ({ progress: 30, state: "in_progress", snapshotName: "s1" }),
      };
      const request = {
        proxyEngineRequest,
        snapshotName: "s1",
        backupTarget: "s3://b@r/",
        labels: { k: "v=w" },
        envs: ["AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=a=b"],
        concurrentLimit: 4,
      };
      const made = await proxy.unary("snapshotBackup", request);
      assert.deepEqual({ ...made }, { backupId: "backup-1", replica: second.address, isIncremental: true });
      const sent = lastCall(volume, "backupCreate");
      assert.deepEqual(sent["credential"], { AWS_ACCESS_KEY_ID: "id", AWS_SECRET_ACCESS_KEY: "a=b" });
      assert.deepEqual(sent["labels"], ["k=v=w"]);
      assert.equal(Deno.env.get("AWS_SECRET_ACCESS_KEY"), undefined);
      const asked = { proxyEngineRequest, backupName: "backup-1", replicaAddress: second.address };
      const status = await proxy.unary("snapshotBackupStatus", asked);
      assert.deepEqual([status.progress, status.replicaAddress], [30, second.address]);
      await assert.rejects(proxy.unary("snapshotBackupStatus", { ...asked, replicaAddress: first.address }), {
        message: /unknown mode replica/,
      });
      await assert.rejects(proxy.unary("snapshotBackup", { ...request, envs: ["PATH=/evil"] }), {
        code: Code.INVALID_ARGUMENT,
        message: /"PATH" is no known key/,
      });
      await assert.rejects(proxy.unary("snapshotBackup", { ...request, snapshotName: "s9" }), {
        message: /volume-snap-s9\.img not found/,
      });
    });
  },
);

Deno.test("errors about access data do not repeat it", () => {
  for (const env of ["=secret", "secret", "SECRET=very-secret"]) {
    assert.throws(
      () => credentialsOf([env]),
      (error) => error instanceof RpcError && !error.message.includes("secret"),
      env,
    );
  }
});

Deno.test(
  "a restore goes to all replicas and the one snapshot; failures of replicas are told apart",
  REDIALS,
  async () => {
    await proxied(async ({ volume, proxy, engine: proxyEngineRequest }) => {
      for (const one of volume.all) one.state = { ...one.state, disks: snapshots("base") };
      using store = tempDir();
      const url = await storedVolume(store.path, 1048576);
      const request = { proxyEngineRequest, url, envs: ["AWS_CERT=c"] };
      assert.equal((await proxy.unary("backupRestore", request)).taskError.length, 0);
      const restores = volume.calls.filter(({ method }) => method === "backupRestore");
      assert.equal(restores.length, 2);
      assert.equal(restores[0]?.request["snapshotDiskName"], "volume-snap-base.img");
      const [first] = volume.all;
      assert.ok(first);
      first.agent = {
        backupRestore: () => {
          throw new Error("no space left on device");
        },
        restoreStatus: () => ({ isRestoring: true, destFileName: "f", progress: 9 }),
      };
      const { taskError } = await proxy.unary("backupRestore", request);
      assert.deepEqual(JSON.parse(new TextDecoder().decode(taskError)), {
        ReplicaErrors: [{ Address: first.address, Message: "no space left on device" }],
      });
      const { status } = await proxy.unary("backupRestoreStatus", proxyEngineRequest);
      assert.deepEqual([status[first.address]?.filename, status[first.address]?.progress], ["f", 9]);
      for (const one of volume.all) one.state = { ...one.state, disks: snapshots("a", "b") };
      await assert.rejects(proxy.unary("backupRestore", request), { message: /started to purge snapshots/ });
      assert.equal(volume.calls.filter(({ method }) => method === "snapshotPurge").length, 2);
      volume.volume = { ...volume.volume, frontendState: "up" };
      await assert.rejects(proxy.unary("backupRestore", request), { message: /aborting restore/ });
      await assert.rejects(proxy.unary("backupRestoreFinish", { proxyEngineRequest }), {
        code: Code.UNIMPLEMENTED,
      });
    });
  },
);

/** A store with the record of one volume; returns the URL of a backup of it. */
async function storedVolume(directory: string, bytes: number): Promise<string> {
  await using target = await openTarget(`vfs://${directory}`, Credentials.from({}));
  const none = { labels: null, createdTime: "", lastBackupName: "", lastBackupAt: "", blockCount: 0 };
  const plain = { backingImageName: "", backingImageChecksum: "", storageClassName: "", dataEngine: "v1" };
  await saveVolume(target, { name: "v", bytes, ...none, ...plain, compression: "lz4", others: {} });
  return `vfs://${directory}?backup=x&volume=v`;
}

Deno.test(
  "a volume has the size of the backup that is restored into it, or that and the header of an encrypted volume",
  REDIALS,
  async () => {
    await proxied(async ({ volume, proxy, engine: proxyEngineRequest }) => {
      for (const one of volume.all) one.state = { ...one.state, disks: snapshots("base") };
      using store = tempDir();
      const bytes = 64 * 1024 ** 2, header = 16 * 1024 ** 2;
      const url = await storedVolume(store.path, bytes);
      const restore = async (
        size: number,
        needCorrectEncryptedVolumeSize: boolean,
        last = "",
      ): Promise<number> => {
        const begun = volume.calls.length;
        volume.volume = { ...volume.volume, size };
        for (const one of volume.all) {
          one.agent = { ...one.agent, restoreStatus: () => ({ lastRestored: last }) };
        }
        await proxy.unary("backupRestore", { proxyEngineRequest, url, needCorrectEncryptedVolumeSize });
        return volume.calls.slice(begun).filter(({ method }) => method === "backupRestore").length;
      };
      assert.equal(await restore(bytes, false), 2);
      assert.equal(await restore(bytes + header, true), 2);
      const refused = (size: number, larger: boolean, message: RegExp, last?: string): Promise<void> =>
        assert.rejects(restore(size, larger, last), { message });
      await refused(bytes + header, false, /make a volume of 67108864 bytes/);
      await refused(bytes - 4096, false, /make a volume of 67108864 bytes/);
      await refused(bytes, true, /make a volume of 83886080 bytes/);
      await refused(bytes - 4096, false, /need to expand the DR volume to 67108864 bytes/, "older");
    });
  },
);

Deno.test("the other data engine is declined; a remount is the node's", REDIALS, async () => {
  await proxied(async ({ proxy, engine, remounted }) => {
    await proxy.unary("remountReadOnlyVolume", { volumeName: "vol" });
    assert.deepEqual(remounted, ["vol"]);
    await proxy.unary("cleanupBackupMountPoints", {});
    const declined = { code: Code.UNIMPLEMENTED };
    const v2 = { ...engine, dataEngine: imrpc.DataEngine.DATA_ENGINE_V2 };
    await assert.rejects(proxy.unary("volumeGet", v2), declined);
    const old = { ...engine, backendStoreDriver: imrpc.BackendStoreDriver.v2 };
    await assert.rejects(proxy.unary("volumeGet", old), declined);
    await assert.rejects(proxy.unary("sPDKBackingImageList", {}), declined);
    await assert.rejects(proxy.stream("sPDKBackingImageWatch", {}).next(), declined);
  }, 1);
});
