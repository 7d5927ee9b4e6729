import assert from "node:assert/strict";
import { Op } from "../block/device.ts";
import { Errno } from "../io/errno.ts";
import type { Completer } from "../io/io.ts";
import { SimCluster } from "../io/sim/mod.ts";
import { Feature } from "../wire/frame.ts";
import { CLEAN_PERIOD_MS, MAX_CLEANS } from "./limits.ts";
import { type RegionHost, RegionKeeper } from "./region_keeper.ts";
import { InnerOp } from "./slots.ts";

const MIB = 1024 * 1024, REGIONS = 1000;

interface Asked {
  readonly op: number;
  readonly region: number;
  readonly end: (result?: number) => void;
}

/** A volume that does as the test says. */
class Host implements Disposable {
  readonly cluster = new SimCluster(1);
  readonly bytes = REGIONS * MIB;
  readonly turns = { single: false };
  readonly replicas = {
    readers: [{ features: Feature.REGIONS }, { features: Feature.REGIONS }],
  } as unknown as RegionHost["replicas"];
  readonly keeper: RegionKeeper;
  readonly asked: Asked[] = [];
  readonly #process;

  constructor() {
    let made: RegionKeeper | undefined;
    this.#process = this.cluster.host("e").spawn("engine", (io) => void (made = new RegionKeeper(io, this)));
    assert(made);
    this.keeper = made;
  }

  quiet(): boolean {
    return true;
  }

  submitInner(op: number, offset: number, _length: number, _at: number, who: Completer, tag: number): void {
    const end = (result = 0) => this.#process.enter(() => who.complete(tag, result));
    this.asked.push({ op, region: offset / MIB, end });
  }

  touch(...regions: readonly number[]): void {
    this.#process.enter(() => regions.forEach((region) => this.keeper.touch(region * MIB, 4096)));
  }

  pass(ms: number): void {
    this.cluster.run(this.cluster.now + ms);
  }

  /** Ends everything that is asked, as often as something is. @returns the regions that were told clean */
  answer(): number[] {
    const cleaned: number[] = [];
    for (let next = this.asked.shift(); next; next = this.asked.shift()) {
      if (next.op === InnerOp.CLEAN) cleaned.push(next.region);
      next.end();
    }
    return cleaned.sort((a, b) => a - b);
  }

  /** Regions that may differ. */
  dirty(): number[] {
    const map = this.keeper.map();
    return Array.from({ length: REGIONS }, (_, r) => r).filter((r) => (map[r >> 3] & (1 << (r & 7))) !== 0);
  }

  [Symbol.dispose](): void {
    this.cluster[Symbol.dispose]();
  }
}

Deno.test("all that was quiet for a while is cleaned, however many regions lie apart, a few at a time", () => {
  using host = new Host();
  const all = Array.from({ length: REGIONS / 2 }, (_, i) => 2 * i);
  host.touch(...all);
  host.pass(CLEAN_PERIOD_MS + 100);
  assert.equal(host.asked.length, 0);
  host.pass(CLEAN_PERIOD_MS + 100);
  assert.deepEqual(host.asked.map(({ op }) => op), [Op.FLUSH]);
  host.asked.shift()?.end();
  assert.equal(host.asked.length, MAX_CLEANS);
  assert.deepEqual(host.answer(), all);
  assert.deepEqual(host.dirty(), []);
});

Deno.test("what is written to after the flush began is not cleaned, also not while others are", () => {
  using host = new Host();
  host.touch(...Array.from({ length: 200 }, (_, i) => 2 * i));
  host.pass(2 * CLEAN_PERIOD_MS + 200);
  host.touch(0);
  host.asked.shift()?.end();
  host.touch(398);
  const cleaned = host.answer();
  assert.ok(!cleaned.includes(0) && !cleaned.includes(398));
  assert.equal(cleaned.length, 198);
  assert.deepEqual(host.dirty(), [0, 398]);
});

Deno.test("a flush that takes longer than a period is for what was written before it, and one that fails for nothing", () => {
  using host = new Host();
  host.touch(1);
  host.pass(2 * CLEAN_PERIOD_MS + 200);
  host.touch(2);
  host.pass(3 * CLEAN_PERIOD_MS);
  assert.equal(host.asked.length, 1);
  assert.deepEqual(host.answer(), [1]);
  assert.deepEqual(host.dirty(), [2]);
  host.pass(2 * CLEAN_PERIOD_MS + 200);
  host.asked.shift()?.end(-Errno.EIO);
  assert.deepEqual(host.asked, []);
  host.pass(CLEAN_PERIOD_MS + 200);
  assert.deepEqual(host.answer(), [2]);
});

Deno.test("nothing is cleaned while copies may differ, nor after the end", () => {
  using host = new Host();
  host.touch(...Array.from({ length: 200 }, (_, i) => 2 * i));
  host.pass(2 * CLEAN_PERIOD_MS + 200);
  host.asked.shift()?.end();
  host.turns.single = true;
  assert.equal(host.answer().length, MAX_CLEANS);
  host.pass(5 * CLEAN_PERIOD_MS);
  assert.deepEqual(host.asked, []);
  host.turns.single = false;
  host.keeper.stop();
  host.pass(5 * CLEAN_PERIOD_MS);
  assert.deepEqual(host.asked, []);
});
