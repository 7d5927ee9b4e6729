/**
 * `drover volume ...` on the command line.
 *
 * @module
 */
import type { program } from "../support/program.ts";
import { expandVolume, trimVolume } from "./grow.ts";
import { defaultDirectory } from "./names.ts";
import { serveVolume } from "./serve.ts";
import { upgradeVolume } from "./upgrade.ts";
import { listAll, removeVolume, showVolume } from "./show.ts";

const DIR_HELP = `default: $DROVER_DIR, else ${defaultDirectory()}`;

const SERVE_EXAMPLES = `
Examples:
  drover volume serve data --size 10GiB           3 copies below ${defaultDirectory()}
  drover volume serve data                        start it again later
  drover volume serve data --size 10GiB --dir /disk1 /disk2 /disk3      one copy on each disk
  drover volume serve data --frontend nbd --listen unix:/run/data.nbd

The volume runs in the foreground until Ctrl-C. A disk that is mounted is not taken away: unmount it first (Ctrl-C
twice within two seconds takes it away regardless, after its file system was synced). The crash
of a replica does not interrupt it; when the engine dies, the volume stops. What was flushed is on the disks of all
healthy copies in every case.

Repair: after 5 seconds (--repair-pause) a copy that failed gets the writes it missed, or, when they are not known, is erased and filled
from a complete one, snapshots included, while the volume serves. If it fails again, the pause doubles, up to 5
minutes. --no-repair leaves it as it is. What was read from another copy is checked by sums, and one megabyte in 64 is
read back from the new disk and compared; with --verify-rebuild everything is. The limit and this choice are
remembered; drover replica limit changes the limit while a rebuild runs.

From another terminal: drover snapshot, drover replica, drover volume expand and drover volume trim.

Members: Drover records durably which copies have every write. That does the job of Longhorn's revision counter at
no cost per write, so the counter is off unless --revision-counter asks for it (for copies that an older Longhorn
engine is to read).

--degraded starts although copies that were complete are missing. Only use it when they are lost for good: writes
that only they had are gone then, and they can never come back.

Exit status: 0 stopped in order; 1 it could not start or could not go on; 2 the command line makes no sense.`;

/** Adds the command with its subcommands. */
export function volumeCommand(parent: ReturnType<typeof program>): void {
  const volume = parent.command("volume").description(
    "replicated volumes of this machine, without a control plane",
  );
  serve(volume);
  const output = ["-o, --output <format>", "table or json", "table"] as const;
  const where = ["--dir <path...>", `where to look; ${DIR_HELP}`] as const;
  volume.command("ls").alias("list").description("list the volumes")
    .option(...where).option(...output)
    .action(listAll);
  volume.command("info <name>").description("show one volume: state, copies, processes, where its disk is")
    .option(...where).option(...output)
    .action(showVolume);
  volume.command("expand <name>").description("make a running volume larger, while it is used")
    .requiredOption("--size <size>", "its new size, such as 20GiB, or +10GiB for more than now")
    .option(...where).option(...output)
    .action(expandVolume);
  volume.command("upgrade <name>")
    .description(
      "let a new engine, of the version that is installed now, take over a running volume under load",
    )
    .option(...where).option(...output)
    .action(upgradeVolume);
  volume.command("trim <name>")
    .description("give back what the mounted file system of a running volume does not use")
    .option(...where).option(...output)
    .action(trimVolume);
  volume.command("rm <name>").description("remove a volume that is not in use, with its data")
    .option(...where).option(...output).option("-y, --yes", "do not ask")
    .action(removeVolume);
}

function serve(volume: ReturnType<typeof program>): void {
  volume.command("serve <name>")
    .description("serve a volume in the foreground; makes it when --size is given and it is not there")
    .option("--size <size>", "size of a new volume, such as 10GiB")
    .option("--replicas <n>", "copies of a new volume, 1 to 16; default 3")
    .option("--dir <path...>", `where copies lie, spread in turn; ${DIR_HELP}`)
    .option(
      "--frontend <kind>",
      "how it is shown: auto (loop where possible, else nbd), loop, nbd, iscsi, socket; or as a disk of this " +
        "machine: iscsi-blockdev, nbd-blockdev, loop-blockdev, tgt-blockdev",
      "auto",
    )
    .option(
      "--listen <address>",
      "for nbd, iscsi, socket: HOST:PORT or unix:/PATH; default: this machine only",
    )
    .option("--io-mode <mode>", "copies bypass the page cache (direct) or use it (cached)", "direct")
    .option(
      "--chap-file <path>",
      "iscsi: who may log in; lines user = NAME, secret = SECRET (or DROVER_CHAP_USER, DROVER_CHAP_SECRET)",
    )
    .option("--degraded", "start although complete copies are missing (see below)")
    .option("--allow-missing-replicas", "the same as --degraded")
    .option("--no-repair", "leave a copy that failed out, instead of filling it anew")
    .option("--repair-pause <seconds>", "from the failure of a copy to its repair, the first time; default 5")
    .option(
      "--rebuild-limit <rate>",
      "bytes per second that rebuilds may take, such as 50MiB; none = no limit",
    )
    .option("--verify-rebuild", "rebuilds read everything back at their end, not only a sample (see below)")
    .option("--no-verify-rebuild", "they read a sample; the default")
    .option("--revision-counter", "copies count their writes, as Longhorn's do (see below)")
    .option("--disable-revision-counter", "the default")
    .addHelpText("after", SERVE_EXAMPLES)
    .action((name: string, flags) =>
      serveVolume(name, { ...flags, disableRevisionCounter: flags.revisionCounter !== true })
    );
}
