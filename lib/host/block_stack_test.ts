import assert from "node:assert/strict";
import fc from "fast-check";
import { fileSystemsOn, numberOfName, numberOfPath, splitDeviceNumber, stackOn } from "./block_stack.ts";
import { type TempDir, tempDir } from "../../tests/support/temp.ts";

/** A sysfs with these devices; `below` is the device they stand on, `disk` the one they are a part of. */
function fakeSys(
  directory: TempDir,
  devices: Record<string, { number: string; below?: string; disk?: string }>,
): string {
  const sys = directory.join("sys");
  Deno.mkdirSync(`${sys}/class/block`, { recursive: true });
  Deno.mkdirSync(`${sys}/dev/block`, { recursive: true });
  for (const [name, { number, below, disk }] of Object.entries(devices)) {
    const home = disk ? `${sys}/devices/${disk}/${name}` : `${sys}/devices/${name}`;
    Deno.mkdirSync(`${home}/holders`, { recursive: true });
    Deno.writeTextFileSync(`${home}/dev`, `${number}\n`);
    Deno.symlinkSync(home, `${sys}/class/block/${name}`);
    Deno.symlinkSync(home, `${sys}/dev/block/${number}`);
    if (below) Deno.symlinkSync(home, `${sys}/class/block/${below}/holders/${name}`);
  }
  return sys;
}

Deno.test("the numbers of a device come apart as glibc puts them together", () => {
  fc.assert(fc.property(fc.nat(0xfff), fc.nat(0xfffff), (major, minor) => {
    const rdev = major * 256 + (minor & 0xff) + Math.floor(minor / 256) * 2 ** 20;
    assert.deepEqual(splitDeviceNumber(rdev), { major, minor });
  }));
});

Deno.test("partitions, and what is mapped onto a device or its partitions, stand on it, each once", () => {
  using directory = tempDir();
  const sys = fakeSys(directory, {
    sda: { number: "8:0" },
    sda1: { number: "8:1", disk: "sda" },
    sdb: { number: "8:16" },
    "dm-0": { number: "254:0", below: "sda1" },
    "dm-1": { number: "254:1", below: "dm-0" },
  });
  assert.deepEqual(stackOn({ major: 8, minor: 0 }, sys).map((d) => d.name), ["sda", "sda1", "dm-0", "dm-1"]);
  assert.deepEqual(stackOn({ major: 8, minor: 16 }, sys).map((d) => d.name), ["sdb"]);
  assert.deepEqual(stackOn({ major: 9, minor: 9 }, sys), []);
});

Deno.test("a path leads to a number through links, also where the device itself is not shown", () => {
  using directory = tempDir();
  const sys = fakeSys(directory, { drover9: { number: "7:9" } });
  Deno.symlinkSync("/dev/drover9", directory.join("a"));
  Deno.symlinkSync("a", directory.join("b"));
  assert.deepEqual(numberOfPath(directory.join("b"), sys), { major: 7, minor: 9 });
  Deno.symlinkSync("circle", directory.join("circle"));
  assert.equal(numberOfPath(directory.join("circle"), sys), null);
  Deno.writeTextFileSync(directory.join("file"), "");
  assert.equal(numberOfPath(directory.join("file"), sys), null);
  assert.equal(numberOfPath("/dev/nothing-of-this-name", sys), null);
  assert.equal(numberOfName("..", sys), null);
});

Deno.test("the mounts of a stack are found, one for each file system, our own first", () => {
  using directory = tempDir();
  const sys = fakeSys(directory, {
    sda: { number: "8:0" },
    "dm-0": { number: "254:0", below: "sda" },
  });
  const process = (name: string, namespace: string, lines: string[]): void => {
    Deno.mkdirSync(directory.join("proc", name, "ns"), { recursive: true });
    Deno.symlinkSync(`mnt:[${namespace}]`, directory.join("proc", name, "ns/mnt"));
    Deno.writeTextFileSync(directory.join("proc", name, "mountinfo"), lines.join("\n"));
  };
  const ext4 = (at: string): string => `1 2 254:0 / ${at} rw - ext4 /dev/mapper/x rw`;
  process("self", "1", [ext4("/ours"), ext4("/ours-again"), "3 2 8:16 / /other rw - ext4 /dev/sdb rw"]);
  process("7", "2", [ext4("/theirs"), "1 2 0:44 / /pool rw - btrfs /dev/sda rw"]);
  const found = fileSystemsOn({ major: 8, minor: 0 }, { proc: directory.join("proc"), sys });
  assert.deepEqual(found.map((m) => [m.mountPoint, m.pid]), [["/ours", null], ["/pool", 7]]);
});
