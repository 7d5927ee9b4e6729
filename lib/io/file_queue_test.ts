import assert from "node:assert/strict";
import { tempDir } from "../../tests/support/temp.ts";
import { takeAligned } from "./direct_write.ts";
import { IoError } from "./errno.ts";
import { FILE_QUEUE_DEPTH, FileQueue } from "./file_queue.ts";
import { FilesLibc } from "./files_libc.ts";

const PIECE = 64 * 1024, PIECES = 2 * FILE_QUEUE_DEPTH + 3;

/** The test body with a ring, and where that is forbidden. */
function bothWays(name: string, body: (queue: FileQueue, files: FilesLibc) => void): void {
  for (const world of [undefined, "poll"]) {
    Deno.test(`${name}${world === undefined ? "" : `, in the world ${world}`}`, () => {
      const before = Deno.env.get("DROVER_IO");
      if (world !== undefined) Deno.env.set("DROVER_IO", world);
      const files = new FilesLibc(), queue = new FileQueue(files);
      if (before === undefined) Deno.env.delete("DROVER_IO");
      else Deno.env.set("DROVER_IO", before);
      if (world === "poll") assert.equal(queue.concurrent, false);
      try {
        body(queue, files);
      } finally {
        queue.close();
      }
    });
  }
}

bothWays("more pieces than the queue holds are written past the page cache and read back", (queue, files) => {
  using dir = tempDir();
  const fd = files.open(dir.join("a"), { write: true, create: 0o600, direct: true });
  const buffer = takeAligned(PIECE * PIECES),
    piece = (i: number) => buffer.subarray(i * PIECE, (i + 1) * PIECE);
  for (let i = 0; i < PIECES; i++) piece(i).fill(i + 1);
  const writes = Array.from({ length: PIECES }, (_, i) => queue.write(fd, piece(i), i * PIECE));
  for (const one of writes.toReversed()) queue.wait(one);
  buffer.fill(0);
  const reads = Array.from({ length: PIECES }, (_, i) => queue.read(fd, piece(i), i * PIECE));
  for (const one of reads) queue.wait(one);
  for (let i = 0; i < PIECES; i++) assert.ok(piece(i).every((byte) => byte === (i + 1) % 256), `piece ${i}`);
  queue.writeback(fd, 0, PIECE);
  queue.writeback(fd, 0, 2 ** 40);
  queue.forget(fd);
  // Once more is nothing.
  queue.wait(reads[0]);
  files.close(fd);
});

bothWays(
  "a read over the end of the file gives zeros there; what fails says what and where",
  (queue, files) => {
    using dir = tempDir();
    const path = dir.join("a"), fd = files.open(path, { write: true, create: 0o600 });
    files.writeAt(fd, new Uint8Array(5000).fill(7), 0);
    const buffer = takeAligned(8192);
    buffer.fill(9);
    queue.wait(queue.read(fd, buffer, 0));
    assert.deepEqual([buffer[4999], buffer[5000], buffer[8191]], [7, 0, 0]);
    const reading = files.open(path);
    const refused = (error: unknown) =>
      error instanceof IoError && error.operation === "pwrite" && /8192 bytes at 4096 /.test(error.message);
    assert.throws(() => queue.wait(queue.write(reading, buffer, 4096)), refused);
    if (queue.concurrent) {
      const [good, bad] = [queue.read(reading, buffer, 0), queue.write(reading, buffer, 0)];
      assert.throws(() => queue.waitAll([bad, good]), IoError);
      assert.ok(good.done);
    }
    // Nobody waits for this one: it has ended when the descriptor is closed.
    if (queue.concurrent) queue.write(reading, buffer, 0);
    queue.forget(reading);
    files.close(reading);
    files.close(fd);
    assert.equal(files.stat(path).size, 5000);
  },
);
