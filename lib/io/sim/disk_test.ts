/** A disk with faults: full, failing, hanging, and with operations under way when their process dies. */
import assert from "node:assert/strict";
import { Errno, IoError } from "../errno.ts";
import { SimCluster } from "./cluster.ts";
import type { SimIo } from "./io.ts";
import { crashBefore, type SimProcess } from "./process.ts";
import { everySeed, on, Results, until } from "./testing.ts";

const SMALL = { arenaBytes: 64 * 1024 };
const PATH = "/f";

function start(world: SimCluster, options = {}): { self: SimProcess; io: SimIo; fd: number } {
  let fd = -1;
  const self = world.host("a").spawn("p", (io) => {
    fd = io.files.open(PATH, { write: true, create: 0o600 });
    io.files.syncDirectory("/");
  }, { ...SMALL, ...options });
  return { self, io: self.io, fd };
}

/** The file as a fresh process sees it. */
function contents(world: SimCluster): Uint8Array {
  let bytes = new Uint8Array();
  world.host("a").spawn("reader", (io) => bytes = io.files.readWhole(PATH), SMALL).kill();
  return bytes;
}

function fails(errno: number, code: () => void): void {
  assert.throws(code, (error) => error instanceof IoError && error.errno === errno);
}

/** One result of an operation. */
function result(world: SimCluster, submit: (results: Results) => void): number {
  const results = new Results();
  submit(results);
  until(world, () => results.count === 1);
  return results.of.get(0) ?? NaN;
}

Deno.test("overlapping writes under way at once are applied in either order, whatever order they complete in", () => {
  const seen = new Set<string>();
  everySeed(200, (world) => {
    const { io, fd } = start(world);
    io.arena.u8.fill(1, 0, 1024).fill(2, 1024, 2048);
    const results = new Results();
    io.write(fd, 0, 1024, 0, results, 1);
    io.write(fd, 1024, 1024, 0, results, 2);
    until(world, () => results.count === 2);
    const bytes = contents(world);
    seen.add(`${results.order} ${bytes[0]}${bytes[512]}`);
  });
  for (const order of ["1,2", "2,1"]) for (const last of ["11", "22"]) assert(seen.has(`${order} ${last}`));
});

Deno.test("a read concurrent with a write may see it, not see it, or see half of it", () => {
  const seen = new Set<string>();
  everySeed(300, (world) => {
    const { io, fd } = start(world);
    io.files.writeAt(fd, new Uint8Array(4096).fill(1), 0);
    io.arena.u8.fill(2, 0, 4096);
    const results = new Results();
    io.write(fd, 0, 4096, 0, results, 1);
    io.read(fd, 8192, 4096, 0, results, 2);
    until(world, () => results.count === 2);
    assert.equal(results.of.get(2), 4096);
    const twos = io.arena.u8.subarray(8192, 12288).filter((byte) => byte === 2).length;
    seen.add(twos === 0 ? "old" : twos === 4096 ? "new" : "half");
  }, { disk: { split: 0.7 } });
  assert.deepEqual([...seen].sort(), ["half", "new", "old"]);
});

Deno.test("a write under way when its process is killed happens, does not, or is torn at sectors", () => {
  const seen = new Set<string>();
  everySeed(100, (world) => {
    const { self, io, fd } = start(world);
    io.files.writeAt(fd, new Uint8Array(4096).fill(1), 0);
    io.arena.u8.fill(2, 0, 4096);
    io.write(fd, 0, 4096, 0, new Results(), 1);
    self.kill();
    const bytes = contents(world);
    let news = 0;
    for (let sector = 0; sector < 4096; sector += 512) {
      const part = new Set(bytes.subarray(sector, sector + 512));
      assert.equal(part.size, 1, "a sector is whole");
      if (part.has(2)) news++;
    }
    seen.add(news === 0 ? "old" : news === 8 ? "new" : "torn");
  });
  assert.deepEqual([...seen].sort(), ["new", "old", "torn"]);
});

Deno.test("a completed write survives the kill of its process, a completed syncData also the power cut", () => {
  everySeed(50, (world) => {
    const { self, io, fd } = start(world);
    io.arena.u8.fill(7, 0, 5000);
    assert.equal(result(world, (results) => io.write(fd, 0, 5000, 100, results, 0)), 5000);
    if (world.seed % 2) self.kill();
    else {
      assert.equal(result(world, (results) => io.syncData(fd, results, 0)), 0);
      world.host("a").powerCut();
      world.host("a").boot();
    }
    const bytes = contents(world);
    assert.equal(bytes.length, 5100);
    assert(bytes.every((byte, i) => byte === (i < 100 ? 0 : 7)));
  });
});

