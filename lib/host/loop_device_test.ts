import assert from "node:assert/strict";
import type { Runner } from "./command.ts";
import { detachLoopDevice, holdersOf, isAttached, listLoopDevices, type LoopDevice } from "./loop_device.ts";
import { isLinkTo, linkDevice, unlinkDevice } from "./device_link.ts";
import { SystemRunner } from "./command.ts";
import { peerTest } from "../../tests/support/conditional.ts";
import { type TempDir, tempDir } from "../../tests/support/temp.ts";

function fakeSysBlock(directory: TempDir, devices: Record<string, Record<string, string>>): string {
  for (const [name, attributes] of Object.entries(devices)) {
    Deno.mkdirSync(directory.join(name), { recursive: true });
    for (const [attribute, value] of Object.entries(attributes)) {
      Deno.mkdirSync(directory.join(name, "loop"), { recursive: true });
      Deno.writeTextFileSync(directory.join(name, "loop", attribute), `${value}\n`);
    }
  }
  return directory.path;
}

Deno.test("loop devices with a backing file are listed by number, others are not", () => {
  using directory = tempDir();
  const sysBlock = fakeSysBlock(directory, {
    loop10: { backing_file: "/a b", autoclear: "1", dio: "0" },
    loop2: { backing_file: "/x (deleted)", autoclear: "0", dio: "1" },
    loop3: {},
    sda: {},
    loopy: { backing_file: "/no" },
  });
  assert.deepEqual(listLoopDevices(sysBlock), [
    { path: "/dev/loop2", minor: 2, backingFile: "/x (deleted)", autoclear: false, directIo: true },
    { path: "/dev/loop10", minor: 10, backingFile: "/a b", autoclear: true, directIo: false },
  ]);
});

Deno.test("a device that meanwhile has another file does not count as attached", () => {
  using directory = tempDir();
  const sysBlock = fakeSysBlock(directory, { loop4: { backing_file: "/a" } });
  const [device] = listLoopDevices(sysBlock);
  assert.ok(device);
  assert.equal(isAttached(device, sysBlock), true);
  fakeSysBlock(directory, { loop4: { backing_file: "/b" } });
  assert.equal(isAttached(device, sysBlock), false);
});

Deno.test("devices stacked on a loop device are named", () => {
  using directory = tempDir();
  const sysBlock = fakeSysBlock(directory, { loop4: { backing_file: "/a" } });
  const [device] = listLoopDevices(sysBlock);
  assert.ok(device);
  assert.deepEqual(holdersOf(device, sysBlock), []);
  Deno.mkdirSync(directory.join("loop4/holders/dm-1"), { recursive: true });
  Deno.mkdirSync(directory.join("loop4/holders/dm-0"), { recursive: true });
  assert.deepEqual(holdersOf(device, sysBlock), ["dm-0", "dm-1"]);
});

Deno.test("detaching what is not attached runs nothing", async () => {
  const runner: Runner = { run: () => Promise.reject(new Error("nothing is to be run")) };
  const device: LoopDevice = {
    path: "/dev/loop99999",
    minor: 99999,
    backingFile: "/nothing",
    autoclear: false,
    directIo: false,
  };
  assert.equal(await detachLoopDevice(runner, device, { waitMs: 0, timeoutMs: 1000 }), true);
});

Deno.test("a symbolic link is made, turned, recognised and removed only if it is ours", async () => {
  using directory = tempDir();
  const runner = new SystemRunner();
  const link = { path: directory.join("dev/longhorn/vol"), kind: "symlink" } as const;
  const one = { path: "/dev/loop1", major: 7, minor: 1 }, two = { path: "/dev/loop2", major: 7, minor: 2 };
  await linkDevice(runner, link, one);
  assert.equal(Deno.readLinkSync(link.path), "/dev/loop1");
  await linkDevice(runner, link, two);
  assert.equal(isLinkTo(link.path, two), true);
  assert.equal(unlinkDevice(link.path, one), false);
  assert.equal(unlinkDevice(link.path, two), true);
  assert.equal(unlinkDevice(link.path, two), false);
  assert.deepEqual([...Deno.readDirSync(directory.join("dev/longhorn"))], []);
});

peerTest("a device node is recognised by its number", { needs: ["root", "mknod"] }, async () => {
  using directory = tempDir();
  const link = { path: directory.join("node"), kind: "node" } as const;
  const target = { path: "/dev/loop300", major: 7, minor: 300 };
  await linkDevice(new SystemRunner(), link, target);
  assert.equal(Deno.lstatSync(link.path).isBlockDevice, true);
  assert.equal(isLinkTo(link.path, { ...target, minor: 44 }), false);
  assert.equal(unlinkDevice(link.path, target), true);
});
