/**
 * What a test may need of the machine, and how to find out whether it is there.
 *
 * @module
 */
import { GO_PEERS, packageOf, PEER_DIRECTORY } from "../../tools/peers.ts";

/** Debian's directories for programs (root's PATH does not always have the sbin ones), and that of built peers. */
const EXTRA_PATH = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin", PEER_DIRECTORY];

/** Number of the system call io_uring_setup, the same on x86-64 and arm64 (asm-generic/unistd.h). */
const SYS_IO_URING_SETUP = 425;

/** Bytes of struct io_uring_params (linux/io_uring.h). */
const IO_URING_PARAMS_BYTES = 120;

/**
 * A program by its name (`qemu-img`), or one of the words `root`, `loop` (loop devices can be set up), `fuse`
 * (/dev/fuse opens), `nbd-device` (/dev/nbd0 is there), `io_uring` (the kernel lets us), `python3-grpcio`.
 */
export type Need = string;

/** The path of a program, or null. */
export function findProgram(name: string): string | null {
  const path = (Deno.env.get("PATH") ?? "").split(":").concat(EXTRA_PATH);
  for (const directory of path) {
    if (directory === "") continue;
    try {
      const candidate = `${directory}/${name}`;
      const stat = Deno.statSync(candidate);
      if (stat.isFile && ((stat.mode ?? 0) & 0o111) !== 0) return candidate;
    } catch {
      // Not there, or not readable: the next directory may have it.
    }
  }
  return null;
}

function runs(command: string, ...args: string[]): boolean {
  try {
    return new Deno.Command(command, { args, stdin: "null", stdout: "null", stderr: "null" }).outputSync()
      .success;
  } catch {
    return false;
  }
}

function ioUring(): string | null {
  const libc = Deno.dlopen("libc.so.6", {
    syscall: { parameters: ["i64", "u32", "buffer"], result: "i64" },
    close: { parameters: ["i32"], result: "i32" },
  });
  try {
    const fd = Number(
      libc.symbols.syscall(BigInt(SYS_IO_URING_SETUP), 1, new Uint8Array(IO_URING_PARAMS_BYTES)),
    );
    if (fd < 0) return "the kernel refuses io_uring (kernel.io_uring_disabled, or a seccomp profile)";
    libc.symbols.close(fd);
    return null;
  } finally {
    libc.close();
  }
}

function opens(path: string): boolean {
  try {
    Deno.openSync(path, { read: true, write: true }).close();
    return true;
  } catch {
    return false;
  }
}

function loop(): string | null {
  if (Deno.uid() !== 0) return "loop devices need root";
  const losetup = findProgram("losetup");
  if (losetup === null) return "losetup is missing (Debian package mount)";
  return runs(losetup, "--find") ? null : "no loop device can be had (is the kernel module loop there?)";
}

const CAPABILITIES: Readonly<Record<string, () => string | null>> = {
  root: () => Deno.uid() === 0 ? null : "needs root",
  loop,
  fuse: () => opens("/dev/fuse") ? null : "/dev/fuse cannot be opened",
  "nbd-device": () => opens("/dev/nbd0") ? null : "/dev/nbd0 cannot be opened (kernel module nbd)",
  io_uring: ioUring,
  "python3-grpcio": () =>
    runs("/usr/bin/python3", "-c", "import grpc")
      ? null
      : "Python's grpc module is missing (Debian package python3-grpcio)",
};

const known = new Map<Need, string | null>();

/** Why a need is not met, as a text for people; null when it is met. Looks once per need and process. */
export function missing(need: Need): string | null {
  let answer = known.get(need);
  if (answer === undefined) {
    answer = CAPABILITIES[need]?.() ?? null;
    if (!(need in CAPABILITIES) && findProgram(need) === null) {
      const debian = packageOf(need);
      const built = GO_PEERS.find(({ program }) => program === need);
      answer = `${need} is missing${
        debian !== undefined
          ? ` (Debian package ${debian})`
          : built !== undefined
          ? ` (go install ${built.module}, where Go is there)`
          : ""
      }`;
    }
    known.set(need, answer);
  }
  return answer;
}