Deno.test("a full disk refuses new pages, not writes to old ones, and takes them again when there is space", () => {
  everySeed(20, (world) => {
    const { io, fd } = start(world);
    const { disk } = world.host("a");
    io.files.writeAt(fd, new Uint8Array(4096), 0);
    disk.setFree(4096);
    assert.equal(result(world, (r) => io.write(fd, 0, 4096, 0, r, 0)), 4096);
    assert.equal(result(world, (r) => io.write(fd, 0, 12288, 4096, r, 0)), -Errno.ENOSPC);
    assert.equal(disk.freeBytes, 0, "what fitted was written");
    fails(Errno.ENOSPC, () => io.files.writeAt(fd, new Uint8Array(1), 100_000));
    assert.equal(result(world, (r) => io.fallocate(fd, 0, 40960, 4096, r, 0)), -Errno.ENOSPC);
    io.files.punchHole(fd, 0, 4096);
    assert.equal(disk.freeBytes, 4096);
    assert.equal(result(world, (r) => io.write(fd, 0, 4096, 40960, r, 0)), 4096);
    disk.setFree(1 << 20);
    assert.equal(result(world, (r) => io.write(fd, 0, 12288, 4096, r, 0)), 12288);
    assert.equal(io.files.space("/").free, (1 << 20) - 8192);
  });
});

Deno.test("the space of an unlinked file comes back with its last descriptor", () => {
  using world = new SimCluster(1);
  const { io, fd } = start(world);
  io.files.writeAt(fd, new Uint8Array(40960), 0);
  io.files.unlink(PATH);
  assert.equal(world.host("a").disk.usedBytes, 40960);
  io.files.close(fd);
  assert.equal(world.host("a").disk.usedBytes, 0);
});

Deno.test("injected errors hit the chosen files and operations, as often as they are told", () => {
  everySeed(10, (world) => {
    const { io, fd } = start(world);
    const { disk } = world.host("a");
    const other = io.files.open("/other", { write: true, create: 0o600 });
    const disarm = disk.inject({ on: "write", path: "/f", errno: Errno.EIO, times: 2 });
    fails(Errno.EIO, () => io.files.writeAt(fd, new Uint8Array(10), 0));
    assert.equal(result(world, (r) => io.write(fd, 0, 10, 0, r, 0)), -Errno.EIO);
    assert.equal(result(world, (r) => io.write(other, 0, 10, 0, r, 0)), 10);
    assert.equal(result(world, (r) => io.write(fd, 0, 10, 0, r, 0)), 10);
    disarm();
    disk.inject({ on: "read", errno: Errno.EIO });
    assert.equal(result(world, (r) => io.read(fd, 0, 10, 0, r, 0)), -Errno.EIO);
    fails(Errno.EIO, () => io.files.readWhole(PATH));
  });
});

Deno.test("what a failed sync gave up is lost though the next sync succeeds, and read until the power goes", () => {
  let lost = 0;
  everySeed(60, (world) => {
    const { io, fd } = start(world);
    const { disk } = world.host("a");
    io.files.writeAt(fd, new Uint8Array(8192).fill(1), 0);
    io.files.sync(fd);
    io.files.writeAt(fd, new Uint8Array(8192).fill(2), 0);
    disk.inject({ on: "sync", errno: Errno.EIO, times: 1 });
    assert.equal(result(world, (r) => io.syncData(fd, r, 0)), -Errno.EIO);
    assert.equal(result(world, (r) => io.syncData(fd, r, 0)), 0);
    assert(contents(world).every((byte) => byte === 2));
    io.files.writeAt(fd, new Uint8Array(512).fill(3), 512);
    io.files.sync(fd);
    world.host("a").powerCut();
    world.host("a").boot();
    const bytes = contents(world);
    assert(bytes.subarray(512, 1024).every((byte) => byte === 3), "what was written again is durable");
    if (bytes.includes(1)) lost++;
  });
  assert(lost > 10 && lost < 60, `${lost}`);
});

Deno.test("locks keep others out, even of the same process, and die with their process", () => {
  everySeed(20, (world) => {
    const { self, io, fd } = start(world);
    assert(io.files.tryLock(fd));
    assert(io.files.tryLock(fd));
    const again = io.files.open(PATH);
    assert(!io.files.tryLock(again));
    let locked = false;
    const attempt = (): void => {
      world.host("a").spawn("q", ({ files }) => locked = files.tryLock(files.open(PATH)), SMALL);
    };
    attempt();
    assert(!locked);
    self.kill();
    world.run(world.now + 100);
    attempt();
    assert(locked);
  }, { process: { lingerMs: 50 } });
});

Deno.test("a killed process may hold its lock a little longer", () => {
  const seen = new Set<boolean>();
  everySeed(40, (world) => {
    const { self, io, fd } = start(world);
    io.files.tryLock(fd);
    self.kill();
    world.host("a").spawn("q", ({ files }) => seen.add(files.tryLock(files.open(PATH))), SMALL);
  }, { process: { lingerMs: 50 } });
  assert.equal(seen.size, 2);
});

