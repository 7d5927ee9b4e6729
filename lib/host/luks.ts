/**
 * Encryption of a volume on the host that uses it: a LUKS2 header on the volume's device, and a mapped device on top.
 * The volume, its copies and its backups never see a key or clear data.
 *
 * The header takes {@linkcode LUKS_HEADER_BYTES} of the volume. So that users get the size they asked for, the volume
 * is made that much larger: {@linkcode encryptedVolumeBytes}.
 *
 * Passphrases travel through standard input only, every byte as it is (no line feed is added or taken away), and are
 * in no log.
 *
 * @module
 */
import { CommandError, type CommandResult, type Runner } from "./command.ts";
import { HostError } from "./retry.ts";

/** What a LUKS2 header with its spare copy and key slots takes: cryptsetup's data offset. */
export const LUKS_HEADER_BYTES = 16 * 1024 * 1024;
/** Directory of mapped devices. */
export const MAPPER_DIRECTORY = "/dev/mapper";
/** Time limit of a command, milliseconds. Deriving the key is slow on purpose. */
const LUKS_MS = 60_000;
/** Exit codes of cryptsetup (cryptsetup(8)). */
const WRONG_PASSPHRASE = 2, DEVICE_BUSY = 5;
/** Exit code of blkid when there is nothing that it knows. */
const BLKID_NOTHING = 2;

/** How the key is made and used; the names are cryptsetup's. */
export interface LuksSettings {
  /** Cipher and mode. */
  readonly cipher: string;
  /** Hash of key slots. */
  readonly hash: string;
  /** Bits of the volume's key. */
  readonly keyBits: number;
  /** How the key slot's key is derived from the passphrase. */
  readonly pbkdf: string;
  /** Rounds of the derivation; default: as many as this machine does in two seconds. */
  readonly iterations?: number;
  /** Memory of the derivation, KiB; default: cryptsetup's. For argon2 only. */
  readonly memoryKiB?: number;
}

/** Longhorn's settings. */
export const LUKS_SETTINGS: LuksSettings = {
  cipher: "aes-xts-plain64",
  hash: "sha256",
  keyBits: 256,
  pbkdf: "argon2i",
};

/** Something about an encrypted volume that did not work. Never has a passphrase in it. */
export class LuksError extends HostError {
  /** For checks across threads. */
  override readonly name: string = "LuksError";
}

/** The passphrase does not open the volume. */
export class PassphraseError extends LuksError {
  /** For checks across threads. */
  override readonly name = "PassphraseError";
}

/** How large a volume must be so that its users see this many bytes of an encrypted one. */
export function encryptedVolumeBytes(bytes: number): number {
  return bytes + LUKS_HEADER_BYTES;
}

/** What users see of an encrypted volume of this size. @throws {RangeError} it is all header */
export function usableBytes(volumeBytes: number): number {
  if (volumeBytes <= LUKS_HEADER_BYTES) {
    throw new RangeError(`an encrypted volume must be larger than its header of ${LUKS_HEADER_BYTES} bytes`);
  }
  return volumeBytes - LUKS_HEADER_BYTES;
}

async function run(
  runner: Runner,
  argv: readonly string[],
  input?: Uint8Array<ArrayBuffer>,
): Promise<CommandResult> {
  try {
    return await runner.run(argv, { timeoutMs: LUKS_MS, ...(input ? { input } : {}) });
  } catch (cause) {
    if (!(cause instanceof CommandError)) throw cause;
    const missing = /is not installed/.test(cause.message) ? "; install cryptsetup and util-linux" : "";
    throw new LuksError(`${cause.message}${missing}`, { cause });
  }
}

function failed(what: string, { code, stderr }: CommandResult): LuksError {
  const why = stderr.trim().replaceAll(/\s*\n\s*/g, "; ") || `exit code ${code}`;
  if (code === WRONG_PASSPHRASE) return new PassphraseError(`${what}: the passphrase is wrong (${why})`);
  if (code === DEVICE_BUSY) return new LuksError(`${what}: it is in use (${why})`);
  return new LuksError(`${what}: ${why}`);
}

function checkName(name: string): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name)) {
    throw new LuksError(`${JSON.stringify(name)} cannot name a mapped device`);
  }
  return name;
}

/** What is on a device: the type of a file system, `crypto_LUKS`, ...; "" for nothing that is known. */
export async function contentOf(runner: Runner, device: string): Promise<string> {
  const result = await run(runner, ["blkid", "--probe", "--output", "export", device]);
  if (result.code === BLKID_NOTHING) return "";
  if (result.code !== 0) throw failed(`looking at ${device}`, result);
  const type = /^(?:TYPE|PTTYPE)=(.*)$/m.exec(result.stdout)?.[1];
  // Something is there, whatever it is.
  return type ?? "unknown";
}

