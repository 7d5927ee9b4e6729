/**
 * Random lives of a node: processes are created, replaced and deleted, get healthy, fail, ignore signals; managers
 * die at any moment, also between two records. Whatever happens, no process is lost sight of and no port is given
 * out twice or lost.
 *
 * @module
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { RpcError } from "../rpc/errors.ts";
import { KILL_MS, STOP_MS } from "./limits.ts";
import type { ProcessRecord } from "./record.ts";
import { FakeNode, quiet, spec } from "./test_kit.ts";

const NAMES = ["a", "b", "vol-e-0"] as const;

const step = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("create" as const), name: fc.constantFrom(...NAMES) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("delete" as const), name: fc.constantFrom(...NAMES) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("replace" as const), name: fc.constantFrom(...NAMES) }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("fail" as const), which: fc.nat(20) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("stubborn" as const), which: fc.nat(20) }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("wait" as const), ms: fc.constantFrom(0, 100, 1_000, 31_000) }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("restart" as const), back: fc.nat(2) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("sick" as const) }) },
);

type Step = typeof step extends fc.Arbitrary<infer One> ? One : never;

/** Records as they were after each of the last changes, newest last. */
class History {
  readonly #kept: { records: Map<string, ProcessRecord>; started: number; alive: number }[] = [];

  constructor(readonly node: FakeNode) {
    this.follow();
  }

  #counts() {
    const { processes } = this.node.machine;
    return { started: processes.length, alive: processes.filter(({ alive }) => alive).length };
  }

  follow(): void {
    this.node.records.onChange = () => {
      this.#kept.push({ records: new Map(this.node.records.records), ...this.#counts() });
    };
  }

  /** A moment that the machine has not moved on from: a manager that died then left exactly this. */
  moment(back: number): ReadonlyMap<string, ProcessRecord> {
    const now = this.#counts();
    const same = this.#kept.filter(({ started, alive }) => started === now.started && alive === now.alive);
    return same.at(-1 - back)?.records ?? this.node.records.records;
  }

  forget(): void {
    this.#kept.length = 0;
    this.follow();
  }
}

function held(node: FakeNode): number {
  let ports = 0;
  for (const { portStart, portEnd } of node.records.records.values()) {
    if (portStart > 0) ports += portEnd - portStart + 1;
  }
  return ports;
}

function check(node: FakeNode): void {
  assert.equal(node.table.ports.used, held(node), "ports that are taken are those of records");
  const owners = new Map<number, string>();
  for (const { portStart, uuid } of node.records.records.values()) {
    if (portStart === 0) continue;
    assert.equal(owners.get(portStart), undefined, "a port was given out twice");
    owners.set(portStart, uuid);
  }
  for (const { alive, request } of node.machine.processes) {
    if (alive) assert.ok(node.records.records.has(request.uuid), "a process runs that nobody knows");
  }
}

async function live(node: FakeNode, history: History, steps: readonly Step[]): Promise<void> {
  for (const one of steps) {
    try {
      switch (one.kind) {
        case "create":
          node.table.create(spec(one.name));
          break;
        case "delete":
          node.table.delete(one.name, "");
          break;
        case "replace":
          node.table.replace(spec(one.name, { binary: `/bin/${node.machine.processes.length}` }), "SIGHUP")
            .catch((error) => assert.ok(error instanceof RpcError, String(error)));
          break;
        case "fail":
          node.machine.processes.filter(({ alive }) => alive)[one.which]?.end({ code: 1, signal: null });
          break;
        case "stubborn": {
          const stubborn = node.machine.processes.filter(({ alive }) => alive)[one.which];
          if (stubborn) {
            stubborn.onSignal = (signal) => {
              if (signal === "SIGKILL") stubborn.end({ code: null, signal: 9 });
            };
          }
          break;
        }
        case "wait":
          await node.clock.advance(one.ms);
          break;
        case "restart":
          node.restart("boot", history.moment(one.back));
          history.forget();
          break;
        case "sick":
          node.machine.healthy.clear();
          break;
      }
    } catch (error) {
      assert.ok(error instanceof RpcError, String(error));
    }
    if (one.kind !== "sick") { for (let port = 1000; port < 1005; port++) node.machine.healthy.add(port); }
    await quiet();
    check(node);
  }
}

Deno.test("whatever happens to processes and managers, nothing is lost and nothing is left", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      const node = new FakeNode("1000-1009");
      const history = new History(node);
      await live(node, history, steps);
      // Replacements come to their end, then everything is deleted.
      await node.clock.advance(2 * (STOP_MS + KILL_MS));
      check(node);
      for (const name of NAMES) if (node.table.find(name)) node.table.delete(name, "");
      await node.clock.advance(2 * (STOP_MS + KILL_MS));
      assert.deepEqual(node.machine.processes.filter(({ alive }) => alive).map(({ pid }) => pid), []);
      assert.equal(node.records.records.size, 0);
      assert.equal(node.table.size, 0);
      assert.equal(node.table.ports.used, 0);
    }),
    { numRuns: 1000 },
  );
});
