/**
 * `deno task demo`: shows on this machine, in less than a minute, what a replicated volume is good for. Leaves
 * nothing behind, also when it is interrupted.
 *
 * ```text
 * deno task demo [--dir DIRECTORY]
 * ```
 *
 * The copies lie in `.demo/` of the repository, or in `/var/tmp` when that is not on a file system for them. As
 * root, with FUSE and loop devices, it is a real disk with ext4 on it; elsewhere a client of its own writes and
 * verifies.
 *
 * @module
 */
import { whyNotUsable } from "../cmd/support/probes.ts";
import { FilesLibc } from "../lib/io/files_libc.ts";
import { formatSize } from "../cmd/support/sizes.ts";
import { listLoopDevices } from "../lib/host/loop_device.ts";
import { readMounts } from "../lib/host/mounts.ts";
import { readArguments } from "../tests/support/arguments.ts";
import { Play } from "./demo/play.ts";
import { Interrupted, Stage } from "./demo/stage.ts";
import { seconds, Story } from "./demo/story.ts";

const REPOSITORY = new URL("..", import.meta.url).pathname.replace(/\/$/, "");
/** Space for three copies of what is written, bytes. */
const SPACE_BYTES = 1024 * 1024 * 1024;
/** A unix socket's path has at most 107 bytes; the demonstration adds so many to its directory's. */
const ADDED_PATH = 40, MAX_PATH = 107;

/** A fresh directory for the copies. @throws {Error} when no place is good enough, saying why */
function makeDirectory(stage: Stage, wanted: string | undefined): string {
  const reasons: string[] = [];
  for (const base of wanted === undefined ? [`${REPOSITORY}/.demo`, "/var/tmp"] : [wanted]) {
    try {
      Deno.mkdirSync(base, { recursive: true });
      stage.later(base, () => removeIfEmpty(base, base.endsWith("/.demo")));
      const real = Deno.realPathSync(base), { free } = new FilesLibc().space(real);
      const problem = real.length + ADDED_PATH > MAX_PATH
        ? "its path is too long for a unix socket"
        : free < SPACE_BYTES
        ? `only ${formatSize(free)} are free, ${formatSize(SPACE_BYTES)} are needed`
        : whyNotUsable(real);
      if (problem !== undefined) {
        reasons.push(`${base}: ${problem}`);
        continue;
      }
      const directory = Deno.makeTempDirSync({ dir: real, prefix: "d-" });
      stage.later(directory, () => Deno.removeSync(directory, { recursive: true }));
      return directory;
    } catch (error) {
      reasons.push(`${base}: ${error instanceof Error ? error.message : error}`);
    }
  }
  throw new Error(`no place for the copies (--dir names another):\n  ${reasons.join("\n  ")}`);
}

function removeIfEmpty(directory: string, ours: boolean): void {
  if (!ours) return;
  try {
    Deno.removeSync(directory);
  } catch {
    // Another demonstration is using it.
  }
}

/** What of ours is still there; empty when all is well. */
function leftovers(directory: string): string[] {
  const below = (path: string) => path.startsWith(`${directory}/`);
  return [
    ...readMounts().filter(({ mountPoint }) => below(mountPoint)).map(({ mountPoint }) =>
      `mounted: ${mountPoint}`
    ),
    ...listLoopDevices().filter(({ backingFile }) => below(backingFile)).map(({ path }) =>
      `attached: ${path}`
    ),
  ];
}

const USAGE = `deno task demo [--dir DIRECTORY]

  --dir DIRECTORY   where the volume is made (the system's place for temporary files)`;

async function main(): Promise<number> {
  const { values } = readArguments(USAGE, { options: { dir: { type: "string" } } });
  const story = new Story(), begin = performance.now();
  let directory = "", status = 0;
  {
    await using stage = new Stage(
      (again) =>
        story.line(again ? "still taking everything away ..." : "interrupted; taking everything away"),
      (text) => {
        story.problem(`not taken away: ${text}`);
        status ||= 1;
      },
    );
    story.line("Drover: a replicated volume on this machine. Ctrl-C ends it at any time.");
    try {
      directory = makeDirectory(stage, values.dir);
      await new Play(stage, story, directory, REPOSITORY).run();
    } catch (error) {
      status = error instanceof Interrupted ? 130 : 1;
      if (!(error instanceof Interrupted)) {
        story.problem(`failed: ${error instanceof Error ? error.message : error}`);
      }
    }
  }
  for (const text of directory === "" ? [] : leftovers(directory)) {
    story.problem(`left behind: ${text}`);
    status ||= 1;
  }
  if (status === 0) {
    story.line(`Done in ${seconds(begin)}; nothing is left behind. Your own: drover volume serve --help`);
  }
  return status;
}

if (import.meta.main) Deno.exit(await main());
