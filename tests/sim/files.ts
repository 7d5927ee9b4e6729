/**
 * Brings files of one simulated replica to another, as the sync agents do: piece by piece, while everything goes on.
 *
 * @module
 */
import type { Files } from "../../lib/io/files.ts";
import type { Calls, SimReplica } from "./machine.ts";

/** Bytes at once. */
const PIECE = 64 * 1024;

/** Copies a file with its holes; what was there is replaced. @throws {Error} when either process dies */
export async function copyFile(calls: Calls, from: SimReplica, to: SimReplica, name: string): Promise<void> {
  const path = `/replica/${name}`, source = from.callee.process, target = to.callee.process;
  const size = within(from, source, (files) => files.stat(path).size);
  within(to, target, (files) => {
    if (files.exists(path)) files.unlink(path);
    withFile(files, path, true, (fd) => files.truncate(fd, size));
  });
  for (let offset = 0; offset < size; offset += PIECE) {
    await calls.sleep(0.5);
    const pieces = within(
      from,
      source,
      (files) =>
        withFile(
          files,
          path,
          false,
          (fd) =>
            files.extents(fd, offset, Math.min(PIECE, size - offset)).map((extent) => {
              const begin = Math.max(extent.offset, offset),
                end = Math.min(extent.offset + extent.length, offset + PIECE);
              const bytes = new Uint8Array(Math.min(end, size) - begin);
              files.readAt(fd, bytes, begin);
              return { begin, bytes };
            }),
        ),
    );
    await calls.sleep(0.5);
    within(to, target, (files) =>
      withFile(files, path, true, (fd) => {
        for (const { begin, bytes } of pieces) files.writeAt(fd, bytes, begin);
      }));
  }
  within(to, target, (files) => {
    withFile(files, path, true, (fd) => files.sync(fd));
    files.syncDirectory("/replica");
  });
}

function withFile<T>(files: Files, path: string, write: boolean, work: (fd: number) => T): T {
  const fd = files.open(path, write ? { write, create: 0o600 } : {});
  try {
    return work(fd);
  } finally {
    files.close(fd);
  }
}

/** Does something in a process that must still be the one it was. */
function within<T>(
  replica: SimReplica,
  process: SimReplica["callee"]["process"],
  work: (files: Files) => T,
): T {
  if (!process?.alive || replica.callee.process !== process) throw new Error(`${replica.name} died`);
  const results: T[] = [];
  process.enter(() => results.push(work(process.io.files)));
  if (results.length === 0) throw new Error(`${replica.name} died`);
  return results[0];
}
