/**
 * `longhorn system-backup` with a directory as target.
 *
 * @module
 */
import assert from "node:assert/strict";
import { run, runAnyway } from "./support/process.ts";
import { inRepository } from "./support/repository.ts";
import { tempDir } from "./support/temp.ts";

const PROGRAM = ["run", "-A", "--no-check", inRepository("cmd/longhorn.ts"), "system-backup"];

async function longhorn(...args: string[]): Promise<string> {
  return (await run(Deno.execPath(), [...PROGRAM, ...args])).stdout;
}

Deno.test("a system backup goes to a target, is listed, comes back and goes", async () => {
  using dir = tempDir();
  Deno.mkdirSync(dir.join("store"));
  Deno.writeTextFileSync(dir.join("state.zip"), "PK the zip");
  const target = `vfs://${dir.join("store")}`;
  const url = `${target}/backupstore/system-backups/v1.9.0/daily`;
  const flags = ["--git-commit", "abc", "--manager-image", "m", "--engine-image", "e"];
  const refused = await runAnyway(Deno.execPath(), [...PROGRAM, "upload", dir.join("state.zip"), url]);
  assert.notEqual(refused.code, 0);
  assert.match(refused.stderr, /missing required parameter --git-commit/);
  await longhorn("upload", dir.join("state.zip"), url, ...flags);
  assert.deepEqual(JSON.parse(await longhorn("list", target)), {
    daily: "backupstore/system-backups/v1.9.0/daily",
  });
  const config = JSON.parse(await longhorn("get-config", url));
  assert.deepEqual([config.Name, config.LonghornVersion, config.ManagerImage], ["daily", "v1.9.0", "m"]);
  await longhorn("download", url, dir.join("back.zip"));
  assert.equal(Deno.readTextFileSync(dir.join("back.zip")), "PK the zip");
  await longhorn("delete", url);
  assert.deepEqual(JSON.parse(await longhorn("list", target)), {});
});
