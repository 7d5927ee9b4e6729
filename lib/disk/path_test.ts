/** The finer points of the data path, in the simulation, where the order of events can be arranged. */
import assert from "node:assert/strict";
import { Errno } from "../io/errno.ts";
import { SimCluster, type SimHost, type SimIo, type SimOverrides } from "../io/sim/mod.ts";
import type { OpenReplicaOptions } from "./open_options.ts";
import { ReplicaDisk } from "./replica_disk.ts";
import { REQUEST_SLOTS } from "./requests.ts";
import { BLOCK, block, type HandmadeReplica, make } from "./test_kit.ts";

const DIRECTORY = "/replica";
const HEAD = "volume-head-000.img";
const VOLUME = 1024 * 1024;
const SINGLE: HandmadeReplica = { size: VOLUME, disks: [{ name: HEAD }] };
const CHAIN: HandmadeReplica = {
  size: VOLUME,
  disks: [
    { name: "volume-snap-a.img", blocks: new Map(Array.from({ length: 32 }, (_, n) => [n, block(1)])) },
    { name: HEAD, parent: "volume-snap-a.img" },
  ],
};

/** A replica in a simulated process; operations are counted by name and file. */
class Bench {
  readonly results: { name: string; result: number }[] = [];
  readonly operations: string[] = [];
  readonly world: SimCluster;
  readonly host: SimHost;
  io!: SimIo;
  disk!: ReplicaDisk;
  buffers = 0;

  constructor(
    seed: number,
    replica: HandmadeReplica,
    options: OpenReplicaOptions = {},
    world: SimOverrides = {},
  ) {
    this.world = new SimCluster(seed, world);
    this.host = this.world.host("a");
    this.host.spawn("replica", (io) => {
      make(io.files, DIRECTORY, replica);
      this.io = io;
      this.disk = ReplicaDisk.open(io, DIRECTORY, options);
      this.buffers = io.arena.reserve(3 * 1024 * 1024, BLOCK);
    }, {
      arenaBytes: 12 * 1024 * 1024,
      onMutation: (name, path) => this.operations.push(`${name} ${path.slice(path.lastIndexOf("/") + 1)}`),
    });
  }

  /** Runs code in the process. */
  enter(code: () => void): void {
    [...this.host.processes][0].enter(code);
  }

  note(name: string) {
    return { complete: (_tag: number, result: number) => void this.results.push({ name, result }) };
  }

  flush(name: string): void {
    this.disk.flush(this.note(name), 0);
  }

  write(
    name: string,
    offset: number,
    length: number,
    fill: number,
    at = this.buffers,
    durable = false,
  ): void {
    this.io.arena.u8.fill(fill, at, at + length);
    this.disk.write(offset, length, at, durable, this.note(name), 0);
  }

  /** Lets everything happen. */
  settle(): void {
    this.world.runToEnd();
    assert.equal(this.disk.underWay, 0);
  }

  /** The first byte of each block of a range. */
  read(first: number, count: number): number[] {
    const at = this.buffers + 2 * 1024 * 1024;
    let done = -1;
    this.enter(() =>
      this.disk.read(
        first * BLOCK,
        count * BLOCK,
        at,
        { complete: (_tag, result) => void (done = result) },
        0,
      )
    );
    this.settle();
    assert.equal(done, count * BLOCK);
    return Array.from({ length: count }, (_, n) => this.io.arena.u8[at + n * BLOCK]);
  }

  count(operation: string): number {
    return this.operations.filter((one) => one === operation).length;
  }

  result(name: string): number | undefined {
    return this.results.find((one) => one.name === name)?.result;
  }

  [Symbol.dispose](): void {
    this.world[Symbol.dispose]();
  }
}

Deno.test("flushes share syncs, and there is none when nothing was written", () => {
  const sync = { minMs: 1000, meanMs: 0, stallChance: 0, stallMs: 0 };
  using bench = new Bench(1, SINGLE, { revisionCounter: false }, { disk: { sync } });
  const syncs = () => bench.operations.filter((one) => one === `syncData ${HEAD}`).length;
  bench.enter(() => bench.flush("clean"));
  bench.settle();
  assert.equal(syncs(), 0);
  bench.enter(() => bench.write("w", 0, BLOCK, 1));
  bench.settle();
  bench.enter(() => {
    for (let i = 0; i < 10; i++) bench.flush(`f${i}`);
  });
  bench.settle();
  assert.equal(syncs(), 1, bench.operations.join("\n"));
  assert.equal(bench.results.length, 12);
  bench.enter(() => bench.flush("again"));
  bench.settle();
  assert.equal(syncs(), 1);
  // A write that completes while a sync runs is not covered by it: flushes from then on share the next one.
  bench.enter(() => {
    bench.write("w2", BLOCK, BLOCK, 2);
  });
  bench.settle();
  bench.enter(() => {
    bench.flush("first");
    const at = bench.buffers + BLOCK;
    bench.disk.write(0, BLOCK, at, false, {
      complete: () => {
        for (let i = 0; i < 5; i++) bench.flush(`late${i}`);
      },
    }, 0);
  });
  bench.settle();
  assert.equal(syncs(), 3);
  assert(bench.results.every(({ result }) => result >= 0));
  bench.disk.close();
});

