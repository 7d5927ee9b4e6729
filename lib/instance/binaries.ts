/**
 * Which programs may be started. Whoever may call the instance manager starts programs as root, so what they may be
 * is not left to the caller: Drover's own by their names, and others below directories that the operator names.
 *
 * @module
 */
import { Code, RpcError } from "../rpc/errors.ts";

/** What is executed. */
export interface Program {
  /** Path. */
  readonly command: string;
  /** Arguments that come before the caller's. */
  readonly args: readonly string[];
}

/** Where Longhorn's manager puts the programs of engine images, as seen from a pod and from the host. */
export const ENGINE_BINARIES = [
  "/engine-binaries",
  "/host/var/lib/longhorn/engine-binaries",
  "/var/lib/longhorn/engine-binaries",
] as const;

/** See the module text. */
export class Binaries {
  readonly #own: (name: string) => Program | undefined;
  readonly #allowed: readonly string[];

  /**
   * Makes the rule.
   *
   * @param own finds one of Drover's programs; undefined when a name is none
   * @param allowed directories, or files, that others may be in
   */
  constructor(own: (name: string) => Program | undefined, allowed: readonly string[]) {
    this.#own = own;
    this.#allowed = allowed;
  }

  /**
   * What is executed for a binary.
   *
   * @throws RpcError with PERMISSION_DENIED when it may not be, NOT_FOUND when it is not there
   */
  locate(binary: string): Program {
    const own = this.#own(binary);
    if (own) return own;
    if (!binary.startsWith("/")) {
      throw new RpcError(
        Code.PERMISSION_DENIED,
        `${JSON.stringify(binary)} is none of Drover's programs, and no path`,
      );
    }
    let real: string;
    try {
      real = Deno.realPathSync(binary);
    } catch (cause) {
      throw new RpcError(Code.NOT_FOUND, `fork/exec ${binary}: no such file or directory`, { cause });
    }
    // Links are followed first: one that leads out of a directory leads out of it.
    if (this.#allowed.some((place) => contains(place, real))) return { command: real, args: [] };
    throw new RpcError(
      Code.PERMISSION_DENIED,
      `${binary} is not below a directory that programs may come from; see --allow-binary`,
    );
  }
}

function contains(place: string, real: string): boolean {
  try {
    const allowed = Deno.realPathSync(place);
    return real === allowed || real.startsWith(allowed.endsWith("/") ? allowed : `${allowed}/`);
  } catch {
    return false; // It does not exist (yet).
  }
}
