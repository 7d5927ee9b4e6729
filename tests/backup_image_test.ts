/**
 * `drover backup image` as people use it: a qcow2 file into a store and back, byte for byte.
 *
 * @module
 */
import assert from "node:assert/strict";
import { drover } from "./cli_kit.ts";
import { fill } from "./sync_kit.ts";
import { tempDir } from "./support/temp.ts";

const MIB = 1024 * 1024;

Deno.test("a backing image goes to a store and comes back byte for byte, holes and odd length and all", async () => {
  using dir = tempDir();
  Deno.mkdirSync(dir.join("store"));
  const target = ["--target", `vfs://${dir.join("store")}`], path = dir.join("image.qcow2");
  const content = new Uint8Array(9 * MIB + 512);
  fill(content.subarray(0, 3 * MIB), 1);
  fill(content.subarray(8 * MIB), 2);
  {
    using file = Deno.openSync(path, { write: true, create: true });
    file.writeSync(content.subarray(0, 3 * MIB));
    file.seekSync(8 * MIB, Deno.SeekMode.Start);
    file.writeSync(content.subarray(8 * MIB));
  }
  const image = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await drover("backup", "image", ...args, ...target);
    assert.equal(code, 0, stderr);
    return stdout;
  };
  const made = JSON.parse(await image("create", "debian", path, "--label", "os=debian", "-o", "json"));
  // Two blocks before the hole, one behind it.
  assert.deepEqual([made.Name, made.Size, made.BlockCount, made.Labels], [
    "debian",
    String(content.length),
    "3",
    { os: "debian" },
  ]);
  assert.match(await image("ls"), /debian\s+complete\s+9/);
  await image("restore", "debian", dir.join("back"));
  assert.deepEqual(Deno.readFileSync(dir.join("back")), content);
  const { blocks = 0 } = Deno.statSync(dir.join("back"));
  assert.ok((blocks ?? 0) * 512 < content.length, "the hole is one again");
  const again = await drover("backup", "image", "restore", "debian", dir.join("back"), ...target);
  assert.notEqual(again.code, 0);
  assert.match(again.stderr, /exists: remove it first/);
  assert.match(await image("rm", "debian", "--yes"), /3 blocks .* removed/);
  assert.match(await image("ls"), /no backing images/);
});
