import assert from "node:assert/strict";
import { type RebuildSettings, type VolumeRecord, withRebuild } from "./record.ts";
import { Repair, type RepairStack } from "./repair.ts";
import type { VolumeHealth } from "./health.ts";

type Mode = "RW" | "WO" | "ERR";

function healthOf(...modes: Mode[]): VolumeHealth {
  return {
    endpoint: "",
    bytes: 4096,
    metrics: {},
    replicas: modes.map((mode, i) => ({ name: `v1-r-${i + 1}`, mode, reason: "" })),
  };
}

/** A repair over a stack that only notes what is asked of it. */
class World implements RepairStack {
  readonly calls: string[] = [];
  readonly said: string[] = [];
  readonly directory = Deno.makeTempDirSync();
  readonly repair: Repair;
  now = 0;
  health = healthOf("RW", "ERR");
  failure = "";

  constructor() {
    const replicas = [1, 2].map((n) => ({ name: `v1-r-${n}`, directory: `${this.directory}/v1-r-${n}` }));
    const record: VolumeRecord = {
      format: 1,
      name: "v1",
      bytes: 4096,
      created: "",
      state: "ready",
      revisionCounter: false,
      replicas,
    };
    Deno.writeTextFileSync(`${this.directory}/v1.volume.json`, "{}");
    Deno.mkdirSync(`${this.directory}/v1-r-2`);
    Deno.writeTextFileSync(`${this.directory}/v1-r-2/volume-head-000.img`, "old");
    const tell = (text: string) => void this.said.push(text);
    this.repair = new Repair(record, this, { say: tell, warn: tell, changed: () => {} }, () => this.now);
  }

  get erased(): boolean {
    return ![...Deno.readDirSync(this.directory)].some(({ name }) => name === "v1-r-2");
  }

  async observe(): Promise<void> {
    this.repair.observe(this.health, this.now);
    await this.repair.settled();
  }

  #note(call: string): Promise<void> {
    this.calls.push(call);
    return this.failure === call ? Promise.reject(new Error(`no ${call}`)) : Promise.resolve();
  }

  endReplica = () => this.#note("end");
  forgetReplica = () => this.#note("forget");
  startEmpty = () => this.#note("start");
  startAgain = () => this.#note("again");
  fillReplica = (_name: string, { bytesPerSecond }: RebuildSettings, layers: boolean) =>
    this.#note(`fill${layers ? " layers" : ""}${bytesPerSecond > 0 ? " slowly" : ""}`);
  look = () => Promise.resolve(this.health);

  [Symbol.dispose](): void {
    Deno.removeSync(this.directory, { recursive: true });
  }
}

Deno.test("a copy that is out is erased after a pause, when it is no member any more, and is filled", async () => {
  using world = new World();
  await world.observe();
  assert.equal(world.repair.secondsUntil("v1-r-2"), 5);
  world.now = 4_999;
  await world.observe();
  assert.deepEqual(world.calls, []);
  world.now = 5_000;
  await world.observe();
  assert.deepEqual(world.calls, ["end", "forget", "start", "fill"]);
  assert.equal(world.erased, true);
  assert.equal(world.repair.current, "v1-r-2");
  world.now = 6_000;
  world.health = healthOf("RW", "WO");
  await world.observe();
  assert.equal(world.repair.current, "v1-r-2");
  world.now = 7_000;
  world.health = healthOf("RW", "RW");
  await world.observe();
  assert.equal(world.repair.current, undefined);
  assert.deepEqual(world.said, ["rebuilding v1-r-2", "copy v1-r-2 is complete again, after 2.0 s"]);
});

Deno.test("nothing is erased when no other copy is complete, or the engine did not let the copy go", async () => {
  for (
    const prepare of [(w: World) => w.health = healthOf("ERR", "ERR"), (w: World) => w.failure = "forget"]
  ) {
    using world = new World();
    await world.observe();
    prepare(world);
    world.now = 10_000;
    await world.observe();
    assert.equal(world.erased, false);
    assert.ok(!world.calls.includes("start"));
  }
  using world = new World();
  await world.observe();
  world.now = 10_000;
  // The other one fails while the process of this one ends.
  world.endReplica = () => {
    world.health = healthOf("ERR", "ERR");
    return Promise.resolve();
  };
  await world.observe();
  assert.equal(world.erased, false);
});