Deno.test("a durable write needs no flush, an unmap does", () => {
  using bench = new Bench(2, SINGLE);
  bench.enter(() => bench.write("w", 0, BLOCK, 1, undefined, true));
  bench.settle();
  bench.enter(() => bench.flush("f"));
  bench.settle();
  assert.equal(bench.operations.filter((one) => one.startsWith("syncData")).length, 0);
  bench.enter(() => bench.disk.unmap(0, BLOCK, bench.note("u"), 0));
  bench.settle();
  assert.equal(bench.result("u"), BLOCK);
  bench.enter(() => bench.flush("f2"));
  bench.settle();
  assert.equal(bench.count(`syncData ${HEAD}`), 1);
  assert.equal(bench.count("syncData revision.counter"), 1);
});

Deno.test("a failed sync is final: everything fails from then on, and the replica is not closed as clean", () => {
  using bench = new Bench(3, SINGLE);
  bench.enter(() => bench.write("w", 0, BLOCK, 1));
  bench.settle();
  bench.host.disk.inject({ on: "sync", path: HEAD, errno: Errno.EIO, times: 1 });
  bench.enter(() => {
    bench.flush("f");
    bench.flush("f'");
  });
  bench.settle();
  bench.enter(() => {
    bench.flush("later");
    bench.write("write", 0, BLOCK, 1);
    bench.disk.read(0, BLOCK, bench.buffers, bench.note("read"), 0);
    bench.disk.unmap(0, BLOCK, bench.note("unmap"), 0);
  });
  bench.settle();
  for (const name of ["f", "f'", "later", "write", "read", "unmap"]) {
    assert.equal(bench.result(name), -Errno.EIO, name);
  }
  assert.equal(bench.disk.state, "error");
  assert.match(bench.disk.info().error, /a sync failed/);
  bench.enter(() => bench.disk.close());
  bench.enter(() => assert.equal(ReplicaDisk.inspect(bench.io, DIRECTORY).meta?.dirty, true));
});

Deno.test("the counter rises by one for each write and unmap, and a burst shares block writes", () => {
  using bench = new Bench(4, SINGLE);
  bench.enter(() => {
    for (let i = 0; i < 64; i++) bench.write(`w${i}`, i * BLOCK, BLOCK, i);
    bench.disk.unmap(0, 100, bench.note("u"), 0);
  });
  bench.settle();
  assert.equal(bench.results.length, 65);
  assert.equal(bench.disk.info().revisionCounter, 65);
  const writes = bench.count("write revision.counter");
  assert(writes > 0 && writes < 65, `${writes} block writes`);
});

Deno.test("no write is acknowledged before the counter says so on disk", () => {
  for (let seed = 1; seed <= 20; seed++) {
    using bench = new Bench(seed, SINGLE);
    let acknowledged = 0;
    const who = {
      complete: (_tag: number, result: number) => {
        assert.equal(result, BLOCK);
        acknowledged++;
        const text = new TextDecoder().decode(bench.io.files.readWhole(`${DIRECTORY}/revision.counter`));
        assert(Number(text.replaceAll("\0", "")) >= acknowledged, `${text} < ${acknowledged}`);
        if (acknowledged < 100) {
          bench.disk.write((acknowledged % 9) * BLOCK, BLOCK, bench.buffers, false, who, 0);
        }
      },
    };
    bench.enter(() => {
      for (let i = 0; i < 8; i++) bench.disk.write(i * BLOCK, BLOCK, bench.buffers, false, who, 0);
    });
    bench.settle();
    assert.equal(bench.disk.info().revisionCounter, acknowledged);
  }
});

