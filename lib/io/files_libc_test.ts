import assert from "node:assert/strict";
import { Errno, IoError } from "./errno.ts";
import type { Extent } from "./files.ts";
import { FilesLibc } from "./files_libc.ts";
import { libc } from "./libc.ts";

const BLOCK = 4096;
const files = new FilesLibc();

function inDirectory(name: string, body: (directory: string) => void): void {
  Deno.test(name, async () => {
    const directory = await Deno.makeTempDir({ prefix: "drover-files-" });
    try {
      body(directory);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  });
}

function throwsErrno(errno: number, body: () => unknown, subject?: RegExp): void {
  assert.throws(body, (error) => {
    assert(error instanceof IoError, String(error));
    assert.equal(error.errno, errno, error.message);
    if (subject) assert.match(error.message, subject);
    return true;
  });
}

function withFile<T>(path: string, body: (fd: number) => T, direct = false): T {
  const fd = files.open(path, { write: true, create: 0o640, direct });
  try {
    return body(fd);
  } finally {
    files.close(fd);
  }
}

inDirectory("names are made, listed, moved, linked and removed", (directory) => {
  files.makeDirectory(`${directory}/a/b/c`);
  files.makeDirectory(`${directory}/a/b/c`);
  files.makeDirectory(`${directory}/a/b/c/`);
  for (const name of ["z", "é", "a file"]) withFile(`${directory}/a/${name}`, () => {});
  assert.deepEqual(files.list(`${directory}/a`), ["a file", "b", "z", "é"]);
  files.rename(`${directory}/a/z`, `${directory}/a/b/y`);
  files.link(`${directory}/a/b/y`, `${directory}/a/b/x`);
  assert.equal(files.stat(`${directory}/a/b/y`).links, 2);
  assert.equal(files.stat(`${directory}/a/b/y`).inode, files.stat(`${directory}/a/b/x`).inode);
  files.unlink(`${directory}/a/b/x`);
  assert(files.exists(`${directory}/a/b/y`));
  assert(!files.exists(`${directory}/a/b/x`));
  assert(!files.exists(`${directory}/a/b/y/under a file`));
  files.removeDirectory(`${directory}/a/b/c`);
  files.syncDirectory(`${directory}/a/b`);
  throwsErrno(Errno.ENOTEMPTY, () => files.removeDirectory(`${directory}/a`), /rmdir .*\/a:/);
  throwsErrno(Errno.ENOENT, () => files.list(`${directory}/none`), /none/);
  throwsErrno(Errno.ENOENT, () => files.rename(`${directory}/none`, `${directory}/n`), /none to /);
  throwsErrno(Errno.ENOENT, () => files.unlink(`${directory}/none`));
  throwsErrno(Errno.EEXIST, () => files.makeDirectory(`${directory}/a/b/y`));
  throwsErrno(Errno.ENOTDIR, () => files.syncDirectory(`${directory}/a/b/y`));
  throwsErrno(Errno.EINVAL, () => files.stat(`${directory}\0/hidden`));
});

inDirectory("a file opens as its options say", (directory) => {
  const path = `${directory}/f`;
  throwsErrno(Errno.ENOENT, () => files.open(path), /open .*\/f: no such file/);
  files.close(files.open(path, { create: 0o600, exclusive: true, write: true }));
  assert.equal(Deno.statSync(path).mode! & 0o777, 0o600);
  throwsErrno(Errno.EEXIST, () => files.open(path, { create: 0o600, exclusive: true }));
  withFile(path, (fd) => files.writeAt(fd, new Uint8Array(10), 0));
  files.close(files.open(path, { write: true, truncate: true }));
  assert.equal(files.stat(path).size, 0);
  const readOnly = files.open(path);
  throwsErrno(Errno.EBADF, () => files.writeAt(readOnly, new Uint8Array(1), 0), /1 bytes at 0 of descriptor/);
  files.close(readOnly);
});

inDirectory("stat tells what the file system knows", (directory) => {
  const path = `${directory}/f`;
  const before = BigInt(Date.now()) * 1_000_000n;
  withFile(path, (fd) => {
    files.writeAt(fd, new Uint8Array(5000), 0);
    files.truncate(fd, 6 * 2 ** 30);
    files.sync(fd);
    const { kind, size, allocated, links, inode, modifiedNs, changedNs } = files.fstat(fd);
    assert.deepEqual({ kind, size, allocated, links }, {
      kind: "file",
      size: 6 * 2 ** 30,
      allocated: 8192,
      links: 1,
    });
    const reference = Deno.statSync(path);
    assert.equal(inode, BigInt(reference.ino!));
    assert.equal(modifiedNs / 1_000_000n, BigInt(reference.mtime!.getTime()));
    // The clock of the file system ticks coarsely.
    assert(changedNs >= before - 50_000_000n);
    assert.deepEqual(files.stat(path), files.fstat(fd));
  });
  assert.equal(files.stat(directory).kind, "directory");
  assert.equal(files.stat("/dev/null").kind, "other");
  throwsErrno(Errno.EBADF, () => files.fstat(12345), /descriptor 12345/);
});

inDirectory("bytes are read and written at offsets, with and without the page cache", (directory) => {
  for (const direct of [false, true]) {
    withFile(`${directory}/f${direct}`, (fd) => {
      // More than the aligned buffer holds, from and to bytes that are not aligned.
      const bytes = new Uint8Array(3 * 1024 * 1024 + 1).map((_, i) => (i * 7) >> 3).subarray(1);
      files.writeAt(fd, bytes, 8192);
      const back = new Uint8Array(bytes.length + 8192 + 4096 + 3).subarray(3);
      assert.equal(files.readAt(fd, back, 0), bytes.length + 8192);
      assert.deepEqual(back.subarray(8192, 8192 + bytes.length), bytes);
      assert(back.subarray(0, 8192).every((byte) => byte === 0));
      assert.equal(files.readAt(fd, new Uint8Array(BLOCK), 8192 + bytes.length), 0);
      assert.equal(files.readAt(fd, new Uint8Array(0), 0), 0);
      if (direct) throwsErrno(Errno.EINVAL, () => files.writeAt(fd, new Uint8Array(100), 0));
      files.truncate(fd, 5000);
      assert.equal(files.readAt(fd, back.subarray(0, 8192), 0), 5000);
    }, direct);
  }
});

inDirectory("a whole file is read, but not a larger one than asked for", (directory) => {
  const path = `${directory}/f`;
  for (const size of [0, 1, 4095, 4096, 4097, 100_000]) {
    const bytes = new Uint8Array(size).map((_, i) => i);
    Deno.writeFileSync(path, bytes);
    assert.deepEqual(files.readWhole(path), bytes);
    assert.deepEqual(files.readWhole(path, size), bytes);
    if (size > 0) throwsErrno(Errno.EFBIG, () => files.readWhole(path, size - 1), /more than \d+ bytes/);
  }
  // Files of the kernel say that they are empty, or a page long.
  assert.match(new TextDecoder().decode(files.readWhole("/proc/self/status")), /^Name:/);
  throwsErrno(Errno.EFBIG, () => files.readWhole("/proc/self/status", 10));
  throwsErrno(Errno.EISDIR, () => files.readWhole(directory));
});

inDirectory("extents tell data, holes and unwritten space", (directory) => {
  withFile(`${directory}/f`, (fd) => {
    files.truncate(fd, 1 << 30);
    assert.deepEqual(files.extents(fd, 0, 1 << 30), []);
    files.writeAt(fd, new Uint8Array(4 * BLOCK).fill(1), 0);
    files.writeAt(fd, new Uint8Array(BLOCK).fill(1), 100 * BLOCK);
    files.punchHole(fd, BLOCK, BLOCK);
    assert.equal(libc.fallocate(fd, 0, BigInt(200 * BLOCK), BigInt(2 * BLOCK)), 0);
    const found = merge(files.extents(fd, 0, 1 << 30));
    assert.deepEqual(found, [
      { offset: 0, length: BLOCK, unwritten: false },
      { offset: 2 * BLOCK, length: 2 * BLOCK, unwritten: false },
      { offset: 100 * BLOCK, length: BLOCK, unwritten: false },
      { offset: 200 * BLOCK, length: 2 * BLOCK, unwritten: true },
    ]);
    assert.deepEqual(files.extents(fd, 3 * BLOCK, 97 * BLOCK), [
      { offset: 3 * BLOCK, length: BLOCK, unwritten: false },
    ]);
    assert.deepEqual(files.extents(fd, 4 * BLOCK, 96 * BLOCK), []);
    const back = new Uint8Array(4 * BLOCK);
    files.readAt(fd, back, 0);
    assert.deepEqual([0, 1, 2, 3].map((block) => back[block * BLOCK]), [1, 0, 1, 1]);
  });
});

inDirectory("what is only in the page cache is told without a sync, if only as unwritten", (directory) => {
  withFile(`${directory}/f`, (fd) => {
    files.truncate(fd, 1 << 30);
    assert.equal(libc.fallocate(fd, 0, BigInt(200 * BLOCK), BigInt(8 * BLOCK)), 0);
    for (const block of [7, 100, 204, 5000]) files.writeAt(fd, new Uint8Array(BLOCK).fill(1), block * BLOCK);
    const found = files.extents(fd, 0, 1 << 30, false);
    for (const block of [7, 100, 204, 5000]) {
      const at = block * BLOCK;
      assert.ok(
        found.some(({ offset, length }) => offset <= at && at + BLOCK <= offset + length),
        `block ${block}`,
      );
    }
    assert.ok(!found.some(({ offset, length }) => offset <= 50 * BLOCK && 50 * BLOCK < offset + length));
  });
});

inDirectory("more extents than one call of the kernel returns are all told", (directory) => {
  withFile(`${directory}/f`, (fd) => {
    const count = 1200;
    for (let i = 0; i < count; i++) files.writeAt(fd, new Uint8Array(BLOCK).fill(1), 2 * i * BLOCK);
    const found = files.extents(fd, 0, 2 * count * BLOCK);
    assert.deepEqual(
      found,
      Array.from({ length: count }, (_, i) => ({
        offset: 2 * i * BLOCK,
        length: BLOCK,
        unwritten: false,
      })),
    );
  });
});

Deno.test("a file system without extents says so", () => {
  const path = `/dev/shm/drover-${crypto.randomUUID()}`;
  try {
    withFile(path, (fd) => throwsErrno(Errno.EOPNOTSUPP, () => files.extents(fd, 0, BLOCK), /FIEMAP/));
  } finally {
    Deno.removeSync(path);
  }
});

inDirectory("a lock excludes other opens of the file until it is closed", (directory) => {
  const path = `${directory}/f`;
  withFile(path, (first) => {
    assert(files.tryLock(first));
    assert(files.tryLock(first));
    withFile(path, (second) => assert(!files.tryLock(second)));
  });
  withFile(path, (third) => assert(files.tryLock(third)));
  throwsErrno(Errno.EBADF, () => files.tryLock(12345));
});

inDirectory("the space of a file system is told", (directory) => {
  const { free, total } = files.space(directory);
  assert(free > 0 && free < total && Number.isSafeInteger(total));
  throwsErrno(Errno.ENOENT, () => files.space(`${directory}/none`), /none/);
});

function merge(extents: Extent[]): Extent[] {
  const merged: Extent[] = [];
  for (const extent of extents) {
    const last = merged.at(-1);
    if (last && last.offset + last.length === extent.offset && last.unwritten === extent.unwritten) {
      merged[merged.length - 1] = { ...last, length: last.length + extent.length };
    } else merged.push(extent);
  }
  return merged;
}
