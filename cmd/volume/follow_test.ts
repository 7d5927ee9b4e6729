import assert from "node:assert/strict";
import { tempDir } from "../../tests/support/temp.ts";
import { nextPlace } from "../replica_cmd/change.ts";
import { grownRecord } from "./creation.ts";
import { RecordFollower } from "./follow.ts";
import { readRecord, type VolumeRecord, writeRecord } from "./record.ts";
import { VolumeUse, whoUses } from "./use.ts";

function recordIn(directory: string, ...numbers: number[]): VolumeRecord {
  const replicas = numbers.map((n) => ({ name: `v1-r-${n}`, directory: `${directory}/v1-r-${n}` }));
  return {
    format: 1,
    name: "v1",
    bytes: 4096,
    created: "",
    state: "ready",
    revisionCounter: false,
    replicas,
  };
}

/** A follower whose steps are noted. */
class Followed {
  readonly steps: string[] = [];
  readonly follower: RecordFollower;
  busy: string | undefined;
  refuses = false;
  broken = false;

  constructor(record: VolumeRecord) {
    const dropReplica = (name: string) => {
      this.steps.push(`drop ${name}`);
      return this.refuses ? Promise.reject(new Error("cannot remove last replica")) : Promise.resolve();
    };
    this.follower = new RecordFollower(record, { dropReplica }, {
      say: (text) => void this.steps.push(text),
      warn: (text) => void this.steps.push(`warning: ${text}`),
      busyWith: () => this.busy,
      adopt: ({ replicas }) => {
        if (this.broken) throw new Error("no space");
        this.steps.push(`adopt ${replicas.map(({ name }) => name)}`);
      },
    });
  }
}

Deno.test("copies that a command adds and removes are taken over, once", async () => {
  using directory = tempDir();
  const dir = directory.path, record = recordIn(dir, 1, 2), world = new Followed(record);
  writeRecord(record);
  await world.follower.look();
  assert.deepEqual(world.steps, []);
  writeRecord(recordIn(dir, 2, 3));
  world.busy = "v1-r-1";
  await world.follower.look();
  assert.deepEqual(world.steps, [], "a copy that is being repaired is left alone");
  world.busy = "v1-r-2";
  await world.follower.look();
  await world.follower.look();
  assert.deepEqual(world.steps, [
    "drop v1-r-1",
    "copy v1-r-1 was taken out of the volume",
    "adopt v1-r-2,v1-r-3",
    `copy v1-r-3 was added in ${dir}/v1-r-3; it is filled`,
  ]);
  Deno.writeTextFileSync(`${dir}/v1.volume.json`, "{");
  await world.follower.look();
  assert.equal(world.steps.length, 4, "a broken record changes nothing");
});

Deno.test("a change that cannot be taken over is told once, and disturbs nothing", async () => {
  using directory = tempDir();
  const dir = directory.path, world = new Followed(recordIn(dir, 1));
  world.broken = true;
  writeRecord(recordIn(dir, 1, 2));
  for (let i = 0; i < 3; i++) await world.follower.look();
  const told = world.steps.filter((step) => step.startsWith("warning"));
  assert.deepEqual(told, ["warning: a change of the record cannot be taken over: no space"]);
  world.broken = false;
  await world.follower.look();
  assert.equal(world.steps.at(-2), "adopt v1-r-1,v1-r-2", "it is tried again");
});

Deno.test("a copy that the engine does not let go comes back into the record", async () => {
  using directory = tempDir();
  const dir = directory.path, record = recordIn(dir, 1, 2), world = new Followed(record);
  world.refuses = true;
  writeRecord(recordIn(dir, 2));
  await world.follower.look();
  assert.deepEqual(world.steps, [
    "drop v1-r-1",
    "warning: copy v1-r-1 stays: cannot remove last replica",
    "adopt v1-r-2,v1-r-1",
  ]);
  assert.deepEqual(readRecord("v1", [dir])?.replicas.map(({ name }) => name), ["v1-r-2", "v1-r-1"]);
});

Deno.test("the use of a volume moves with its directories", () => {
  using directory = tempDir();
  for (const name of ["a", "b"]) Deno.mkdirSync(directory.join(name));
  const [a, b] = ["a", "b"].map((name) => recordIn(directory.join(name), 1));
  const use = new VolumeUse(a);
  use.follow({ ...a, replicas: [...a.replicas, ...b.replicas] });
  assert.equal(whoUses(b), "starting");
  use.follow(b);
  assert.equal(whoUses(a), undefined);
  assert.deepEqual([...Deno.readDirSync(directory.join("a"))], []);
  assert.throws(() => new VolumeUse(b), /is being served already/);
  use[Symbol.dispose]();
  assert.equal(whoUses(b), undefined);
});

Deno.test("another copy has the first number above all others", () => {
  assert.deepEqual(nextPlace(recordIn("/d", 1, 7, 2), "/e"), { name: "v1-r-8", directory: "/e/v1-r-8" });
});

Deno.test("copies that all grew make the record right; others do not", () => {
  using directory = tempDir();
  const record = recordIn(directory.path, 1, 2);
  const copy = (n: number, size: number) => {
    Deno.mkdirSync(directory.join(`v1-r-${n}`), { recursive: true });
    const meta = {
      Size: size,
      Head: "volume-head-000.img",
      Dirty: false,
      Rebuilding: false,
      Error: "",
      Parent: "",
    };
    Deno.writeTextFileSync(
      directory.join(`v1-r-${n}/volume.meta`),
      JSON.stringify({ ...meta, SectorSize: 512, BackingFilePath: "" }),
    );
  };
  assert.equal(grownRecord(record), record, "no copy at all");
  copy(1, 8192);
  copy(2, 4096);
  assert.equal(grownRecord(record), record);
  copy(2, 8192);
  assert.equal(grownRecord(record).bytes, 8192);
  assert.equal(grownRecord({ ...record, bytes: 16384 }).bytes, 16384, "never smaller");
});