Deno.test("a failed counter write fails its requests and makes the replica bad; a failed data write is not counted", () => {
  using bench = new Bench(5, SINGLE);
  bench.enter(() => bench.write("good", 0, BLOCK, 1));
  bench.settle();
  bench.host.disk.inject({ on: "write", path: HEAD, errno: Errno.EIO, times: 1 });
  bench.enter(() => bench.write("data", 0, BLOCK, 1));
  bench.settle();
  assert.equal(bench.result("data"), -Errno.EIO);
  assert.equal(bench.disk.info().revisionCounter, 1);
  assert.equal(bench.disk.state, "dirty");
  bench.host.disk.inject({ on: "write", path: "revision.counter", errno: Errno.EIO, times: 1 });
  bench.enter(() => bench.write("counter", 0, BLOCK, 1));
  bench.settle();
  assert.equal(bench.result("counter"), -Errno.EIO);
  assert.equal(bench.disk.state, "error");
});

Deno.test("a write that cannot be marked as dirty fails, and the next one tries again", () => {
  using bench = new Bench(6, SINGLE);
  bench.host.disk.inject({ on: "write", path: "volume.meta", errno: Errno.ENOSPC, times: 1 });
  bench.enter(() => bench.write("first", 0, BLOCK, 1));
  bench.settle();
  assert.equal(bench.result("first"), -Errno.ENOSPC);
  assert.equal(bench.disk.state, "open");
  bench.enter(() => bench.write("second", 0, BLOCK, 1));
  bench.settle();
  assert.equal(bench.result("second"), BLOCK);
});

Deno.test("after a failed write each block reads as before or as written, now and after opening again", () => {
  for (let seed = 1; seed <= 60; seed++) {
    using bench = new Bench(seed, CHAIN, { revisionCounter: seed % 2 === 0 });
    const full = seed % 3 === 0;
    bench.enter(() => bench.write("before", 4 * BLOCK, 2 * BLOCK, 2));
    bench.settle();
    if (full) bench.host.disk.setFree((seed % 7) * BLOCK);
    else bench.host.disk.inject({ on: "write", path: HEAD, errno: Errno.EIO, times: 1 + seed % 2 });
    bench.enter(() => {
      bench.write("aligned", 0, 16 * BLOCK, 3);
      bench.write("odd", 20 * BLOCK + 512, 3 * BLOCK, 4, bench.buffers + 512 * 1024);
      bench.write("over", 8 * BLOCK, 8 * BLOCK, 5, bench.buffers + 768 * 1024);
      bench.disk.unmap(28 * BLOCK, 4 * BLOCK, bench.note("unmap"), 0);
    });
    bench.settle();
    const first = bench.read(0, 32);
    const allowed = (n: number) => [
      n === 4 || n === 5 ? 2 : 1,
      ...(n < 16 ? [3] : []),
      ...(n > 20 && n < 24 ? [4] : []),
      ...(n >= 8 && n < 16 ? [5] : []),
      ...(n >= 28 ? [0] : []),
    ];
    first.forEach((value, n) => assert(allowed(n).includes(value), `seed ${seed}: block ${n} is ${value}`));
    const done = ["aligned", "odd", "over", "unmap"].filter((name) => (bench.result(name) ?? -1) >= 0);
    if (done.includes("over") && !done.includes("aligned")) assert.equal(first[15] === 1, false);
    if (done.includes("unmap")) assert.deepEqual(first.slice(28), [0, 0, 0, 0]);
    assert.equal(bench.disk.fault, "");
    bench.host.disk.setFree(1024 * 1024);
    bench.enter(() => {
      bench.disk.close();
      bench.disk = ReplicaDisk.open(bench.io, DIRECTORY, { revisionCounter: false });
    });
    assert.deepEqual(bench.read(0, 32), first, `seed ${seed}: after opening again`);
  }
});

Deno.test("a failed write that cannot be taken back makes the replica bad", () => {
  using bench = new Bench(8, CHAIN);
  bench.enter(() => bench.write("before", 100 * BLOCK, BLOCK, 2));
  bench.settle();
  bench.host.disk.inject({ on: "write", path: HEAD, errno: Errno.EIO });
  bench.enter(() => bench.write("w", 512, 1024, 3));
  bench.settle();
  assert.equal(bench.result("w"), -Errno.EIO);
  assert.equal(bench.disk.state, "error");
  assert.match(bench.disk.fault, /a write failed and could not be taken back: input\/output error/);
});

