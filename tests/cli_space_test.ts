/**
 * `drover volume serve` on a disk that runs full, and for users who may not write where they say.
 *
 * @module
 */
import assert from "node:assert/strict";
import { drover, serveVolume } from "./cli_kit.ts";
import { peerTest } from "./support/conditional.ts";
import { loopImage } from "./support/loop_image.ts";

const MIB = 1024 * 1024;

peerTest("a disk that runs full below a volume is told to the user, and so is space that came back", {
  needs: ["loop", "mkfs.ext4"],
}, async () => {
  await using image = await loopImage({ bytes: 64 * MIB });
  const dir = `${image.path}/data`, ballast = `${image.path}/ballast`;
  await using volume = await serveVolume("full", dir, [
    ...["--size", "100MiB", "--replicas", "1", "--frontend", "socket"],
  ]);
  assert.match(volume.process.output, /^volume full: 100 MiB, 1 replica$/m);
  using file = await Deno.create(ballast);
  await assert.rejects(async () => {
    for (;;) await file.write(new Uint8Array(MIB));
  });
  await volume.process.waitForOutput(/warning: no space is left on the disk of .*data: writes/);
  await Deno.remove(ballast);
  await file.truncate(0);
  await volume.process.waitForOutput(/there is space again on the disk of .*data/);
  assert.equal(await volume.interrupt(), 0);
});

Deno.test("a place that cannot be written to is named, with what to do", async () => {
  const made = await drover("volume", "serve", "vol", "--dir", "/proc/drover", "--size", "1GiB");
  assert.notEqual(made.code, 0);
  assert.match(made.stderr, /^drover: mkdir \/proc\/drover: no such file or directory$/m);
});
