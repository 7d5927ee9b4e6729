/**
 * `drover backup follow` and `activate`: a stand-by volume that is kept as the newest backup of another one, for the
 * day on which the other one is lost.
 *
 * @module
 */
import { Follower, type FollowStep, readFollowState } from "../../lib/client/follower.ts";
import { UsageError } from "../support/program.ts";
import { resolveDirectories } from "../volume/names.ts";
import { directoriesOf, readRecord } from "../volume/record.ts";
import { newestBackup } from "./newest.ts";
import { InterruptedError, interruptible, ProgressLine } from "./progress.ts";
import { openPlace } from "./restore.ts";
import { agreed, named, open, type TargetFlags, wantsJson, wholeNumber } from "./settings.ts";

/** Flags of the commands. */
export interface FollowFlags extends TargetFlags {
  /** The stand-by volume, or another place. */
  readonly into?: string;
  /** Where volumes are looked for. */
  readonly dir?: readonly string[];
  /** Directory for the notes. */
  readonly state?: string;
  /** Seconds between two looks. */
  readonly every?: string;
  /** One look only. */
  readonly once?: boolean;
  /** Do not ask. */
  readonly yes?: boolean;
}

/** Where the notes of a place are: beside the volume, unless they are put elsewhere. */
function stateDirectory(into: string, flags: FollowFlags): string {
  if (flags.state !== undefined) return flags.state;
  const record = into.includes("/") ? undefined : readRecord(into, resolveDirectories(flags.dir));
  const [first] = record === undefined ? [] : directoriesOf(record);
  if (first === undefined) {
    throw new UsageError(
      `${into} is no volume of drover volume serve; name a directory for notes with --state`,
    );
  }
  return `${first}/${into}.follow`;
}

function describe(step: FollowStep, into: string, backup: string): string {
  return step === "nothing" ? `${into} holds ${backup}` : `${into} holds ${backup} (${step})`;
}

/** `drover backup follow VOLUME --into PLACE` */
export async function followCommand(word: string, given: FollowFlags): Promise<void> {
  const { flags, volume } = named([word], given), json = wantsJson(given), { into } = given;
  if (into === undefined) throw new UsageError("which volume is to be kept current? --into VOLUME");
  const seconds = wholeNumber("--every", given.every, 1, 86_400) ?? 60;
  const directory = stateDirectory(into, given);
  await using target = await open(flags);
  using sink = await openPlace(into, given.dir);
  if (readFollowState(directory) === undefined) {
    const question = `${into}: overwrite everything, and keep it as the newest backup of ${volume}?`;
    if (!agreed(question, given.yes)) return console.log("nothing was written");
  }
  using follower = new Follower(directory, sink);
  let shown = "";
  const look = async (signal: AbortSignal): Promise<void> => {
    const backup = await newestBackup(target, volume);
    using line = new ProgressLine(`${into} to ${backup}`);
    const step = await follower.bringTo(target, volume, backup, { signal, onProgress: line.show });
    line[Symbol.dispose]();
    if (step === "nothing" && shown === backup) return;
    shown = backup;
    const time = new Date().toISOString();
    console.log(
      json ? JSON.stringify({ time, place: into, volume, backup, step }) : describe(step, into, backup),
    );
  };
  await interruptible(`${into} holds what it held; the same command goes on`, async (signal) => {
    for (;;) {
      try {
        await look(signal);
      } catch (error) {
        // The target may be away for a while: that is what a stand-by volume is for.
        if (given.once === true || error instanceof InterruptedError || signal.aborted) throw error;
        console.error(`drover: ${error instanceof Error ? error.message : error}; next try in ${seconds} s`);
      }
      if (given.once === true) return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, seconds * 1000);
        signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
      });
      signal.throwIfAborted();
    }
  });
}

/** `drover backup activate PLACE` */
export async function activateCommand(into: string, given: FollowFlags): Promise<void> {
  const directory = stateDirectory(into, given);
  const state = readFollowState(directory);
  if (state === undefined) throw new UsageError(`${into} follows no backups`);
  using sink = await openPlace(into, given.dir);
  using follower = new Follower(directory, sink);
  const settled = await follower.settle();
  if (settled === undefined || settled.backup === "") {
    throw new UsageError(`${into} holds no whole backup yet: its first restore was not finished`);
  }
  follower.forget();
  console.log(
    `${into} holds ${settled.backup} of ${settled.volume}, and is an ordinary volume from now on: use its disk`,
  );
}