/** Whether a device has a LUKS2 header. */
export async function isLuks(runner: Runner, device: string): Promise<boolean> {
  return (await run(runner, ["cryptsetup", "isLuks", "--type", "luks2", device])).code === 0;
}

/**
 * Encrypts an empty volume.
 *
 * @throws {LuksError} there is something on it: nothing is overwritten
 */
export async function luksFormat(
  runner: Runner,
  device: string,
  passphrase: Uint8Array<ArrayBuffer>,
  settings: LuksSettings = LUKS_SETTINGS,
): Promise<void> {
  const content = await contentOf(runner, device);
  if (content !== "") {
    throw new LuksError(`${device} is not empty (${content}); it is not encrypted over that`);
  }
  const argv = [
    ...["cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2"],
    ...["--cipher", settings.cipher, "--hash", settings.hash, "--key-size", String(settings.keyBits)],
    ...["--pbkdf", settings.pbkdf],
    ...(settings.iterations === undefined ? [] : ["--pbkdf-force-iterations", String(settings.iterations)]),
    ...(settings.memoryKiB === undefined ? [] : ["--pbkdf-memory", String(settings.memoryKiB)]),
    ...["--key-file", "-", device],
  ];
  const result = await run(runner, argv, passphrase);
  if (result.code !== 0) throw failed(`encrypting ${device}`, result);
}

/** Whether a passphrase opens a volume; nothing is opened. */
export async function luksTest(
  runner: Runner,
  device: string,
  passphrase: Uint8Array<ArrayBuffer>,
): Promise<boolean> {
  const argv = ["cryptsetup", "open", "--test-passphrase", "--type", "luks2", "--key-file", "-", device];
  const result = await run(runner, argv, passphrase);
  if (result.code === 0) return true;
  if (result.code === WRONG_PASSPHRASE) return false;
  throw failed(`testing the passphrase of ${device}`, result);
}

/** A mapped device, as `cryptsetup status` shows it. */
export interface LuksStatus {
  /** The device under it; `(null)` when that is gone. */
  readonly device: string;
  /** It is mounted, or open. */
  readonly inUse: boolean;
}

/** Reads `cryptsetup status`; undefined for a name that is not active. */
export function parseLuksStatus(text: string): LuksStatus | undefined {
  const head = /^\/dev\/mapper\/\S+ is active(?: and is (in use))?\.?\s*$/m.exec(text);
  if (!head) return undefined;
  return { device: /^\s*device:\s+(\S.*?)\s*$/m.exec(text)?.[1] ?? "", inUse: head[1] !== undefined };
}

/** How a mapped device is; undefined when there is none of this name. */
export async function luksStatus(runner: Runner, name: string): Promise<LuksStatus | undefined> {
  return parseLuksStatus((await run(runner, ["cryptsetup", "status", checkName(name)])).stdout);
}

/**
 * Opens an encrypted volume. One that is open already is fine; a mapped device whose volume is gone is closed first.
 *
 * @param same whether the path that cryptsetup names is the volume's device: it names `/dev/sdb`, not the second name
 * @returns path of the mapped device
 * @throws {PassphraseError}
 * @throws {LuksError} the name belongs to another device, or cryptsetup fails
 */
export async function luksOpen(
  runner: Runner,
  device: string,
  name: string,
  passphrase: Uint8Array<ArrayBuffer>,
  same: (path: string) => boolean = (path) => path === device,
): Promise<string> {
  const path = `${MAPPER_DIRECTORY}/${checkName(name)}`, status = await luksStatus(runner, name);
  if (status && same(status.device)) return path;
  if (status && status.device !== "(null)") {
    throw new LuksError(`${path} is open on another device, ${status.device}; close that first`);
  }
  if (status) await luksClose(runner, name);
  const argv = ["cryptsetup", "open", "--type", "luks2", "--key-file", "-", device, name];
  const result = await run(runner, argv, passphrase);
  if (result.code !== 0) throw failed(`opening ${device}`, result);
  return path;
}

/** Makes a mapped device as large as its volume is now. @throws {PassphraseError} @throws {LuksError} */
export async function luksResize(
  runner: Runner,
  name: string,
  passphrase: Uint8Array<ArrayBuffer>,
): Promise<void> {
  const result = await run(runner, ["cryptsetup", "resize", "--key-file", "-", checkName(name)], passphrase);
  if (result.code !== 0) throw failed(`growing ${MAPPER_DIRECTORY}/${name}`, result);
}

/** Closes a mapped device; none is fine. @throws {LuksError} it is in use */
export async function luksClose(runner: Runner, name: string): Promise<void> {
  if (!await luksStatus(runner, name)) return;
  const result = await run(runner, ["cryptsetup", "close", name]);
  if (result.code !== 0) throw failed(`closing ${MAPPER_DIRECTORY}/${name}`, result);
}
