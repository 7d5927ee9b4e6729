/**
 * `drover crypt ...`: encrypting volumes on the machine that uses them, with LUKS2. The volume, its copies and backups
 * never see the passphrase or clear data.
 *
 * @module
 */
import { basename } from "node:path";
import type { Command } from "commander";
import { numberOfPath } from "../../lib/host/block_stack.ts";
import { SystemRunner } from "../../lib/host/command.ts";
import {
  LUKS_HEADER_BYTES,
  LUKS_SETTINGS,
  luksClose,
  luksFormat,
  luksOpen,
  luksResize,
} from "../../lib/host/luks.ts";
import { UsageError } from "../support/program.ts";

/** Access by the group or by others (stat(2)). */
const OTHERS = 0o077;
/** Derivations that cryptsetup has for LUKS2. */
const PBKDFS: readonly string[] = ["argon2i", "argon2id", "pbkdf2"];
/** Longest passphrase, bytes: cryptsetup's own limit for key files is far above. */
const MAX_PASSPHRASE_BYTES = 8192;

interface CryptFlags {
  readonly passphraseFile: string;
}

interface FormatFlags extends CryptFlags {
  readonly pbkdf: string;
  readonly iterations?: string;
}

/** The passphrase, every byte as it is in the file or on standard input. */
async function passphraseOf({ passphraseFile: path }: CryptFlags): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = path === "-" ? await fromStdin() : fromFile(path);
  if (bytes.length === 0) throw new UsageError(`--passphrase-file ${path}: it is empty`);
  if (bytes.length > MAX_PASSPHRASE_BYTES) {
    throw new UsageError(`--passphrase-file ${path}: more than ${MAX_PASSPHRASE_BYTES} bytes`);
  }
  return bytes;
}

async function fromStdin(): Promise<Uint8Array<ArrayBuffer>> {
  if (Deno.stdin.isTerminal()) throw new UsageError("--passphrase-file -: standard input is a terminal");
  return new Uint8Array(await new Response(Deno.stdin.readable).arrayBuffer());
}

function fromFile(path: string): Uint8Array<ArrayBuffer> {
  try {
    const { mode } = Deno.statSync(path);
    if (mode !== null && (mode & OTHERS) !== 0) {
      throw new UsageError(`--passphrase-file ${path}: others can read it; run: chmod 600 ${path}`);
    }
    return Deno.readFileSync(path);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const why = error instanceof Error ? error.message : error;
    throw new UsageError(`--passphrase-file ${path}: cannot be read: ${why}`);
  }
}

function isSameDevice(a: string, b: string): boolean {
  const one = numberOfPath(a), other = numberOfPath(b);
  return one !== null && one.major === other?.major && one.minor === other.minor;
}

async function format(device: string, flags: FormatFlags): Promise<void> {
  const { pbkdf, iterations: rounds } = flags, iterations = Number(rounds);
  if (!PBKDFS.includes(pbkdf)) throw new UsageError(`--pbkdf ${pbkdf}: choose from ${PBKDFS.join(", ")}`);
  if (rounds !== undefined && (!Number.isInteger(iterations) || iterations < 1)) {
    throw new UsageError(`--iterations ${rounds}: expected a number from 1`);
  }
  const settings = { ...LUKS_SETTINGS, pbkdf, ...(rounds === undefined ? {} : { iterations }) };
  await luksFormat(new SystemRunner(), device, await passphraseOf(flags), settings);
  console.log(`${device} is encrypted; next: drover crypt open ${device} --passphrase-file ...`);
}

async function open(device: string, name: string | undefined, flags: CryptFlags): Promise<void> {
  const same = (path: string) => isSameDevice(path, device);
  const passphrase = await passphraseOf(flags);
  console.log(await luksOpen(new SystemRunner(), device, name ?? basename(device), passphrase, same));
}

async function grow(name: string, flags: CryptFlags): Promise<void> {
  await luksResize(new SystemRunner(), name, await passphraseOf(flags));
}

async function close(name: string): Promise<void> {
  await luksClose(new SystemRunner(), name);
}

const HELP = `
Examples:
  drover volume serve data --size 10256MiB --frontend iscsi-blockdev
  drover crypt format /dev/longhorn/data --passphrase-file key        refuses a device that is not empty
  drover crypt open /dev/longhorn/data --passphrase-file key          gives /dev/mapper/data
  mkfs.ext4 /dev/mapper/data && mount /dev/mapper/data /mnt
  drover crypt grow data --passphrase-file key                        after the volume has grown
  umount /mnt; drover crypt close data

The header takes ${
  LUKS_HEADER_BYTES / 1024 / 1024
} MiB of the volume: make it that much larger. Every byte of the file belongs to the passphrase, a
line feed at the end too. It needs cryptsetup, and a kernel with dm_crypt: drover check --for encryption.`;

/**
 * Adds the command with its subcommands.
 * @internal
 */
export function cryptCommand(parent: Command): void {
  const crypt = parent.command("crypt").description("encrypt volumes on this machine (LUKS2)").addHelpText(
    "after",
    HELP,
  );
  const file = [
    "--passphrase-file <path>",
    "file with the passphrase, readable by its owner only; - for standard input",
  ] as const;
  crypt.command("format <device>").description("encrypt an empty volume").requiredOption(...file)
    .option("--pbkdf <kind>", `how the key is derived: ${PBKDFS.join(", ")}`, LUKS_SETTINGS.pbkdf)
    .option("--iterations <n>", "rounds of that; default: what this machine does in two seconds")
    .action(format);
  crypt.command("open <device> [name]").description("open it as /dev/mapper/NAME").requiredOption(...file)
    .action(open);
  crypt.command("grow <name>").description("make the open device as large as its volume").requiredOption(
    ...file,
  )
    .action(grow);
  crypt.command("close <name>").description("close the open device").action(close);
}
