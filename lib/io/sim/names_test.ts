/** What of names survives a power cut, and what a program may rely on because of it. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { Errno, IoError } from "../errno.ts";
import type { Files } from "../files.ts";
import { SimCluster } from "./cluster.ts";
import { drawOptions, type SimOverrides } from "./options.ts";
import { crashBefore } from "./process.ts";
import { everySeed } from "./testing.ts";

const SMALL = { arenaBytes: 4096 };

/** All names under a directory with the numbers of their inodes, as one line. */
function tree(files: Files, path = "/"): string {
  return files.list(path).map((name) => {
    const full = `${path === "/" ? "" : path}/${name}`;
    const stat = files.stat(full);
    return `${full}=${stat.inode}${stat.kind === "directory" ? ` ${tree(files, full)}` : ""}`;
  }).join(" ").trim();
}

/** Runs `code` in a process of its own, which then is killed. */
function run<T>(world: SimCluster, code: (files: Files) => T): T {
  let result: { value: T } | undefined;
  world.host("a").spawn("p", (io) => {
    result = { value: code(io.files) };
  }, SMALL).kill();
  assert(result !== undefined);
  return result.value;
}

function powerCycle(world: SimCluster): void {
  world.host("a").powerCut();
  world.host("a").boot();
}

type NameStep = { readonly do: string; readonly from: number; readonly to: number };

const PLACES = ["/a", "/b", "/c", "/d1/a", "/d1/b", "/d2/a", "/d2/b"];
const at = (n: number): string => PLACES[n] ?? "/a";
const nameStep: fc.Arbitrary<NameStep> = fc.record({
  do: fc.constantFrom(
    "create",
    "create",
    "rename",
    "rename",
    "link",
    "unlink",
    "sync /",
    "sync /d1",
    "sync /d2",
  ),
  from: fc.integer({ min: 0, max: PLACES.length - 1 }),
  to: fc.integer({ min: 0, max: PLACES.length - 1 }),
});

/** Takes a step; an error that the names do not allow it is fine. */
function take(files: Files, step: NameStep): boolean {
  try {
    if (step.do === "create") {
      files.close(files.open(at(step.from), { write: true, create: 0o600, exclusive: true }));
    } else if (step.do === "rename") files.rename(at(step.from), at(step.to));
    else if (step.do === "link") files.link(at(step.from), at(step.to));
    else if (step.do === "unlink") files.unlink(at(step.from));
    else files.syncDirectory(step.do.slice(5));
    return true;
  } catch (error) {
    assert(
      error instanceof IoError && [Errno.ENOENT, Errno.EEXIST].includes(error.errno as 2),
      String(error),
    );
    return false;
  }
}

/** The directories a step changes. */
function changed(step: NameStep): string[] {
  const directory = (path: string): string => path.startsWith("/d") ? path.slice(0, 3) : "/";
  if (step.do === "create" || step.do === "unlink") return [directory(at(step.from))];
  if (step.do === "link") return [directory(at(step.to))];
  return step.do === "rename" ? [directory(at(step.from)), directory(at(step.to))] : [];
}

const seeds = fc.integer({ min: 1, max: 2 ** 30 });
const histories = fc.array(nameStep, { minLength: 1, maxLength: 25 });

/** A world with two durable directories. */
function prepared(seed: number, overrides: SimOverrides): SimCluster {
  const world = new SimCluster(seed, drawOptions(seed, overrides));
  run(world, (files) => {
    files.makeDirectory("/d1");
    files.makeDirectory("/d2");
    files.syncDirectory("/");
  });
  return world;
}

