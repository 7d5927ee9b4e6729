import assert from "node:assert/strict";
import fc from "fast-check";
import { Histogram } from "./histogram.ts";

Deno.test("every percentile is within two percent of the sorted values'", () => {
  const value = fc.double({ min: 0.001, max: 60_000, noNaN: true });
  fc.assert(fc.property(fc.array(value, { minLength: 1, maxLength: 200 }), (values) => {
    const histogram = new Histogram();
    for (const v of values) histogram.record(v);
    values.sort((a, b) => a - b);
    for (const share of [0, 0.5, 0.9, 0.99, 1]) {
      const exact = values[Math.max(1, Math.ceil(share * values.length)) - 1];
      const found = histogram.percentile(share);
      assert.ok(Math.abs(found - exact) <= exact * 0.02 + 0.0002, `${share}: ${found}, exactly ${exact}`);
    }
  }));
});

Deno.test("figures come in microseconds, and an empty histogram has only zeros", () => {
  const histogram = new Histogram();
  assert.deepEqual(histogram.latency(), { mean: 0, p50: 0, p90: 0, p99: 0, p999: 0, max: 0 });
  histogram.record(1);
  histogram.record(3);
  const { mean, max, p50 } = histogram.latency();
  assert.equal(mean, 2000);
  assert.equal(max, 3000);
  assert.ok(Math.abs(p50 - 1000) < 16, `${p50}`);
});

Deno.test("values that nobody expects are counted at the ends", () => {
  const histogram = new Histogram();
  histogram.record(-1);
  histogram.record(0);
  histogram.record(1e9);
  assert.equal(histogram.count, 3);
  assert.equal(histogram.percentile(0.5), 0);
  assert.ok(histogram.percentile(1) > 400_000);
});

Deno.test("adding a histogram is recording its values, and clearing forgets them", () => {
  const a = new Histogram(), b = new Histogram(), both = new Histogram();
  for (let i = 1; i <= 100; i++) {
    (i % 3 ? a : b).record(i);
    both.record(i);
  }
  a.add(b);
  assert.deepEqual(a.latency(), both.latency());
  a.clear();
  assert.equal(a.count, 0);
  assert.equal(a.latency().max, 0);
});