Deno.test("the pause doubles with every failure up to a limit, and is short again after a long good time", async () => {
  using world = new World();
  world.failure = "start";
  const pauses: number[] = [];
  for (let i = 0; i < 9; i++) {
    await world.observe();
    const seconds = world.repair.secondsUntil("v1-r-2") ?? NaN;
    pauses.push(seconds);
    world.now += seconds * 1000;
  }
  assert.deepEqual(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
  world.failure = "";
  await world.observe();
  world.health = healthOf("RW", "RW");
  await world.observe();
  world.now += 60 * 60_000;
  world.health = healthOf("RW", "ERR");
  await world.observe();
  assert.equal(world.repair.secondsUntil("v1-r-2"), 5);
});

Deno.test("a repair that is stopped begins no further step", async () => {
  using world = new World();
  await world.observe();
  world.now = 10_000;
  world.endReplica = () => {
    world.repair.stop();
    return Promise.resolve();
  };
  await world.observe();
  assert.deepEqual(world.calls, []);
  assert.equal(world.erased, false);
  assert.deepEqual(world.said, ["rebuilding v1-r-2"]);
});

/** What makes a directory a copy whose content is known. */
function meta(rebuilding = false): string {
  return JSON.stringify({
    Size: 4096,
    Head: "volume-head-000.img",
    Dirty: true,
    Rebuilding: rebuilding,
    Error: "",
    Parent: "volume-snap-a.img",
    SectorSize: 512,
    BackingFilePath: "",
  });
}

Deno.test("a copy that has its data gets what it missed; when that is not known, it is filled anew", async () => {
  for (const failure of ["", "again", "fill"]) {
    using world = new World();
    Deno.writeTextFileSync(`${world.directory}/v1-r-2/volume.meta`, meta());
    await world.observe();
    world.now = 5_000;
    world.failure = failure;
    await world.observe();
    const first = ["end", "forget", "again"];
    if (failure === "") {
      assert.deepEqual(world.calls, [...first, "fill"]);
      assert.equal(world.erased, false);
      continue;
    }
    const tried = failure === "fill" ? [...first, "fill"] : first;
    const anew = [...tried, "end", "forget", "start", "fill"];
    assert.deepEqual(world.calls, failure === "fill" ? [...anew, "end", "forget"] : anew);
    assert.equal(world.erased, true);
  }
});

Deno.test("a copy whose filling was broken off is filled anew, with the files of snapshots", async () => {
  using world = new World();
  Deno.mkdirSync(`${world.directory}/v1-r-1`);
  Deno.writeTextFileSync(`${world.directory}/v1-r-1/volume.meta`, meta());
  Deno.writeTextFileSync(`${world.directory}/v1-r-2/volume.meta`, meta(true));
  await world.observe();
  world.now = 5_000;
  await world.observe();
  assert.deepEqual(world.calls, ["end", "forget", "start", "fill layers"]);
});

Deno.test("files are copied also where there are no snapshots, if all is to be read back or it is to be slow", async () => {
  const ways = [[{ verify: true }, "fill layers"], [{ bytesPerSecond: 1000 }, "fill layers slowly"]] as const;
  for (const [settings, fill] of ways) {
    using world = new World();
    world.repair.record = withRebuild(world.repair.record, settings);
    await world.observe();
    world.now = 5_000;
    await world.observe();
    assert.deepEqual(world.calls, ["end", "forget", "start", fill]);
  }
});

Deno.test("a copy whose filling fails is taken out, so that others can be repaired", async () => {
  using world = new World();
  await world.observe();
  world.now = 5_000;
  world.failure = "fill";
  await world.observe();
  assert.deepEqual(world.calls, ["end", "forget", "start", "fill", "end", "forget"]);
  assert.match(world.said.at(-1) ?? "", /copy v1-r-2 cannot be rebuilt: no fill/);
});

Deno.test("a new copy is filled at once", async () => {
  using world = new World();
  world.health = healthOf("RW");
  world.repair.welcome("v1-r-2");
  await world.observe();
  assert.deepEqual(world.calls, ["end", "forget", "start", "fill"]);
});
