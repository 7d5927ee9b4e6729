/**
 * Helpers for the tests of the simulation.
 *
 * @module
 */
import type { Completer } from "../io.ts";
import { SimCluster } from "./cluster.ts";

/** A completer that calls a function: for tests, where a closure per operation does not matter. */
export function on(then: (result: number, tag: number) => void): Completer {
  return { complete: (tag, result) => then(result, tag) };
}

/** A completer that keeps every result by tag. */
export class Results implements Completer {
  /** By tag. */
  readonly of: Map<number, number> = new Map();
  /** Tags in the order of completion. */
  readonly order: number[] = [];

  /** Called by the loop. */
  complete(tag: number, result: number): void {
    this.of.set(tag, result);
    this.order.push(tag);
  }

  /** How many completed. */
  get count(): number {
    return this.order.length;
  }
}

/** Runs the world until the condition holds; a failure when it does not within 10 virtual minutes. */
export function until(world: SimCluster, condition: () => boolean, limitMs = 600_000): void {
  if (!world.runUntil(condition, world.now + limitMs)) {
    throw world.failure(new Error("the condition never held"));
  }
}

/** Runs `test` in worlds of consecutive seeds; their memory is reused. */
export function everySeed(count: number, test: (world: SimCluster) => void, overrides = {}): void {
  for (let seed = 1; seed <= count; seed++) {
    using world = new SimCluster(seed, overrides);
    try {
      test(world);
    } catch (error) {
      throw world.failure(error);
    }
  }
}
