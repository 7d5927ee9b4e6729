/**
 * The system calls that the runtime does not offer, through glibc, and the memory that the kernel is given.
 *
 * Numbers are passed as numbers wherever the parameter fits 32 bits, because the engine compiles such calls to
 * a direct jump without allocating (about 0.15 us; a number for a 64-bit parameter costs four times as much).
 * A 64-bit parameter takes a `bigint`; on hot paths that is a constant or avoided by putting the value into
 * memory (an iovec, a submission entry). 32-bit values in the place of `size_t` are right while they travel in
 * a register: both x86-64 and arm64 clear the upper half.
 *
 * Variadic functions (`syscall`, `open`, `fcntl`, `ioctl`) are called like others. That is sound on Linux for
 * x86-64 and arm64, where variadic integer and pointer arguments travel as fixed ones do.
 *
 * @module
 */
import { Arena, HUGE_PAGE_BYTES, PAGE_BYTES } from "./arena.ts";
import { IoError } from "./errno.ts";

/** Signatures of the functions of glibc that Drover calls. */
export const symbols = {
  __errno_location: { parameters: [], result: "pointer" },
  syscall3: { name: "syscall", parameters: ["i32", "u32", "buffer"], result: "i32" },
  syscall6: {
    name: "syscall",
    parameters: ["i32", "i32", "u32", "u32", "u32", "pointer", "usize"],
    result: "i32",
  },
  mmap: { parameters: ["pointer", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
  munmap: { parameters: ["pointer", "usize"], result: "i32" },
  madvise: { parameters: ["pointer", "usize", "i32"], result: "i32" },
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  write: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  listen: { parameters: ["i32", "i32"], result: "i32" },
  accept4: { parameters: ["i32", "pointer", "pointer", "i32"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  getpeername: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  shutdown: { parameters: ["i32", "i32"], result: "i32" },
  sendmsg: { parameters: ["i32", "pointer", "i32"], result: "i32" },
  recvmsg: { parameters: ["i32", "pointer", "i32"], result: "i32" },
  memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
  ppoll: { parameters: ["pointer", "u32", "pointer", "pointer"], result: "i32" },
  readv: { parameters: ["i32", "pointer", "i32"], result: "i32" },
  writev: { parameters: ["i32", "pointer", "i32"], result: "i32" },
  preadv: { parameters: ["i32", "pointer", "i32", "i64"], result: "i32" },
  pwritev2: { parameters: ["i32", "pointer", "i32", "i64", "i32"], result: "i32" },
  pread: { parameters: ["i32", "buffer", "u32", "i64"], result: "i32" },
  pwrite: { parameters: ["i32", "buffer", "u32", "i64"], result: "i32" },
  fdatasync: { parameters: ["i32"], result: "i32" },
  fsync: { parameters: ["i32"], result: "i32" },
  fallocate: { parameters: ["i32", "i32", "i64", "i64"], result: "i32" },
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
  sync_file_range: { parameters: ["i32", "i64", "i64", "u32"], result: "i32" },
  posix_fadvise: { parameters: ["i32", "i64", "i64", "i32"], result: "i32" },
  flock: { parameters: ["i32", "i32"], result: "i32" },
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  ioctl: { parameters: ["i32", "u32", "buffer"], result: "i32" },
  statx: { parameters: ["i32", "buffer", "i32", "u32", "buffer"], result: "i32" },
  rename: { parameters: ["buffer", "buffer"], result: "i32" },
  link: { parameters: ["buffer", "buffer"], result: "i32" },
  unlink: { parameters: ["buffer"], result: "i32" },
  rmdir: { parameters: ["buffer"], result: "i32" },
  mkdir: { parameters: ["buffer", "u32"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

/** The functions of glibc that Drover calls; results below 0 mean: see {@linkcode errno}. */
export const libc: Deno.StaticForeignLibraryInterface<typeof symbols> = Deno.dlopen("libc.so.6", symbols)
  .symbols;

/**
 * A view of this thread's `errno`. The address is fixed for the life of a thread and every Worker evaluates
 * this module on its own thread, so reading the number is a memory read that nothing can come before.
 */
const errnoView = new Int32Array(pointerBuffer(libc.__errno_location(), 4));

/** The error number of the last failed call of this thread. */
export function errno(): number {
  return errnoView[0] ?? 0;
}

/**
 * Throws when a call failed.
 *
 * @param result what the call returned
 * @param operation the call, for the message
 * @param subject path or address, for the message
 * @returns the result, 0 or more
 * @throws {IoError}
 */
export function check(result: number, operation: string, subject = ""): number {
  if (result < 0) throw new IoError(operation, subject, errno());
  return result;
}

const encoder = new TextEncoder();

/**
 * A path as the kernel wants it.
 *
 * @throws {IoError} EINVAL when the path contains a NUL, which would silently cut it
 */
export function cString(path: string, operation: string): Uint8Array<ArrayBuffer> {
  if (path.includes("\0")) throw new IoError(operation, JSON.stringify(path), 22);
  return encoder.encode(path + "\0");
}

const arm = Deno.build.arch === "aarch64";

/** Flags of open(2): asm-generic/fcntl.h; arm64 swaps two of them (arch/arm64/include/uapi/asm/fcntl.h). */
export const OpenFlag = {
  WRONLY: 0o1,
  RDWR: 0o2,
  CREAT: 0o100,
  EXCL: 0o200,
  TRUNC: 0o1000,
  NONBLOCK: 0o4000,
  DIRECT: arm ? 0o200000 : 0o40000,
  DIRECTORY: arm ? 0o40000 : 0o200000,
  CLOEXEC: 0o2000000,
} as const;

/** fallocate(2) FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE (linux/falloc.h). */
export const FALLOC_PUNCH_HOLE = 0x03;

/** Flag of pwritev2(2) and io_uring writes: as O_DSYNC, for one write (linux/fs.h). */
export const RWF_DSYNC = 0x2;

const PROT_READ_WRITE = 3;
const MAP_SHARED_POPULATE = 0x8001;
/** MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE (asm-generic/mman.h). */
const MAP_LAZY = 0x4022;
const MADV_DONTNEED = 4;
const MADV_HUGEPAGE = 14;
const MADV_NOHUGEPAGE = 15;

/** Memory outside the heap of the runtime, at an address that does not move. */
export interface Mapping {
  /** For pointer parameters. */
  readonly pointer: Deno.PointerObject;
  /** The address; user space ends below 2^53, so a number is exact. */
  readonly address: number;
  /** The bytes. */
  readonly buffer: ArrayBuffer;
}

function map(bytes: number, flags: number, fd: number, offset: bigint): Mapping {
  const pointer = libc.mmap(null, BigInt(bytes), PROT_READ_WRITE, flags, fd, offset);
  const address = Deno.UnsafePointer.value(pointer);
  // MAP_FAILED is (void *) -1.
  if (pointer === null || address === 0xffff_ffff_ffff_ffffn) {
    throw new IoError("mmap", `of ${bytes} bytes`, errno());
  }
  return { pointer, address: Number(address), buffer: pointerBuffer(pointer, bytes) };
}

function pointerBuffer(pointer: Deno.PointerValue, bytes: number): ArrayBuffer {
  if (pointer === null) throw new TypeError("null pointer where glibc promises an address");
  return new Deno.UnsafePointerView(pointer).getArrayBuffer(bytes);
}

/**
 * Maps zeroed, page-aligned memory that costs nothing until it is touched. Huge pages are declined: one byte
 * written would cost 2 MiB.
 *
 * @throws {IoError}
 */
export function mapMemory(bytes: number): Mapping {
  const mapping = map(bytes, MAP_LAZY, -1, 0n);
  libc.madvise(mapping.pointer, BigInt(bytes), MADV_NOHUGEPAGE);
  return mapping;
}

/**
 * Maps zeroed memory in huge pages as far as the system gives them, aligned to them. For buffers of large pieces: what
 * lies together in memory goes to a disk as one piece instead of one for each page, of which a request of a virtual
 * disk holds 254. Direct reads of 1 MiB went from 750 to 1,900 MiB/s by it, writes from 1,000 to 1,250.
 *
 * @param bytes whole huge pages
 * @throws {IoError}
 */
export function mapHuge(bytes: number): Mapping {
  return mapAligned(bytes, MADV_HUGEPAGE);
}

function mapAligned(bytes: number, advice: number): Mapping {
  const { address, pointer } = map(bytes + HUGE_PAGE_BYTES, MAP_LAZY, -1, 0n);
  const aligned = Math.ceil(address / HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES;
  const first = Deno.UnsafePointer.offset(pointer, aligned - address) as Deno.PointerObject;
  libc.madvise(first, BigInt(bytes), advice);
  return { pointer: first, address: aligned, buffer: pointerBuffer(first, bytes) };
}

/** Maps memory that the kernel shares through a descriptor, such as the rings of io_uring. @throws {IoError} */
export function mapShared(fd: number, bytes: number, offset: bigint): Mapping {
  return map(bytes, MAP_SHARED_POPULATE, fd, offset);
}

/** Takes a mapping away. No view of it may be used afterwards: it would fault. */
export function unmap(mapping: Mapping): void {
  libc.munmap(mapping.pointer, BigInt(mapping.buffer.byteLength));
}

/** Gives whole pages back to the system; they read zeros afterwards. */
export function giveBackPages(address: number, bytes: number): void {
  libc.madvise(Deno.UnsafePointer.create(BigInt(address)), BigInt(bytes), MADV_DONTNEED);
}

/** Gives the memory back but keeps the address range: a view used by mistake reads zeros, it does not fault. */
export function discard(mapping: Mapping): void {
  giveBackPages(mapping.address, mapping.buffer.byteLength);
}

/** An arena and the mapping under it. */
export interface MappedArena {
  /** The arena. */
  readonly arena: Arena;
  /** Its memory. */
  readonly mapping: Mapping;
}

/**
 * Maps an arena, from the begin of a huge page. Pages that are never touched cost nothing.
 *
 * @param bytes size; rounded up to whole pages
 * @throws {IoError}
 */
export function mapArena(bytes: number): MappedArena {
  const mapping = mapAligned(Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES, MADV_NOHUGEPAGE);
  return { arena: new Arena(mapping.buffer, BigInt(mapping.address)), mapping };
}

/** Wants huge pages under a part of an arena, where nothing was touched yet; see {@linkcode mapHuge}. */
export function wantHugePages(address: number, bytes: number): void {
  // Nothing depends on it, and not every kernel has them.
  libc.madvise(Deno.UnsafePointer.create(BigInt(address)), BigInt(bytes), MADV_HUGEPAGE);
}

/** As {@linkcode mapArena}, for users that keep it as long as the process lives. @throws {IoError} */
export function openArena(bytes: number): Arena {
  return mapArena(bytes).arena;
}

/** Makes an eventfd (close-on-exec, blocking). @throws {IoError} */
export function openEvent(): number {
  const EFD_CLOEXEC = 0x80000;
  return check(libc.eventfd(0, EFD_CLOEXEC), "eventfd");
}

const ONE = new Uint8Array(new BigUint64Array([1n]).buffer);

/** Adds one to an eventfd, waking whoever reads it. @throws {IoError} */
export function signalEvent(fd: number): void {
  check(libc.write(fd, ONE, 8), "write", "eventfd");
}
