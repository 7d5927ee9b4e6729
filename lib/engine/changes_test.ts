import assert from "node:assert/strict";
import { createLogger, Level } from "../log/log.ts";
import { Code, RpcError } from "../rpc/mod.ts";
import type { Backend, BackendInfo } from "./backend.ts";
import { VolumeChanges } from "./changes.ts";
import { CopyTable } from "./copy_table.ts";

const SIZE = 1024 * 1024;

/** A copy of which changes succeed, or are lost on their way. */
function copy(name: string, lost: boolean): Backend {
  const change = () =>
    lost ? Promise.reject(new RpcError(Code.UNAVAILABLE, `${name} is gone`)) : Promise.resolve();
  const info = {
    bytes: SIZE,
    snapshotCountUsage: 0,
    snapshotSizeUsage: 0,
    headBytes: 0,
    chain: [] as readonly string[],
  } as BackendInfo;
  const made: Partial<Backend> = {
    name,
    get: () => Promise.resolve(info),
    snapshot: change,
    expand: change,
    close: () => Promise.resolve(),
    dispose: () => {},
  };
  return made as Backend;
}

/** Two copies, the second of which misses every change. @param recorded that this can be recorded */
function changesOf(recorded: boolean): { changes: VolumeChanges; host: { bytes: number } } {
  const answers: Record<string, unknown> = { info: { readsFromOne: false }, release: 1, fail: recorded };
  const thread = { call: (kind: string) => Promise.resolve(answers[kind]) };
  const log = createLogger({ format: "json", level: Level.ERROR, wallClock: () => 0, write: () => {} });
  const copies = new CopyTable("v", thread, log);
  for (const [index, name] of ["a", "b"].entries()) copies.add(copy(name, index === 1)).mode = "RW";
  const host = {
    copies,
    bytes: SIZE,
    frontendUp: false,
    freezer: undefined,
    growFrontend: () => Promise.resolve(),
    now: () => "2026-01-01T00:00:00Z",
    newName: () => "s",
  };
  return { changes: new VolumeChanges(host), host };
}

async function expanded(changes: VolumeChanges): Promise<string> {
  changes.expand(2 * SIZE);
  while (changes.expansion.running) await new Promise((resolve) => setTimeout(resolve, 1));
  return changes.expansion.error;
}

Deno.test("a change that a copy missed is made when that is recorded", async () => {
  const { changes, host } = changesOf(true);
  const snapshot = await changes.snapshot("", { userCreated: true, labels: {}, freeze: false });
  assert.equal(snapshot, "s");
  const other = changesOf(true);
  assert.match(await expanded(other.changes), /some replicas could not be expanded: b: cannot be reached/);
  assert.equal(other.host.bytes, 2 * SIZE);
  assert.equal(host.bytes, SIZE);
});

Deno.test("a change that a copy missed fails when nobody is left to record that: the copy would be believed", async () => {
  const { changes } = changesOf(false);
  await assert.rejects(
    changes.snapshot("", { userCreated: true, labels: {}, freeze: false }),
    /cannot snapshot: no complete replica is left that has it/,
  );
  const other = changesOf(false);
  assert.match(await expanded(other.changes), /cannot expand: no complete replica is left/);
  assert.equal(other.host.bytes, SIZE, "nobody is told of the new size");
});
