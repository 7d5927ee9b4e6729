/**
 * Two clients, as of two clusters, that back up and delete in one volume of one directory, and are killed again and
 * again. Whatever is recorded as complete afterwards is whole.
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { contentAt, numberOf, VOLUME, VOLUME_BYTES } from "./backup_client.ts";
import {
  collectGarbage,
  deleteBackup,
  InlineCodec,
  listBackups,
  restoreBackup,
  type Target,
  verifyBackups,
} from "../lib/backup/mod.ts";
import { blocksFolder, locksFolder } from "../lib/backup/names.ts";
import { findBackup } from "../lib/backup/store.ts";
import { Credentials } from "../lib/backup/target/credentials.ts";
import { openTarget } from "../lib/backup/target/open.ts";
import { MemorySink } from "../lib/backup/test_kit.ts";
import { type LoggedProcess, spawnDeno } from "./support/process.ts";
import { tempDir } from "./support/temp.ts";

const KILLS = 8;
/** Numbers of snapshots that one life of a client uses at most. */
const LIFE = 1000;
const FAST = { settleMs: 0, codec: new InlineCodec() } as const;

/** Makes the locks of the dead old, as waiting for two and a half minutes would. */
function ageLocks(directory: string): void {
  const folder = join(directory, locksFolder(VOLUME));
  let names: string[] = [];
  try {
    names = [...Deno.readDirSync(folder)].map(({ name }) => name);
  } catch (error) {
    assert.ok(error instanceof Deno.errors.NotFound);
  }
  const old = new Date(Date.now() - 200_000);
  for (const name of names) {
    try {
      Deno.utimeSync(join(folder, name), old, old);
    } catch (error) {
      // A living client took its lock away.
      assert.ok(error instanceof Deno.errors.NotFound);
    }
  }
}

async function checkAll(target: Target): Promise<number> {
  const backups = (await listBackups(target, VOLUME)).filter(({ record }) => record?.createdTime !== "");
  for (const { name, problem } of backups) {
    assert.equal(problem, "", name);
    const sink = new MemorySink(VOLUME_BYTES);
    await restoreBackup(target, sink, { volume: VOLUME, backup: name, ...FAST });
    assert.deepEqual(sink.content, contentAt(numberOf(name)), name);
  }
  const { bad } = await verifyBackups(target, { volume: VOLUME, ...FAST });
  assert.deepEqual(bad, []);
  return backups.length;
}

async function removeIncomplete(target: Target): Promise<void> {
  for (const { name, record } of await listBackups(target, VOLUME)) {
    if (record?.createdTime === "") await deleteBackup(target, { volume: VOLUME, backup: name }, FAST);
  }
}

Deno.test("two clients that are killed again and again leave whole backups, and no garbage for ever", async () => {
  using dir = tempDir();
  const url = `vfs://${dir.path}`;
  const start = (life: number): LoggedProcess =>
    spawnDeno("tests/backup_client.ts", [url, String(life * LIFE + life % 2), "2"]);
  const clients = [start(0), start(1)];
  let made = 0;
  try {
    for (let kill = 0; kill < KILLS; kill++) {
      const index = kill % 2, victim = clients[index] ?? assert.fail();
      await victim.waitForOutput(/removed/);
      // At another place of its work each time.
      await new Promise((resolve) => setTimeout(resolve, 37 * kill % 101));
      victim.signal("SIGKILL");
      await victim.status;
      made += victim.output.match(/made/g)?.length ?? 0;
      ageLocks(dir.path);
      clients[index] = start(kill + 2);
    }
  } finally {
    for (const client of clients) {
      client.signal("SIGKILL");
      await client.status;
      assert.doesNotMatch(client.output, /error:/i);
    }
  }
  assert.ok(made > KILLS, `${made} made`);
  ageLocks(dir.path);
  await using target = await openTarget(url, Credentials.from({}));
  assert.ok(await checkAll(target) > 0);
  // What a dead client had under way keeps every block; with it gone, and nobody beside it, a client removes blocks.
  await removeIncomplete(target);
  assert.equal((await collectGarbage(target, VOLUME, FAST)).state, "done");
  const last = start(KILLS + 2);
  try {
    await last.waitForOutput(/done, [1-9]/);
  } finally {
    last.signal("SIGKILL");
    await last.status;
  }
  ageLocks(dir.path);
  await removeIncomplete(target);
  assert.equal((await collectGarbage(target, VOLUME, FAST)).state, "done");
  await checkAll(target);
  const needed = new Set<string>();
  for (const { name } of await listBackups(target, VOLUME)) {
    for (const { checksum } of (await findBackup(target, VOLUME, name))?.blocks ?? []) needed.add(checksum);
  }
  const stored: string[] = [];
  for await (const { path } of target.list(blocksFolder(VOLUME))) stored.push(path);
  assert.equal(stored.length, needed.size);
});
