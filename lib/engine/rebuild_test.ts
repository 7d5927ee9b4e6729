import assert from "node:assert/strict";
import { Op } from "../block/device.ts";
import { Pace } from "./pace.ts";
import { Rebuild } from "./rebuild.ts";
import { Bench, FEATURES, VOLUME_BYTES } from "./test_kit.ts";

/** Two complete copies with data, and a third one that is empty and gets all writes. */
class Filling implements Disposable {
  readonly bench: Bench;
  readonly pace: Pace;
  readonly rebuild: Rebuild;
  readonly ends: string[] = [];

  constructor() {
    this.bench = new Bench({ replicas: 3, bare: true });
    const { bench } = this;
    for (const replica of bench.replicas) bench.dial(replica, FEATURES);
    bench.until("all replicas to be connected", () => bench.connected.length === 3);
    for (const { disk } of bench.replicas.slice(0, 2)) disk.fill(7);
    bench.enter(() => {
      for (const i of [0, 1]) bench.volume.admit(bench.replicas[i].name, "RW");
      bench.volume.start(1);
    });
    bench.until("the members to be recorded", () => bench.recorded.length > 0);
    bench.enter(() => bench.volume.admit(bench.replicas[2].name, "WO"));
    const { process: { io }, pool, volume } = bench, link = volume.replicas.find(bench.replicas[2].name);
    this.pace = new Pace(io);
    this.rebuild = new Rebuild(io, pool, volume, link, (failure) => this.ends.push(failure), this.pace);
  }

  /** Milliseconds of the simulated clock until `condition`. */
  took(condition: () => boolean): number {
    const { bench } = this, { io } = bench.process, began = io.now();
    bench.until("it", condition);
    return io.now() - began;
  }

  /** The third copy has what the others have. */
  assertFilled(): void {
    const [first, , third] = this.bench.replicas;
    assert.deepEqual(this.ends, [""]);
    assert.ok(first.disk.every((byte, i) => byte === third.disk[i]));
  }

  [Symbol.dispose](): void {
    this.bench[Symbol.dispose]();
  }
}

Deno.test("a limit holds the filling of a copy back, and hosts go on beside it", () => {
  using it = new Filling();
  it.pace.limit = VOLUME_BYTES / 4;
  it.bench.enter(() => it.rebuild.start());
  const half = it.took(() => it.rebuild.progress.done >= VOLUME_BYTES / 2);
  assert.ok(half > 1500 && half < 2500, `half of what takes four seconds took ${half} ms`);
  it.bench.ask(Op.WRITE, VOLUME_BYTES - 8192, 4096);
  it.bench.ask(Op.UNMAP, 4096, 4096);
  const { name, total, limit, perSecond } = it.rebuild.progress;
  assert.deepEqual([name, total, limit], [it.bench.replicas[2].name, VOLUME_BYTES, VOLUME_BYTES / 4]);
  assert.ok(perSecond > limit * 0.8 && perSecond < limit * 1.5, `${perSecond} bytes per second`);
  const rest = it.took(() => it.ends.length > 0);
  assert.ok(rest > 1500 && rest < 2500, `the other half took ${rest} ms`);
  it.assertFilled();
});

Deno.test("a limit that changes counts at once, and without one nothing waits", () => {
  using it = new Filling();
  it.pace.limit = 1;
  it.bench.enter(() => it.rebuild.start());
  it.took(() => it.rebuild.progress.done > 0);
  it.pace.limit = 0;
  const rest = it.took(() => it.ends.length > 0);
  assert.ok(rest < 1000, `the rest took ${rest} ms`);
  it.assertFilled();
});

Deno.test("a copy that goes while a limit holds its filling back ends it, once", () => {
  using it = new Filling();
  it.pace.limit = 1;
  it.bench.enter(() => it.rebuild.start());
  it.took(() => it.rebuild.progress.done > 0);
  it.bench.enter(() => it.rebuild.link.close("its disk is gone"));
  assert.ok(it.took(() => it.ends.length > 0) < 1000);
  it.bench.ask(Op.WRITE, 0, 4096);
  it.took(() => it.bench.process.io.now() > 10_000);
  assert.deepEqual(it.ends, ["its disk is gone"]);
});