Deno.test("unaligned writes to one block, all at once and among aligned ones, lose nothing", () => {
  for (let seed = 1; seed <= 30; seed++) {
    using bench = new Bench(seed, seed % 2 ? SINGLE : CHAIN);
    bench.enter(() => {
      for (let sector = 0; sector < 8; sector++) {
        bench.write(
          `s${sector}`,
          3 * BLOCK + sector * 512,
          512,
          10 + sector,
          bench.buffers + sector * BLOCK + sector,
        );
      }
      bench.write("next", 4 * BLOCK, BLOCK, 20, bench.buffers + 16 * BLOCK);
      bench.write("both", 5 * BLOCK - 0, 100, 30, bench.buffers + 20 * BLOCK);
    });
    bench.settle();
    const at = bench.buffers + 1024 * 1024;
    bench.enter(() => bench.disk.read(3 * BLOCK, 3 * BLOCK, at, bench.note("read"), 0));
    bench.settle();
    const bytes = bench.io.arena.u8;
    for (let sector = 0; sector < 8; sector++) {
      for (let i = 0; i < 512; i++) assert.equal(bytes[at + sector * 512 + i], 10 + sector);
    }
    assert.equal(bytes[at + BLOCK], 20);
    assert.equal(bytes[at + 2 * BLOCK + 99], 30);
    assert.equal(bytes[at + 2 * BLOCK + 100], seed % 2 ? 0 : 1);
  }
});

Deno.test("more unaligned requests than there are bounce buffers wait for them; more than there are slots are refused", () => {
  using bench = new Bench(9, SINGLE, { revisionCounter: false });
  bench.enter(() => {
    for (let i = 0; i < 200; i++) {
      const at = bench.buffers + 1 + (i % 8) * 100_000;
      if (i % 2) bench.disk.read((i % 8) * 100_000, 90_000, at, bench.note(`r${i}`), 0);
      else bench.disk.write((i % 8) * 100_000, 90_000, at, false, bench.note(`w${i}`), 0);
    }
  });
  bench.settle();
  assert.equal(bench.results.length, 200);
  assert(bench.results.every(({ result }) => result === 90_000));
  assert.equal(bench.disk.room, REQUEST_SLOTS);
  bench.enter(() => {
    for (let i = 0; i < REQUEST_SLOTS; i++) bench.flush("f");
    assert.equal(bench.disk.room, 0);
    assert.throws(() => bench.flush("too many"), /more than 1024 requests under way/);
    assert.throws(() => bench.disk.close(), /cannot close: 1024 requests are under way/);
  });
  bench.settle();
  assert.equal(bench.results.length, 200 + REQUEST_SLOTS);
});

Deno.test("what lies beyond the volume is refused, and nothing completes inside the call", () => {
  using bench = new Bench(10, SINGLE);
  bench.enter(() => {
    bench.disk.read(VOLUME - 512, 1024, bench.buffers, bench.note("read"), 0);
    bench.disk.write(VOLUME, 512, bench.buffers, false, bench.note("write"), 0);
    bench.disk.write(-4096, 4096, bench.buffers, false, bench.note("negative"), 0);
    bench.disk.unmap(0, VOLUME + 1, bench.note("unmap"), 0);
    bench.disk.read(VOLUME, 0, bench.buffers, bench.note("nothing"), 0);
    assert.equal(bench.results.length, 0);
  });
  bench.settle();
  for (const name of ["read", "write", "negative", "unmap"]) {
    assert.equal(bench.result(name), -Errno.EINVAL, name);
  }
  assert.equal(bench.result("nothing"), 0);
  assert.equal(bench.disk.state, "open");
});

Deno.test("while the first write to a block is under way, reads see the data below, not the hole", () => {
  for (let seed = 1; seed <= 20; seed++) {
    using bench = new Bench(seed, CHAIN, {}, { disk: { split: 1 } });
    const seen = new Set<number>();
    const at = bench.buffers + 1024 * 1024;
    let writing = true;
    const reader = {
      complete: () => {
        seen.add(bench.io.arena.u8[at]);
        if (writing) bench.disk.read(7 * BLOCK, BLOCK, at, reader, 0);
      },
    };
    bench.enter(() => {
      bench.disk.read(7 * BLOCK, BLOCK, at, reader, 0);
      bench.io.arena.u8.fill(9, bench.buffers, bench.buffers + BLOCK);
      bench.disk.write(7 * BLOCK, BLOCK, bench.buffers, false, { complete: () => void (writing = false) }, 0);
    });
    bench.settle();
    assert(!seen.has(0) && seen.has(1), [...seen].join());
  }
});