Deno.test("an ordered journal loses a suffix of the name operations, never past a directory's sync", () => {
  fc.assert(fc.property(seeds, histories, (seed, steps) => {
    using world = prepared(seed, { disk: { names: "ordered" } });
    const states: string[] = [];
    let safe = 0;
    run(world, (files) => {
      states.push(tree(files));
      const last = new Map<string, number>();
      for (const step of steps) {
        if (!take(files, step)) continue;
        if (step.do.startsWith("sync")) safe = Math.max(safe, last.get(step.do.slice(5)) ?? 0);
        else {
          states.push(tree(files));
          for (const directory of changed(step)) last.set(directory, states.length - 1);
        }
      }
    });
    powerCycle(world);
    const found = run(world, tree);
    assert(states.slice(safe).includes(found), `found ${found}\nafter ${safe} of\n${states.join("\n")}`);
  }));
});

Deno.test("a weak journal keeps each directory in order and what its sync promised", () => {
  fc.assert(fc.property(seeds, histories, (seed, steps) => {
    using world = prepared(seed, { disk: { names: "weak" } });
    const states = new Map<string, string[]>();
    const view = (files: Files, directory: string): string =>
      files.list(directory).filter((name) => !name.startsWith("d"))
        .map((name) => `${name}=${files.stat(`${directory === "/" ? "" : directory}/${name}`).inode}`).join(
          " ",
        );
    run(world, (files) => {
      for (const directory of ["/", "/d1", "/d2"]) states.set(directory, [view(files, directory)]);
      for (const step of steps) {
        if (!take(files, step)) continue;
        if (step.do.startsWith("sync")) states.set(step.do.slice(5), [view(files, step.do.slice(5))]);
        for (const directory of changed(step)) states.get(directory)?.push(view(files, directory));
      }
    });
    powerCycle(world);
    run(world, (files) => {
      for (const [directory, known] of states) {
        const found = view(files, directory);
        assert(known.includes(found), `${directory} has ${found}, may have ${known.join(" | ")}`);
      }
    });
  }));
});

Deno.test("a rename between directories is never half done, however much else is lost", () => {
  const moves = fc.array(fc.tuple(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 2 })), {
    maxLength: 20,
  });
  fc.assert(
    fc.property(seeds, moves, fc.constantFrom("ordered" as const, "weak" as const), (seed, steps, names) => {
      using world = prepared(seed, { disk: { names } });
      const directories = ["/", "/d1/", "/d2/"];
      run(world, (files) => {
        for (let n = 0; n < 4; n++) files.close(files.open(`/f${n}`, { write: true, create: 0o600 }));
        files.syncDirectory("/");
        const where = [0, 0, 0, 0];
        for (const [file, to] of steps) {
          files.rename(`${directories[where[file] ?? 0]}f${file}`, `${directories[to]}f${file}`);
          where[file] = to;
        }
      });
      powerCycle(world);
      run(world, (files) => {
        for (let n = 0; n < 4; n++) {
          const places = directories.filter((directory) => files.exists(`${directory}f${n}`));
          assert.equal(places.length, 1, `f${n} is at ${places.length} places`);
          assert.equal(files.stat(`${places[0]}f${n}`).links, 1);
        }
      });
    }),
  );
});

const OLD = new Uint8Array(3000).fill(1), NEW = new Uint8Array(5000).fill(2);

/** Replaces a file's contents atomically, or with one of the steps left out. */
function replace(files: Files, omit: "nothing" | "sync" | "syncDirectory"): void {
  const fd = files.open("/meta.tmp", { write: true, create: 0o600, truncate: true });
  files.writeAt(fd, NEW, 0);
  if (omit !== "sync") files.sync(fd);
  files.close(fd);
  files.rename("/meta.tmp", "/meta");
  if (omit !== "syncDirectory") files.syncDirectory("/");
}

