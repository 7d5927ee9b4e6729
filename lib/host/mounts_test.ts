import assert from "node:assert/strict";
import fc from "fast-check";
import { describeMounts, findMounts, isMountPoint, parseMountInfo, readMounts } from "./mounts.ts";
import { tempDir } from "../../tests/support/temp.ts";

Deno.test("a line of the mount table is taken apart, whatever optional fields it has", () => {
  const text = [
    "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue",
    "37 35 7:3 / /data rw - ext4 /dev/loop3 rw",
    "38 35 0:39 / /run/x rw shared:5 master:2 propagate_from:1 - fuse drover:v1 rw,user_id=0",
    "",
  ].join("\n");
  assert.deepEqual(
    parseMountInfo(text).map((m) => [m.id, m.major, m.minor, m.mountPoint, m.type, m.source]),
    [
      [36, 98, 0, "/mnt2", "ext3", "/dev/root"],
      [37, 7, 3, "/data", "ext4", "/dev/loop3"],
      [38, 0, 39, "/run/x", "fuse", "drover:v1"],
    ],
  );
});

Deno.test("lines that are no mounts are left out", () => {
  assert.deepEqual(parseMountInfo("garbage\n\n1 2 x:y / / rw - a b c\n1 2 3:4 / / rw ext4 /dev/x rw\n"), []);
});

Deno.test("escaped paths come back as they were, blanks, newlines and other scripts included", () => {
  const escape = (path: string): string =>
    path.replaceAll(/[\\ \t\n]/g, (c) => `\\${c.charCodeAt(0).toString(8).padStart(3, "0")}`);
  const path = fc.string({ unit: "grapheme" }).filter((s) => !s.includes("\0")).map((s) => `/${s}`);
  fc.assert(fc.property(path, path, (mountPoint, source) => {
    const line = `1 2 3:4 / ${escape(mountPoint)} rw - ext4 ${escape(source)} rw`;
    const [mount] = parseMountInfo(line);
    assert.equal(mount?.mountPoint, mountPoint);
    assert.equal(mount?.source, source);
  }));
});

Deno.test("the mount table of this process has the root, and directories of files are no mount points", () => {
  assert.ok(readMounts().some((mount) => mount.mountPoint === "/"));
  assert.equal(isMountPoint("/proc"), true);
  assert.equal(isMountPoint("/proc/self/task"), false);
});

Deno.test("a device is found in every mount namespace, once in each", () => {
  using directory = tempDir();
  const line = (mountPoint: string): string => `1 2 7:3 / ${mountPoint} rw - ext4 /dev/loop3 rw\n`;
  const process = (name: string, namespace: string, text: string): void => {
    Deno.mkdirSync(directory.join(name, "ns"), { recursive: true });
    Deno.symlinkSync(`mnt:[${namespace}]`, directory.join(name, "ns/mnt"));
    Deno.writeTextFileSync(directory.join(name, "mountinfo"), text);
  };
  process("self", "1", line("/a"));
  process("10", "1", line("/a"));
  process("11", "2", line("/b") + line("/c"));
  process("12", "2", line("/b") + line("/c"));
  Deno.mkdirSync(directory.join("13"));
  const uses = findMounts(7, 3, directory.path);
  assert.deepEqual(uses.filter((use) => use.pid === null).map((use) => use.mountPoint), ["/a"]);
  assert.deepEqual(uses.filter((use) => use.pid !== null).map((use) => use.mountPoint), ["/b", "/c"]);
  assert.match(describeMounts(uses), /^\/a, \/b \(seen by process 1[12]\), \/c \(seen by process 1[12]\)$/);
  assert.deepEqual(findMounts(7, 4, directory.path), []);
});
