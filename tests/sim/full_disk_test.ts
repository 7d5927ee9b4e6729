import assert from "node:assert/strict";
import { Op } from "../../lib/block/device.ts";
import { Controller } from "../../lib/engine/controller.ts";
import { Errno } from "../../lib/io/errno.ts";
import { SimCluster } from "../../lib/io/sim/mod.ts";
import { createLogger, Level } from "../../lib/log/log.ts";
import { Calls, simBackend, SimEngine, SimReplica } from "./machine.ts";

const BYTES = 1024 * 1024, BLOCK = 4096;
/** After this a replica has noticed that its engine is gone, virtual ms. */
const PATIENCE_MS = 80_000;

/** A volume of two copies whose world goes on only while somebody waits. */
class Lab implements Disposable {
  readonly cluster = new SimCluster(1);
  readonly calls = new Calls(this.cluster);
  readonly host = this.cluster.host("e");
  readonly replicas = ["r1", "r2"].map((name) => new SimReplica(this.cluster, this.cluster.host(name), {}));
  engine!: SimEngine;
  control!: Controller;

  constructor() {
    for (const replica of this.replicas) replica.start(BYTES);
  }

  async until<T>(promise: Promise<T>): Promise<T> {
    let over = false;
    void promise.then(() => {}, () => {}).then(() => over = true);
    for (const limit = this.cluster.now + 300_000; !over;) {
      for (let i = 0; i < 40 && !over; i++) await null;
      this.calls.moved = 0;
      if (!over && !this.cluster.runUntil(() => over || this.calls.moved > 0, limit)) {
        throw new Error("it hangs");
      }
    }
    return await promise;
  }

  async start(allowMissing = false): Promise<void> {
    const events: { engine?: SimEngine } = {};
    const engine = new SimEngine(this.calls, this.host, BYTES, (event) => {
      if (events.engine === this.engine) this.control.onEvent(event);
    });
    events.engine = this.engine = engine;
    engine.spawn();
    this.control = new Controller(engine, {
      name: "vol",
      bytes: BYTES,
      currentBytes: 0,
      revisionCounterDisabled: true,
      salvage: false,
      upgrade: false,
      frontend: "",
      allowMissing,
      backend: (address) => {
        const replica = this.replicas.find(({ name }) => name === address);
        assert.ok(replica);
        return simBackend(this.calls, engine, replica);
      },
      log: createLogger({ level: Level.ERROR, format: "text", wallClock: () => 0, write: () => {} }),
      wallClock: () => 1.7e12,
      newName: () => "auto",
    });
    await this.until(this.control.start(this.replicas.filter(({ alive }) => alive).map(({ name }) => name)));
  }

  /** A request of one block; undefined when it is not answered within a minute. */
  ask(op: Op, block: number, value = 0): { result: number | undefined; value: number } {
    const { thread, pool, process } = this.engine,
      answer = { result: undefined as number | undefined, value: -1 };
    assert.ok(thread && pool && process);
    const at = pool.allocate(BLOCK), { u8 } = process.io.arena;
    u8.fill(value, at, at + BLOCK);
    const who = {
      complete: (_: number, result: number) => {
        answer.result = result;
        answer.value = u8[at];
        pool.release(at);
      },
    };
    process.enter(() => thread.volume.submit(op, block * BLOCK, BLOCK, at, who, 0));
    this.cluster.runUntil(() => answer.result !== undefined, this.cluster.now + 60_000);
    return answer;
  }

  [Symbol.dispose](): void {
    this.cluster[Symbol.dispose]();
  }
}

Deno.test("the last copy records on a full disk that it is the last: writes go on where there is space", async () => {
  using lab = new Lab();
  const [first, second] = lab.replicas;
  await lab.start();
  assert.equal(lab.ask(Op.WRITE, 0, 1).result, BLOCK);
  first.host.disk.setFree(0);
  second.kill();
  // What is there already can be written over, and is acknowledged.
  assert.equal(lab.ask(Op.WRITE_DURABLE, 0, 2).result, BLOCK);
  assert.equal(lab.ask(Op.WRITE, 1, 3).result, -Errno.ENOSPC);
  assert.deepEqual(lab.ask(Op.READ, 0), { result: BLOCK, value: 2 });
  // The power goes, everywhere: the copy that missed the write is not believed.
  lab.engine.process?.kill();
  lab.host.powerCut();
  for (const replica of lab.replicas) replica.powerCut();
  lab.cluster.run(lab.cluster.now + PATIENCE_MS);
  lab.host.boot();
  for (const replica of lab.replicas) {
    replica.host.boot();
    replica.start();
  }
  // The disk is full as before: the volume starts all the same.
  first.host.disk.setFree(0);
  await lab.start();
  assert.deepEqual(lab.control.replicas().map(({ mode }) => mode), ["RW", "ERR"]);
  assert.match(lab.control.replicas()[1].reason, /missed writes/);
  assert.deepEqual(lab.ask(Op.READ, 0), { result: BLOCK, value: 2 });
});

Deno.test("a volume whose disks are full starts again after an orderly stop", async () => {
  using lab = new Lab();
  await lab.start();
  assert.equal(lab.ask(Op.WRITE, 0, 1).result, BLOCK);
  await lab.until(lab.control.shutdown());
  lab.engine.process?.kill();
  for (const { host } of lab.replicas) host.disk.setFree(0);
  await lab.start();
  assert.deepEqual(lab.control.replicas().map(({ mode }) => mode), ["RW", "RW"]);
  assert.equal(lab.ask(Op.WRITE, 0, 2).result, BLOCK);
  assert.equal(lab.ask(Op.UNMAP, 0).result, BLOCK, "and space can be given back");
});

Deno.test("an empty copy that is left alone is no new volume, unless that is allowed", async () => {
  using lab = new Lab();
  const [first, second] = lab.replicas;
  await lab.start();
  // It is out before it has recorded anything, and the other one is written to.
  assert.equal(lab.ask(Op.WRITE, 0, 1).result, BLOCK);
  await lab.until(lab.control.shutdown());
  lab.engine.process?.kill();
  first.kill();
  second.kill();
  lab.cluster.run(lab.cluster.now + 1000);
  second.wipe(BYTES);
  await lab.until(
    new Promise<void>((resolve) => {
      // As the creation left it: found beside the first one, and no more.
      second.callee.process?.enter(() => {
        const reply = { ok: () => resolve(), error: (error: unknown) => assert.fail(String(error)) };
        second.callee.handlers["open"]({ expectedBytes: 0, copies: ["the-first", "the-second"] }, {
          ok: () => second.callee.handlers["close"]({}, reply),
          error: reply.error,
        });
      });
    }),
  );
  await assert.rejects(
    lab.start(),
    /empty .* begun with .* that are not here \(the-first.*--allow-missing-replicas/,
  );
  lab.engine.process?.kill();
  await lab.start(true);
  assert.deepEqual(lab.ask(Op.READ, 0), { result: BLOCK, value: 0 });
});
