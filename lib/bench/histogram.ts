/**
 * A histogram of latencies: counts in buckets whose width grows with the value, so that every percentile is
 * known to within 1.6 % and recording costs an increment in a typed array.
 *
 * @module
 */

/** Buckets per power of two; a bucket is at most 1/64 of its value wide. */
const STEPS = 64;
const STEP_BITS = 6;
/** Resolution: values below are counted as this, milliseconds. */
const UNIT_MS = 0.0001;
/** Largest value in units that has a bucket of its own; longer waits (about seven minutes) are counted as it. */
const MOST_UNITS = 2 ** 32 - 1;
const BUCKETS = STEPS * (32 - STEP_BITS + 1);

/** Percentiles and the like of a histogram, microseconds. All 0 when nothing was recorded. */
export interface Latency {
  /** Average. */
  readonly mean: number;
  /** Half of the values are at most this. */
  readonly p50: number;
  /** 90 % are at most this. */
  readonly p90: number;
  /** 99 % are at most this. */
  readonly p99: number;
  /** 99.9 % are at most this. */
  readonly p999: number;
  /** The longest. */
  readonly max: number;
}

/** Bucket of a value in units. */
function bucketOf(units: number): number {
  const shift = 31 - Math.clz32(units) - STEP_BITS;
  return shift <= 0 ? units : shift * STEPS + (units >>> shift);
}

/** Middle of a bucket, in units. */
function middleOf(bucket: number): number {
  if (bucket < 2 * STEPS) return bucket;
  const shift = Math.floor(bucket / STEPS) - 1;
  return (bucket - shift * STEPS + 0.5) * 2 ** shift;
}

/** A histogram of times given in milliseconds. */
export class Histogram {
  readonly #counts = new Float64Array(BUCKETS);
  #count = 0;
  #sum = 0;
  #max = 0;

  /** Values recorded. */
  get count(): number {
    return this.#count;
  }

  /** Counts one value, milliseconds. */
  record(ms: number): void {
    this.#count++;
    this.#sum += ms;
    if (ms > this.#max) this.#max = ms;
    const units = Math.min(Math.max(ms / UNIT_MS, 0), MOST_UNITS) >>> 0;
    this.#counts[bucketOf(units)]++;
  }

  /** Forgets everything. */
  clear(): void {
    this.#counts.fill(0);
    this.#count = this.#sum = this.#max = 0;
  }

  /** Adds what another one has counted. */
  add(other: Histogram): void {
    for (let i = 0; i < BUCKETS; i++) this.#counts[i] += other.#counts[i];
    this.#count += other.#count;
    this.#sum += other.#sum;
    this.#max = Math.max(this.#max, other.#max);
  }

  /** The value that a share of the values (0 to 1) do not exceed, milliseconds. */
  percentile(share: number): number {
    if (this.#count === 0) return 0;
    let left = Math.max(1, Math.ceil(share * this.#count));
    for (let i = 0; i < BUCKETS; i++) {
      left -= this.#counts[i];
      if (left <= 0) return Math.min(middleOf(i) * UNIT_MS, this.#max);
    }
    return this.#max;
  }

  /** What people ask for, in microseconds. */
  latency(): Latency {
    const us = (ms: number) => Math.round(ms * 10_000) / 10;
    return {
      mean: us(this.#count === 0 ? 0 : this.#sum / this.#count),
      p50: us(this.percentile(0.5)),
      p90: us(this.percentile(0.9)),
      p99: us(this.percentile(0.99)),
      p999: us(this.percentile(0.999)),
      max: us(this.#max),
    };
  }
}
