/**
 * Whether the processor runs the machine, or QEMU emulates it. /dev/kvm being there says little: inside another
 * virtual machine it may open, run a boot loader, and then get stuck in the first lines of the kernel. So the kernel
 * is booted once without a root disk: it gives up in a second or two, by a panic that ends QEMU.
 *
 * @module
 */
import { CommandError, SystemRunner } from "../../lib/host/command.ts";
import type { Image } from "./image.ts";

/** Value for QEMU's `-accel`. */
export type Acceleration = "kvm" | "tcg,thread=multi";

/** Time limit of the kernel that only panics, milliseconds. Emulated it takes longer than this. */
const PROBE_MS = 8_000;

/** Finds out what works. @param say told why it is not the fast one */
export async function findAcceleration(image: Image, say: (line: string) => void): Promise<Acceleration> {
  const slow = (reason: string): Acceleration => {
    say(`the processor is emulated, which is slow: ${reason}`);
    return "tcg,thread=multi";
  };
  try {
    Deno.openSync("/dev/kvm", { read: true, write: true }).close();
  } catch {
    return slow("/dev/kvm cannot be opened");
  }
  try {
    const { code } = await new SystemRunner().run([
      ...[
        "qemu-system-x86_64",
        "-accel",
        "kvm",
        "-cpu",
        "max",
        "-m",
        "512",
        "-nodefaults",
        "-display",
        "none",
      ],
      ...["-no-reboot", "-kernel", image.kernel, "-append", "panic=-1"],
    ], { timeoutMs: PROBE_MS });
    return code === 0 ? "kvm" : slow(`/dev/kvm is there, but QEMU cannot use it (exit code ${code})`);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    return slow("/dev/kvm is there, but a kernel on it gets nowhere");
  }
}
