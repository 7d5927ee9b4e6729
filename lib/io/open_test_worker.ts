/**
 * A thread on which io_uring_setup is refused as a container's seccomp profile refuses it: opens an Io and says
 * which one it got. The filter binds this thread only.
 *
 * @module
 */
import { openIo } from "./open.ts";

const PR_SET_NO_NEW_PRIVS = 38;
const PR_SET_SECCOMP = 22;
const SECCOMP_MODE_FILTER = 2n;
const NR_IO_URING_SETUP = 425;

/** struct sock_filter (linux/filter.h): code u16, jt u8, jf u8, k u32. Loads the call's number and compares. */
function filter(errno: number): Uint8Array<ArrayBuffer> {
  const LD_W_ABS = 0x20, JEQ_K = 0x15, RET_K = 0x06;
  const SECCOMP_RET_ALLOW = 0x7fff0000, SECCOMP_RET_ERRNO = 0x00050000;
  const program = [
    [LD_W_ABS, 0, 0, 0],
    [JEQ_K, 0, 1, NR_IO_URING_SETUP],
    [RET_K, 0, 0, SECCOMP_RET_ERRNO | errno],
    [RET_K, 0, 0, SECCOMP_RET_ALLOW],
  ] as const;
  const view = new DataView(new ArrayBuffer(8 * program.length));
  program.forEach(([code, jt, jf, k], i) => {
    view.setUint16(8 * i, code, true);
    view.setUint8(8 * i + 2, jt);
    view.setUint8(8 * i + 3, jf);
    view.setUint32(8 * i + 4, k, true);
  });
  return new Uint8Array(view.buffer);
}

function refuse(errno: number): boolean {
  const { prctl } = Deno.dlopen("libc.so.6", {
    prctl: { parameters: ["i32", "usize", "pointer", "usize", "usize"], result: "i32" },
  }).symbols;
  const program = filter(errno);
  // struct sock_fprog: length u16, then the address at 8.
  const fprog = new DataView(new ArrayBuffer(16));
  fprog.setUint16(0, program.length / 8, true);
  fprog.setBigUint64(8, Deno.UnsafePointer.value(Deno.UnsafePointer.of(program)), true);
  return prctl(PR_SET_NO_NEW_PRIVS, 1n, null, 0n, 0n) === 0 &&
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, Deno.UnsafePointer.of(fprog.buffer), 0n, 0n) === 0;
}

const scope = globalThis as unknown as {
  onmessage: (event: MessageEvent<{ errno: number; force?: "uring" }>) => void;
  postMessage(message: unknown): void;
};

scope.onmessage = ({ data }) => {
  const notes: string[] = [];
  try {
    if (!refuse(data.errno)) throw new Error("the filter was not accepted");
    const world = data.force;
    using io = openIo({
      arenaBytes: 4096,
      note: (reason) => notes.push(reason),
      ...(world ? { world } : {}),
    });
    scope.postMessage({ world: io.world, notes });
  } catch (error) {
    scope.postMessage({ error: String(error), notes });
  }
};
