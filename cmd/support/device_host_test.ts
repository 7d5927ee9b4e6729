import assert from "node:assert/strict";
import { SystemRunner } from "../../lib/host/command.ts";
import type { HostContext } from "../../lib/host/context.ts";
import { readDeviceRecord } from "../../lib/host/device_record.ts";
import { DeviceBusyError } from "../../lib/host/in_use.ts";
import { keptLog } from "../../lib/host/test_kit.ts";
import type { Attachment, Carrier, CarrierKind, Serve } from "./carriers/carrier.ts";
import { DeviceHost } from "./device_host.ts";
import { LoopHost } from "./loop_host.ts";
import { peerTest } from "../../tests/support/conditional.ts";
import { type TempDir, tempDir } from "../../tests/support/temp.ts";

const ATTACHED: Attachment = {
  device: { name: "drover9", major: 7, minor: 4009 },
  endpoint: "there",
  details: { port: 5 },
};

/** A carrier that tells what it is asked to do. */
class FakeCarrier implements Carrier {
  failing = "";
  resumes: Attachment | undefined;

  constructor(readonly kind: CarrierKind, readonly told: string[]) {}

  #do(what: string): void {
    this.told.push(`${this.kind} ${what}`);
    if (this.failing === what) throw new Error(`${what} failed`);
  }

  clean(): Promise<string[]> {
    this.#do("clean");
    return Promise.resolve([]);
  }

  async attach(serve: Serve): Promise<Attachment> {
    await serve("socket", { listen: { kind: "tcp", host: "h", port: 0 } });
    this.#do("attach");
    return ATTACHED;
  }

  async resume(serve: Serve): Promise<Attachment | undefined> {
    await serve("socket", {});
    this.#do("resume");
    return this.resumes;
  }

  detach(): Promise<void> {
    this.#do("detach");
    return Promise.resolve();
  }

  grow(_attachment: Attachment, bytes: number): Promise<void> {
    this.#do(`grow ${bytes}`);
    return Promise.resolve();
  }
}

/** A node with one volume; each {@linkcode Node.engine} is a process of its own. */
class Node {
  readonly told: string[] = [];
  readonly carriers = new Map<string, FakeCarrier>();
  readonly context: HostContext;

  constructor(readonly directory: TempDir) {
    const runner = new SystemRunner();
    const host = { run: runner.run.bind(runner), sharesNetwork: true, root: "" };
    const { log } = keptLog(), sys = directory.join("sys");
    this.context = { runner, host, log, sys, proc: "/proc", sleep: () => Promise.resolve() };
    for (const kind of ["iscsi", "nbd", "tgt"] as const) {
      this.carriers.set(kind, new FakeCarrier(kind, this.told));
    }
  }

  get path(): string {
    return this.directory.join("dev/vol");
  }

  engine(generation: number): DeviceHost {
    const { context, directory } = this;
    return new DeviceHost({
      volume: "vol",
      run: directory.path,
      directory: directory.join("dev"),
      context,
      carrier: "auto",
      generation: () => generation,
      loop: new LoopHost("vol", context.log),
      makeCarrier: (kind) => this.carrier(kind),
    });
  }

  carrier(kind: string): FakeCarrier {
    const found = this.carriers.get(kind);
    assert.ok(found);
    return found;
  }

  async start(host: DeviceHost, kind = "nbd-blockdev"): Promise<string> {
    const inThread = (options: unknown) => {
      this.told.push(`serve ${(options as { serve: string }).serve}`);
      return Promise.resolve("in thread");
    };
    return await host.start(kind, { listen: { kind: "unix", path: "/x" } }, inThread, () => {
      this.told.push("unserve");
      return Promise.resolve();
    });
  }

  exists(): boolean {
    try {
      return Deno.lstatSync(this.path).isBlockDevice === true;
    } catch {
      return false;
    }
  }

  take(): string[] {
    return this.told.splice(0);
  }
}

const unserve = () => Promise.resolve();

peerTest("a device gets its name, and loses it again before it goes away", { needs: ["root"] }, async () => {
  using directory = tempDir();
  const node = new Node(directory), host = node.engine(1);
  assert.equal(await node.start(host), node.path);
  assert.deepEqual(node.take(), ["nbd clean", "serve socket", "nbd attach"]);
  assert.equal(node.exists(), true);
  await host.grow("nbd-blockdev", 8192);
  await host.stop("nbd-blockdev", unserve);
  assert.deepEqual(node.take(), ["nbd grow 8192", "nbd detach"]);
  assert.equal(node.exists(), false);
  assert.equal(readDeviceRecord(directory.path, "vol"), undefined);
});

