/**
 * A process that serves a memory disk through the loop frontend, for tests and for measuring. The tests' process
 * attaches the device: this one must never wait for what it serves.
 *
 * `loop_server.ts RUN NAME BYTES SOCKET [READS] [direct|cached]` prints one line of JSON, the mount. A client of
 * the unix socket sends one byte and gets one line of JSON: `s` what the disk has seen, `g` the same after
 * growing it by half, `f` the same after making every operation on the first sector fail.
 */
import { type BlockDevice, Op } from "../lib/block/device.ts";
import { MemoryDevice } from "../lib/block/memory_device.ts";
import { openLoop } from "../lib/frontend/loop/attach.ts";
import { LoopFrontend, LoopMemory } from "../lib/frontend/loop/loop_frontend.ts";
import { markIoFlusher } from "../lib/host/fuse_mount.ts";
import { Errno } from "../lib/io/errno.ts";
import type { Completer, Io } from "../lib/io/io.ts";
import { openIo } from "../lib/io/open.ts";

/** What the server tells. */
export interface ServerState {
  /** Size of the disk. */
  readonly bytes: number;
  /** Pieces of 64 KiB that hold data. */
  readonly chunks: number;
  /** Flushes that reached the disk. */
  readonly flushes: number;
  /** Transfers whose data was not page aligned. */
  readonly unaligned: number;
  /** See `LoopFrontend.malformed`. */
  readonly malformed: number;
  /** See `LoopFrontend.lost`. */
  readonly lost: number;
  /** How often a new size was told. */
  readonly resized: number;
  /** Whether the thread could be marked, see `markIoFlusher`. */
  readonly flusher: boolean;
  /** Which world serves. */
  readonly world: string;
}

/** A memory disk that counts data that is not page aligned. */
class Watched extends MemoryDevice {
  unaligned = 0;
  override submit(op: Op, offset: number, length: number, at: number, who: Completer, tag: number): void {
    if ((op === Op.READ || op === Op.WRITE) && at % 4096 !== 0) this.unaligned++;
    super.submit(op, offset, length, at, who, tag);
  }
}

/** Answers the commands of the tests, one connection after the other. */
class Control implements Completer {
  readonly #at: number;
  #fd = -1;
  constructor(readonly io: Io, readonly listener: number, readonly answer: (command: string) => ServerState) {
    this.#at = io.arena.reserve(8192, 16);
    io.accept(listener, this, 0);
  }
  complete(tag: number, result: number): void {
    const { io } = this, at = this.#at;
    if (tag === 0) {
      this.#fd = result;
      io.receive(result, at, 1, this, 1);
    } else if (tag === 1) {
      const text = new TextEncoder().encode(
        JSON.stringify(this.answer(String.fromCharCode(io.arena.u8[at] ?? 0))) + "\n",
      );
      io.arena.u8.set(text, at + 64);
      io.segment(at + 16, 0, at + 64, text.length);
      io.send(this.#fd, at + 16, 1, this, 2);
    } else {
      io.close(this.#fd);
      io.accept(this.listener, this, 0);
    }
  }
}

if (import.meta.main) {
  const [run = "", name = "", bytes = "", socket = "", reads, mode] = Deno.args;
  const io = openIo({ arenaBytes: LoopMemory.bytes() + 16 * 1024 * 1024 });
  const device = new Watched(io, name, Number(bytes));
  const mount = openLoop({ run, name });
  let resized = 0;
  const frontend = new LoopFrontend(io, device as BlockDevice, {
    fd: mount.fd,
    endpoint: mount.file,
    memory: new LoopMemory(io),
    ...(reads ? { reads: Number(reads) } : {}),
    direct: mode !== "cached",
    events: {
      onResized: () => resized++,
      onEnded: (result) => {
        console.log(`ended ${result}`);
        io.stop();
      },
    },
  });
  const flusher = markIoFlusher();
  new Control(io, io.listen({ kind: "unix", path: socket }), (command) => {
    if (command === "g") device.resize(device.bytes * 1.5);
    if (command === "f") device.failAt = { offset: 0, result: -Errno.EIO };
    const { chunks, flushes, unaligned } = device, { malformed, lost } = frontend, { world } = io;
    return { bytes: device.bytes, chunks, flushes, unaligned, malformed, lost, resized, flusher, world };
  });
  console.log(JSON.stringify(mount));
  io.run();
}