/** What is found after the power went before mutation `crashAt` (or after the end). */
function found(seed: number, omit: "nothing" | "sync" | "syncDirectory", crashAt: number): [string, number] {
  using world = new SimCluster(seed, drawOptions(seed));
  run(world, (files) => {
    const fd = files.open("/meta", { write: true, create: 0o600 });
    files.writeAt(fd, OLD, 0);
    files.sync(fd);
    files.syncDirectory("/");
  });
  const victim = world.host("a").spawn("victim", (io) => replace(io.files, omit), {
    ...SMALL,
    onMutation: crashBefore(crashAt, true),
  });
  if (victim.alive) powerCycle(world);
  else world.host("a").boot();
  const bytes = run(world, (files) => files.readWhole("/meta"));
  const is = (other: Uint8Array): boolean =>
    bytes.length === other.length && bytes.every((b, i) => b === other[i]);
  return [is(OLD) ? "old" : is(NEW) ? "new" : "torn", victim.mutations];
}

Deno.test("write, sync, rename, sync the directory: old or new at every crash point, new at the end", () => {
  for (let seed = 1; seed <= 60; seed++) {
    const [atEnd, mutations] = found(seed, "nothing", Infinity);
    assert.equal(atEnd, "new");
    assert.equal(mutations, 5);
    for (let k = 0; k < mutations; k++) {
      assert.notEqual(found(seed, "nothing", k)[0], "torn", `seed ${seed}, ${k}`);
    }
  }
});

Deno.test("without the sync before a rename the file may be torn, without the directory's the old one may be back", () => {
  const without = (omit: "sync" | "syncDirectory"): Set<string> =>
    new Set(Array.from({ length: 100 }, (_, seed) => found(seed + 1, omit, Infinity)[0]));
  assert(without("sync").has("torn"));
  assert.deepEqual([...without("syncDirectory")].sort(), ["new", "old"]);
});

Deno.test("a synced file may lose its name when its directory was not synced", () => {
  const seen = new Set<boolean>();
  everySeed(60, (world) => {
    run(world, (files) => {
      const fd = files.open("/f", { write: true, create: 0o600 });
      files.writeAt(fd, OLD, 0);
      files.sync(fd);
    });
    powerCycle(world);
    const there = run(world, (files) => files.exists("/f"));
    if (there) assert.deepEqual(run(world, (files) => files.readWhole("/f")), OLD);
    seen.add(there);
  });
  assert.equal(seen.size, 2);
});

Deno.test("names: errors are those of Linux", () => {
  using world = new SimCluster(1);
  run(world, (files) => {
    const fails = (errno: number, code: () => void): void =>
      assert.throws(code, (error) => error instanceof IoError && error.errno === errno);
    files.makeDirectory("/d/e/f", 0o700);
    files.makeDirectory("/d/e/f");
    files.close(files.open("/d/file", { write: true, create: 0o600 }));
    fails(Errno.ENOENT, () => files.open("/none"));
    fails(Errno.ENOENT, () => files.open("/none/none", { create: 0o600 }));
    fails(Errno.ENOTDIR, () => files.open("/d/file/x", { create: 0o600 }));
    fails(Errno.EEXIST, () => files.open("/d/file", { create: 0o600, exclusive: true }));
    fails(Errno.EISDIR, () => files.open("/d", { write: true }));
    fails(Errno.ENOTEMPTY, () => files.removeDirectory("/d"));
    fails(Errno.EEXIST, () => files.link("/d/file", "/d/e"));
    fails(Errno.EISDIR, () => files.rename("/d/file", "/d/e"));
    fails(Errno.ENOTDIR, () => files.rename("/d/e", "/d/file"));
    fails(Errno.EINVAL, () => files.rename("/d", "/d/e/g"));
    fails(Errno.EEXIST, () => files.makeDirectory("/d/file"));
    fails(Errno.EINVAL, () => files.stat("relative"));
    fails(Errno.EBADF, () => files.fstat(77));
    fails(Errno.EBADF, () => files.close(77));
    files.link("/d/file", "/d/other");
    assert.equal(files.stat("/d/other").links, 2);
    files.unlink("/d/file");
    assert.equal(files.stat("/d/other").links, 1);
    files.rename("/d/other", "/d/other");
    files.removeDirectory("/d/e/f");
    assert.deepEqual(files.list("/d"), ["e", "other"]);
    assert.equal(files.stat("/d").kind, "directory");
  });
});
