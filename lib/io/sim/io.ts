/**
 * {@linkcode Io} of one simulated process: what it submits.
 *
 * @module
 */
import { type Arena, PAGE_BYTES } from "../arena.ts";
import { Errno, IoError } from "../errno.ts";
import { type Address, type Completer, type Io, MAX_SEGMENTS } from "../io.ts";
import { OpenFile } from "./descriptors.ts";
import { applyOperation, Effect, workOf } from "./file_operations.ts";
import { SimFiles } from "./files.ts";
import { FileInode } from "./inode.ts";
import { Listener } from "./listener.ts";
import { HALF, SimLoop } from "./loop.ts";
import { Kind, type Operation, SEGMENT_BYTES } from "./operation.ts";
import type { SimProcess } from "./process.ts";
import { Socket } from "./socket.ts";

/** ENOTSOCK: the descriptor is no socket. */
const ENOTSOCK = 88;

/** Connections that may wait for an accept, unless told otherwise. */
const DEFAULT_BACKLOG = 128;

/** What is in memory that was given back. */
const RUBBISH = 0xdb;

/** Names of the operations that change a disk, for crash points. */
const MUTATIONS: Partial<Record<Kind, string>> = {
  [Kind.WRITE]: "write",
  [Kind.WRITE_DURABLE]: "writeDurable",
  [Kind.SYNC]: "syncData",
  [Kind.PUNCH]: "punchHole",
  [Kind.FALLOCATE]: "fallocate",
};

/** See the module. */
export class SimIo extends SimLoop implements Io {
  readonly world = "sim";
  readonly files: SimFiles;

  /** Made by {@linkcode SimProcess}. */
  constructor(process: SimProcess, arena: Arena) {
    super(process, arena);
    this.files = new SimFiles(process);
  }

  /** See {@linkcode Io.giveBack}: whoever still reads there finds rubbish. */
  giveBack(at: number, bytes: number): void {
    this.arena.u8.fill(RUBBISH, at, at + bytes);
  }

  /** Memory is what it is. */
  hugePages(): void {}

  /** See {@linkcode Io.read}. */
  read(fd: number, at: number, length: number, offset: number, who: Completer, tag: number): void {
    this.#checkBuffer(at, length);
    this.#submitFile(Kind.READ, fd, at, length, offset, 0, who, tag);
  }

  /** See {@linkcode Io.write}. */
  write(fd: number, at: number, length: number, offset: number, who: Completer, tag: number): void {
    this.#checkBuffer(at, length);
    this.#submitFile(Kind.WRITE, fd, at, length, offset, 0, who, tag);
  }

  /** See {@linkcode Io.writeDurable}. */
  writeDurable(fd: number, at: number, length: number, offset: number, who: Completer, tag: number): void {
    this.#checkBuffer(at, length);
    this.#submitFile(Kind.WRITE_DURABLE, fd, at, length, offset, 0, who, tag);
  }

  /** See {@linkcode Io.syncData}. */
  syncData(fd: number, who: Completer, tag: number): void {
    this.#submitFile(Kind.SYNC, fd, 0, 0, 0, 0, who, tag);
  }

  /** See {@linkcode Io.punchHole}. */
  punchHole(fd: number, offset: number, length: number, who: Completer, tag: number): void {
    this.#submitFile(Kind.PUNCH, fd, 0, length, offset, 0, who, tag);
  }

  /** See {@linkcode Io.fallocate}. */
  fallocate(fd: number, mode: number, offset: number, length: number, who: Completer, tag: number): void {
    this.#submitFile(Kind.FALLOCATE, fd, 0, length, offset, mode, who, tag);
  }

  /** Not in the simulation: it has no devices. */
  writeVector(_fd: number, _vector: number, _count: number, _who: Completer, _tag: number): void {
    throw new Error("writeVector: not in the simulation, which has no device descriptors");
  }