Deno.test("extents tell data, unwritten space and holes apart", () => {
  everySeed(5, (world) => {
    const { io, fd } = start(world);
    const run = (submit: (r: Results) => void): void => assert.equal(result(world, submit), 0);
    io.files.writeAt(fd, new Uint8Array(16384).fill(1), 0);
    io.files.writeAt(fd, new Uint8Array(100).fill(1), 40960);
    run((r) => io.punchHole(fd, 4096, 4096, r, 0));
    run((r) => io.fallocate(fd, 0x11, 8192, 4096, r, 0));
    run((r) => io.fallocate(fd, 0x01, 49152, 8192, r, 0));
    assert.equal(io.files.fstat(fd).size, 41060);
    assert.deepEqual(io.files.extents(fd, 0, 1 << 20), [
      { offset: 0, length: 4096, unwritten: false },
      { offset: 8192, length: 4096, unwritten: true },
      { offset: 12288, length: 4096, unwritten: false },
      { offset: 40960, length: 4096, unwritten: false },
      { offset: 49152, length: 8192, unwritten: true },
    ]);
    assert.deepEqual(io.files.extents(fd, 12800, 512), [{ offset: 12800, length: 512, unwritten: false }]);
    run((r) => io.fallocate(fd, 0, 49152, 8192, r, 0));
    assert.equal(io.files.fstat(fd).size, 57344);
    assert.equal(io.files.fstat(fd).allocated, 6 * 4096);
    assert.equal(result(world, (r) => io.fallocate(fd, 0x08, 0, 4096, r, 0)), -Errno.EOPNOTSUPP);
  }, { disk: { splitExtents: 0 } });
});

Deno.test("a power cut may leave space that was allocated and never written", () => {
  let unwritten = 0;
  everySeed(40, (world) => {
    const { io, fd } = start(world);
    io.files.truncate(fd, 65536);
    io.files.sync(fd);
    io.files.writeAt(fd, new Uint8Array(65536).fill(1), 0);
    world.host("a").powerCut();
    world.host("a").boot();
    world.host("a").spawn("q", ({ files }) => {
      if (files.extents(files.open(PATH), 0, 65536).some((extent) => extent.unwritten)) unwritten++;
    }, SMALL);
  });
  assert(unwritten > 5);
});

Deno.test("a cut of a file that a power cut undoes gives its contents back", () => {
  const seen = new Set<number>();
  everySeed(60, (world) => {
    const { io, fd } = start(world);
    io.files.writeAt(fd, new Uint8Array(20_000).fill(1), 0);
    io.files.sync(fd);
    io.files.truncate(fd, 3000);
    world.host("a").powerCut();
    world.host("a").boot();
    const bytes = contents(world);
    assert(bytes.every((byte) => byte === 1));
    seen.add(bytes.length);
  });
  assert.deepEqual([...seen].sort(), [20_000, 3000]);
});

Deno.test("direct I/O must be aligned; a descriptor opened for reading takes no writes", () => {
  using world = new SimCluster(1);
  const { io } = start(world);
  const direct = io.files.open(PATH, { write: true, direct: true });
  const reader = io.files.open(PATH);
  const check = (expected: number, submit: (r: Results) => void): void =>
    assert.equal(result(world, submit), expected);
  check(-Errno.EINVAL, (r) => io.write(direct, 512, 4096, 0, r, 0));
  check(-Errno.EINVAL, (r) => io.write(direct, 0, 512, 0, r, 0));
  check(-Errno.EINVAL, (r) => io.read(direct, 0, 4096, 512, r, 0));
  check(4096, (r) => io.write(direct, 0, 4096, 4096, r, 0));
  check(4096, (r) => io.read(direct, 0, 8192, 4096, r, 0));
  check(-Errno.EBADF, (r) => io.write(reader, 0, 4096, 0, r, 0));
  check(-Errno.EBADF, (r) => io.read(99, 0, 4096, 0, r, 0));
  assert.throws(() => io.read(reader, 64 * 1024 - 1, 2, 0, new Results(), 0), RangeError);
});

Deno.test("a disk that hangs completes nothing, one that is slowed down everything later", () => {
  everySeed(5, (world) => {
    const { io, fd } = start(world);
    const { disk } = world.host("a");
    disk.stalledUntil = world.now + 5000;
    const results = new Results();
    io.write(fd, 0, 512, 0, results, 0);
    io.syncData(fd, results, 1);
    world.run(4999);
    assert.equal(results.count, 0);
    until(world, () => results.count === 2);
    disk.slowdown = 1000;
    const before = world.now;
    result(world, (r) => io.read(fd, 0, 512, 0, r, 0));
    assert(world.now - before >= 10);
  });
});

Deno.test("a crash point ends the process there, in completions as well; every later call of it ends it again", () => {
  everySeed(10, (world) => {
    let reached = 0, after = 0;
    const { self, io, fd } = start(world, { onMutation: crashBefore(4) });
    self.enter(() =>
      io.write(
        fd,
        0,
        512,
        0,
        on(() => {
          reached++;
          try {
            io.syncData(fd, on(() => after++), 0);
            io.write(fd, 0, 512, 0, on(() => after++), 0);
          } catch {
            after += 10;
            io.write(fd, 0, 512, 0, on(() => after++), 0);
          }
          after++;
        }),
        0,
      )
    );
    world.run(1000);
    assert(!self.alive);
    assert.equal(self.mutations, 5, "create, syncDirectory, write, syncData, and the one that crashed");
    assert.equal(reached, 1);
    assert.equal(after, 10);
  });
});