peerTest("an engine goes on with the device of the one before it", { needs: ["root"] }, async () => {
  using directory = tempDir();
  const node = new Node(directory);
  await node.start(node.engine(4));
  node.take();
  node.carrier("nbd").resumes = ATTACHED;
  const next = node.engine(5);
  assert.equal(await node.start(next), node.path);
  assert.deepEqual(node.take(), ["serve socket", "nbd resume"]);
  assert.equal(readDeviceRecord(directory.path, "vol")?.generation, 5);
  await next.stop("nbd-blockdev", unserve);
  assert.deepEqual(node.take(), ["nbd detach"]);
});

peerTest("a device is not used again when another engine ran in between", { needs: ["root"] }, async () => {
  using directory = tempDir();
  const node = new Node(directory);
  await node.start(node.engine(4));
  node.take();
  node.carrier("nbd").resumes = ATTACHED;
  await node.start(node.engine(6));
  assert.deepEqual(node.take(), ["nbd clean", "serve socket", "nbd attach"]);
});

peerTest("what cannot be used again is removed, and what was served for it is stopped", {
  needs: ["root"],
}, async () => {
  using directory = tempDir();
  const node = new Node(directory);
  await node.start(node.engine(1));
  node.take();
  node.carrier("nbd").failing = "resume";
  await node.start(node.engine(2));
  assert.deepEqual(node.take(), [
    "serve socket",
    "nbd resume",
    "unserve",
    "nbd clean",
    "serve socket",
    "nbd attach",
  ]);
});

peerTest("a device that another carrier left is removed by that one", { needs: ["root"] }, async () => {
  using directory = tempDir();
  const node = new Node(directory);
  await node.start(node.engine(1), "iscsi-blockdev");
  node.take();
  await node.start(node.engine(2), "nbd-blockdev");
  assert.deepEqual(node.take(), ["iscsi clean", "nbd clean", "serve socket", "nbd attach"]);
});

Deno.test("a carrier that fails leaves no name and no record", async () => {
  using directory = tempDir();
  const node = new Node(directory);
  node.carrier("nbd").failing = "attach";
  await assert.rejects(node.start(node.engine(1)), /attach failed/);
  assert.equal(node.exists(), false);
  assert.equal(readDeviceRecord(directory.path, "vol"), undefined);
});

peerTest("a name that cannot be made takes the device away again", { needs: ["root"] }, async () => {
  using directory = tempDir();
  const node = new Node(directory);
  Deno.mkdirSync(node.path, { recursive: true });
  await assert.rejects(node.start(node.engine(1)));
  assert.deepEqual(node.take().at(-1), "nbd detach");
  assert.equal(readDeviceRecord(directory.path, "vol"), undefined);
});

peerTest("a device in use stays until the process ends", { needs: ["root"] }, async () => {
  using directory = tempDir();
  const node = new Node(directory), host = node.engine(1);
  await node.start(host);
  node.take();
  // Somebody has the file open that the name leads to.
  Deno.removeSync(node.path);
  Deno.writeTextFileSync(node.path, "");
  {
    using _user = Deno.openSync(node.path);
    await assert.rejects(host.stop("nbd-blockdev", unserve), (error) => {
      assert.ok(error instanceof DeviceBusyError);
      assert.match(error.message, /is in use: open in process \d+; unmount or close/);
      return true;
    });
    assert.deepEqual(node.take(), []);
  }
  await host.stop("nbd-blockdev", unserve);
  assert.deepEqual(node.take(), ["nbd detach"]);
});

peerTest(
  "in a live upgrade the device goes over, and the old engine forgets it",
  { needs: ["root"] },
  async () => {
    using directory = tempDir();
    const node = new Node(directory), old = node.engine(1), next = node.engine(2);
    await node.start(old);
    const given = JSON.parse(JSON.stringify(old.give("nbd-blockdev")));
    const options = next.optionsFor("nbd-blockdev", given, {
      listen: { kind: "unix", path: "/y" },
      chap: null,
    });
    assert.deepEqual(options, { listen: { kind: "tcp", host: "h", port: 5 }, chap: null, serve: "socket" });
    next.take("nbd-blockdev", given);
    old.forget();
    node.take();
    await old.stop("nbd-blockdev", unserve);
    assert.deepEqual(node.take(), []);
    assert.equal(readDeviceRecord(directory.path, "vol")?.generation, 2);
    await next.stop("nbd-blockdev", unserve);
    assert.deepEqual(node.take(), ["nbd detach"]);
  },
);

Deno.test("kinds without a share of the host's go straight to the volume thread", async () => {
  using directory = tempDir();
  const node = new Node(directory), host = node.engine(1);
  assert.equal(await node.start(host, "iscsi"), "in thread");
  await host.stop("iscsi", unserve);
  assert.deepEqual(node.take(), ["serve undefined"]);
});