  #submitFile(
    kind: Kind,
    fd: number,
    at: number,
    length: number,
    offset: number,
    mode: number,
    who: Completer,
    tag: number,
  ): void {
    this.process.assertAlive();
    const file = this.process.descriptors.get(fd);
    const mutation = MUTATIONS[kind];
    if (mutation !== undefined && file instanceof OpenFile) {
      const label = file.labels[kind] ??= this.process.host.trace.id(`${mutation} ${file.path}`);
      this.process.mutate(mutation, file.path, label);
    }
    const operation = this.take(kind, who, tag);
    operation.at = at;
    operation.length = length;
    operation.offset = offset;
    operation.mode = mode;
    const errno = checkFile(file, kind, at, length, offset);
    if (errno !== 0 || !(file instanceof OpenFile)) return this.finish(operation, -errno);
    operation.descriptor = file;
    file.underWay++;
    this.#plan(operation, file);
  }

  /** Draws when the operation ends and when it takes effect. */
  #plan(operation: Operation, file: OpenFile): void {
    const { cluster, disk } = this.process.host;
    const work = workOf(operation.kind);
    operation.fault = disk.drawFault(work, file.path);
    let end = disk.drawEnd(work);
    if (operation.kind === Kind.WRITE_DURABLE) end = Math.max(end, disk.drawEnd("sync"));
    let effect: Effect = Effect.AT_END;
    if (operation.fault === 0) {
      if (disk.random.chance(disk.options.split)) {
        effect = Effect.SPLIT;
        cluster.push(
          cluster.now + (end - cluster.now) * disk.random.unit(),
          operation,
          HALF,
          operation.generation,
        );
      } else if (disk.random.chance(0.4)) {
        effect = Effect.AT_START;
        applyOperation(disk, operation, operation.length);
      }
    }
    cluster.push(end, operation, effect, operation.generation);
  }

  /** See {@linkcode Io.listen}. */
  listen(address: Address, backlog: number = DEFAULT_BACKLOG): number {
    this.process.assertAlive();
    const { network } = this.process.host.cluster;
    return this.process.descriptors.install(network.listen(this.process, address, backlog));
  }

  /** See {@linkcode Io.boundPort}. */
  boundPort(listener: number): number {
    const found = this.process.descriptors.get(listener);
    if (!(found instanceof Listener)) throw new IoError("boundPort", `descriptor ${listener}`, Errno.EBADF);
    return found.port;
  }

  /** See {@linkcode Io.accept}. */
  accept(listener: number, who: Completer, tag: number): void {
    const operation = this.take(Kind.ACCEPT, who, tag);
    const found = this.process.descriptors.get(listener);
    if (!(found instanceof Listener)) {
      return this.finish(operation, found === null ? -Errno.EBADF : -Errno.EINVAL);
    }
    attach(operation, found);
    found.accept(operation);
  }

  /** See {@linkcode Io.connect}. */
  connect(address: Address, who: Completer, tag: number): void {
    const operation = this.take(Kind.CONNECT, who, tag);
    this.process.host.cluster.network.connect(this.process, address, operation);
  }

  /** See {@linkcode Io.receive}. */
  receive(fd: number, at: number, length: number, who: Completer, tag: number): void {
    this.#checkBuffer(at, length);
    if (length === 0) throw new RangeError("a receive of 0 bytes cannot be told from the end of the stream");
    const operation = this.take(Kind.RECEIVE, who, tag);
    const socket = this.process.descriptors.get(fd);
    if (!(socket instanceof Socket)) {
      return this.finish(operation, socket === null ? -Errno.EBADF : -ENOTSOCK);
    }
    operation.at = at;
    operation.length = length;
    attach(operation, socket);
    socket.receive(operation);
  }

  /** See {@linkcode Io.send}. */
  send(fd: number, vector: number, count: number, who: Completer, tag: number): void {
    if (count > MAX_SEGMENTS) throw new RangeError(`send of ${count} segments: at most ${MAX_SEGMENTS}`);
    if (vector % SEGMENT_BYTES !== 0) throw new RangeError(`send vector at ${vector} is not 16-byte aligned`);
    this.#checkBuffer(vector, count * SEGMENT_BYTES);
    const operation = this.take(Kind.SEND, who, tag);
    const socket = this.process.descriptors.get(fd);
    if (!(socket instanceof Socket)) {
      return this.finish(operation, socket === null ? -Errno.EBADF : -ENOTSOCK);
    }
    operation.at = vector;
    operation.length = count;
    operation.offset = 0;
    operation.mode = 0;
    attach(operation, socket);
    socket.send(operation);
  }

  #checkBuffer(at: number, length: number): void {
    if (at < 0 || length < 0 || at + length > this.memory.length) {
      throw new RangeError(`buffer ${at}+${length} is outside the arena of ${this.memory.length} bytes`);
    }
  }

  /**
   * Two little-endian 64-bit numbers: offset in the arena, and length. The format is the simulation's own, for
   * no kernel reads it.
   */
  segment(vector: number, index: number, at: number, length: number): void {
    const { view } = this.arena;
    const place = vector + SEGMENT_BYTES * index;
    view.setUint32(place, at, true);
    view.setUint32(place + 4, 0, true);
    view.setUint32(place + 8, length, true);
    view.setUint32(place + 12, 0, true);
  }

  /** See {@linkcode Io.shutdown}. */
  shutdown(fd: number): void {
    this.process.assertAlive();
    const found = this.process.descriptors.get(fd);
    if (found instanceof Socket || found instanceof Listener) found.shutdown();
  }

  /** Not in the simulation: descriptors do not travel between its processes. */
  interrupt(_fd: number): void {
    throw new Error("interrupt: not in the simulation, where no descriptor is handed over");
  }

  /** As {@linkcode interrupt}. */
  adoptListener(_fd: number): void {
    throw new Error("adoptListener: not in the simulation, where no descriptor is handed over");
  }

  /** See {@linkcode Io.close}. */
  close(fd: number): void {
    this.process.assertAlive();
    this.process.descriptors.close(fd);
  }
}

function attach(operation: Operation, descriptor: Listener | Socket): void {
  operation.descriptor = descriptor;
  descriptor.underWay++;
}

/** What the kernel checks before it starts a file operation. @returns a positive error number, or 0 */
function checkFile(file: unknown, kind: Kind, at: number, length: number, offset: number): number {
  if (!(file instanceof OpenFile)) return Errno.EBADF;
  if (kind !== Kind.READ && kind !== Kind.SYNC && !file.writable) return Errno.EBADF;
  if (!(file.inode instanceof FileInode)) return kind === Kind.READ ? Errno.EISDIR : Errno.EINVAL;
  if (offset < 0) return Errno.EINVAL;
  if (kind === Kind.PUNCH || kind === Kind.FALLOCATE) return length <= 0 ? Errno.EINVAL : 0;
  const aligned = at % PAGE_BYTES === 0 && length % PAGE_BYTES === 0 && offset % PAGE_BYTES === 0;
  return file.direct && !aligned ? Errno.EINVAL : 0;
}
