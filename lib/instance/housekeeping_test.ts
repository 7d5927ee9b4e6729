import assert from "node:assert/strict";
import { tempDir } from "../../tests/support/temp.ts";
import { FilesLibc } from "../io/files_libc.ts";
import { globalMount, VolumeMounts } from "./filesystems.ts";
import { checkConditions, every, keepHouse, READ_ONLY_CONDITION } from "./housekeeping.ts";
import { CONDITIONS_MS, LOG_BYTES } from "./limits.ts";
import { LogDirectory } from "./log_file.ts";
import { FakeNode, quiet, spec } from "./test_kit.ts";

const NO_PORTS = { portCount: 0, portArgs: [] };
const RUNNER = { run: () => Promise.resolve({ code: 0, stdout: "", stderr: "" }) };

Deno.test("an engine whose file system became read-only says so until it is writable again; only changes are told", async () => {
  const node = new FakeNode();
  let options = "rw";
  const read = (): string => `/dev/longhorn/vol /x/${globalMount("vol")} ext4 ${options} 0 0\n`;
  const mounts = new VolumeMounts(read, RUNNER);
  for (const name of ["vol-e-0", "vol-r-0", "other-e-0"]) node.table.create(spec(name, NO_PORTS));
  await quiet();
  const told = async (): Promise<[string | undefined, boolean | undefined][]> => {
    node.told.length = 0;
    checkConditions(node.table, mounts);
    await quiet();
    return node.told.map(({ record, conditions }) => [record.name, conditions[READ_ONLY_CONDITION]]);
  };
  assert.deepEqual(await told(), []);
  options = "ro";
  assert.deepEqual(await told(), [["vol-e-0", true]]);
  assert.deepEqual(await told(), []);
  assert.deepEqual(node.table.view(node.table.get("vol-e-0")).conditions, { [READ_ONLY_CONDITION]: true });
  assert.deepEqual(node.table.view(node.table.get("vol-r-0")).conditions, {});
  options = "rw";
  assert.deepEqual(await told(), [["vol-e-0", false]]);
});

Deno.test("the house is kept from time to time, also when a check fails", async () => {
  using directory = tempDir();
  const node = new FakeNode(), over = new AbortController();
  const logs = new LogDirectory(new FilesLibc(), directory.path);
  let reads = 0;
  const mounts = new VolumeMounts(() => {
    reads++;
    throw new Error("no mounts today");
  }, RUNNER);
  node.table.create(spec("vol-e-0", NO_PORTS));
  await quiet();
  Deno.writeFileSync(logs.path("vol-e-0"), new Uint8Array(LOG_BYTES + 1));
  const house = keepHouse(node.table, { logs, mounts }, over.signal);
  await quiet();
  assert.ok(Deno.statSync(logs.path("vol-e-0")).size < LOG_BYTES);
  await node.clock.advance(3 * CONDITIONS_MS);
  assert.equal(reads, 4);
  over.abort();
  await house;
});

Deno.test("what is done every so often ends with its signal", async () => {
  const node = new FakeNode(), over = new AbortController();
  let count = 0;
  const running = every(node.clock, 10, over.signal, () => void count++);
  await node.clock.advance(35);
  over.abort();
  await running;
  assert.equal(count, 4);
});
