/**
 * Shares of file servers, mounted by the kernel for the time that somebody uses them for backups and kept for the
 * next time.
 *
 * Passwords reach mount.cifs in a file that only root can read and that is gone when it has returned: command
 * lines and environments of processes can be seen by others.
 *
 * @module
 */
import { CommandError, type Runner } from "./command.ts";
import { readMounts } from "./mounts.ts";

/** Time limit of one try to mount, milliseconds; mount.nfs tries for `retry` minutes by itself. */
const MOUNT_MS = 60_000;
/** Time limit of an unmount, milliseconds. */
const UNMOUNT_MS = 10_000;

/** Debian packages with the programs that mount the types. */
const PACKAGES = { nfs: "nfs-common", cifs: "cifs-utils" } as const;

/** What mount says where the kernel or the program for a type is missing. */
const MISSING = /unknown filesystem type|No such device|not supported by kernel|bad option|helper program/i;

/** What a program said, without its hints. */
function firstLine(text: string): string {
  return (text.trim().split("\n")[0] ?? "").slice(0, 300).replace(/\.$/, "");
}

/** A share to mount. */
export interface Share {
  /** Type of the file system. */
  readonly type: "nfs" | "cifs";
  /** `host:/export` or `//host/share`. */
  readonly source: string;
  /** Where. */
  readonly directory: string;
  /** Lists of options, to be tried in this order. */
  readonly tries: readonly (readonly string[])[];
  /** Name and password for CIFS. */
  readonly login?: {
    /** Name. */
    readonly username: string;
    /** Password. */
    readonly password: string;
  };
}

/** A share that cannot be mounted. */
export class ShareError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "ShareError";
}

/** What a {@linkcode ShareMounts} looks at; tests put another in place. */
export interface ShareHost {
  /** Runs `mount` and `umount`. */
  readonly runner: Runner;
  /** Where procfs is mounted; default `/proc`. */
  readonly proc?: string;
}

/** See the module text. One for a process, since it keeps two calls from mounting the same place at once. */
export class ShareMounts {
  readonly #host: ShareHost;
  readonly #busy = new Map<string, Promise<void>>();

  /** Makes it; mounts nothing. */
  constructor(host: ShareHost) {
    this.#host = host;
  }

  /** Mounts a share, or finds it mounted. @throws {ShareError} */
  async mount(share: Share): Promise<void> {
    const before = this.#busy.get(share.directory) ?? Promise.resolve();
    const turn = before.catch(() => {}).then(() => this.#mount(share));
    this.#busy.set(share.directory, turn);
    try {
      await turn;
    } finally {
      if (this.#busy.get(share.directory) === turn) this.#busy.delete(share.directory);
    }
  }

  async #mount(share: Share): Promise<void> {
    const there = readMounts(this.#host.proc).findLast(({ mountPoint }) => mountPoint === share.directory);
    if (there !== undefined) {
      const right = there.type.startsWith(share.type) && there.source === share.source;
      if (right && await this.#isAlive(share.directory)) return;
      if (!right) {
        throw new ShareError(
          `${share.directory} is the mount point of ${there.source} (${there.type}) already`,
        );
      }
      // A server that forgot us: only a new mount helps.
      await this.#unmount(share.directory);
    }
    await Deno.mkdir(share.directory, { recursive: true, mode: 0o700 });
    const problems: string[] = [];
    for (const options of share.tries) {
      const problem = await this.#try(share, options);
      if (problem === undefined) return;
      problems.push(`with ${options.join(",") || "no options"}: ${problem}`);
      // Other options will not bring what is missing.
      if (MISSING.test(problem)) break;
    }
    // Only if it is empty, of course.
    await Deno.remove(share.directory).catch(() => {});
    throw new ShareError(this.#explain(share, problems));
  }

  async #isAlive(directory: string): Promise<boolean> {
    // In a process of its own: a call on a dead share may hang, and would hang here for ever.
    try {
      return (await this.#host.runner.run(["stat", "-f", "--", directory], { timeoutMs: UNMOUNT_MS }))
        .code === 0;
    } catch (error) {
      if (error instanceof CommandError) return false;
      throw error;
    }
  }

  async #try(share: Share, options: readonly string[]): Promise<string | undefined> {
    const secret = share.login === undefined ? undefined : await secretFile(share.login);
    const all = secret === undefined ? options : [...options, `credentials=${secret}`];
    const given = all.length === 0 ? [] : ["-o", all.join(",")];
    try {
      const argv = ["mount", "-t", share.type, ...given, "--", share.source, share.directory];
      const { code, stdout, stderr } = await this.#host.runner.run(argv, { timeoutMs: MOUNT_MS });
      return code === 0 ? undefined : firstLine(stderr) || firstLine(stdout) || `exit code ${code}`;
    } catch (error) {
      if (error instanceof CommandError) return error.message;
      throw error;
    } finally {
      if (secret !== undefined) await Deno.remove(secret);
    }
  }

  #explain(share: Share, problems: readonly string[]): string {
    const tried = problems.join("; ");
    const { type, source } = share;
    const helper =
      /unknown filesystem type|No such device|not supported by kernel|bad option|helper program/i;
    if (!helper.test(tried)) return `${source} cannot be mounted: ${tried}`;
    const word = type.toUpperCase();
    return `${source} cannot be mounted: ${tried}. ${
      this.#kernelHas(type)
        ? `The program mount.${type} is missing: install the Debian package ${PACKAGES[type]}.`
        : `The kernel of this machine has no ${word}: load it with "modprobe ${type}" (and have the Debian ` +
          `package ${PACKAGES[type]} installed), or use a target that needs no mount, such as s3.`
    }`;
  }

  #kernelHas(type: "nfs" | "cifs"): boolean {
    const known = Deno.readTextFileSync(`${this.#host.proc ?? "/proc"}/filesystems`);
    return new RegExp(`\\s${type}4?$`, "m").test(known);
  }

  async #unmount(directory: string): Promise<void> {
    const { runner } = this.#host;
    const gently = await runner.run(["umount", "--", directory], { timeoutMs: UNMOUNT_MS })
      .catch((error) => error instanceof CommandError ? undefined : Promise.reject(error));
    if (gently?.code === 0) return;
    // Whoever still uses it keeps it until he is done; nobody new gets it.
    const lazily = await runner.run(["umount", "--lazy", "--", directory], { timeoutMs: UNMOUNT_MS });
    if (lazily.code !== 0) throw new ShareError(`${directory} cannot be unmounted: ${lazily.stderr.trim()}`);
  }

  /** Unmounts everything below a directory. Returns the mount points. @throws {ShareError} */
  async unmountAll(below: string): Promise<string[]> {
    const found = readMounts(this.#host.proc).map(({ mountPoint }) => mountPoint)
      .filter((mountPoint) => mountPoint.startsWith(`${below}/`));
    // What is mounted on something else goes first.
    for (const mountPoint of found.toReversed()) await this.#unmount(mountPoint);
    return found;
  }
}

/** A file for mount.cifs (mount.cifs(8), "credentials"). */
async function secretFile(login: { username: string; password: string }): Promise<string> {
  if (/[\r\n]/.test(login.username + login.password)) {
    throw new ShareError("CIFS_USERNAME and CIFS_PASSWORD must not have line feeds");
  }
  const path = await Deno.makeTempFile({ prefix: "drover-cifs-" });
  await Deno.chmod(path, 0o600);
  await Deno.writeTextFile(path, `username=${login.username}\npassword=${login.password}\n`);
  return path;
}
