/**
 * Kills a process after each of its system calls that change a file, for every change of a replica directory, and
 * looks whether what is left opens and holds what it must: nothing lost, nothing torn, no snapshot changed.
 *
 * ```text
 * deno task crashpoints [--only CHANGE] [--dir DIRECTORY]
 * ```
 *
 * The last line is `N passed, N failed`; every point counts. Losses of power at every step are the simulation's and the
 * unit tests' of the disk room.
 *
 * @module
 */
import { CHANGES, MADE_ANEW, type View } from "../tests/crash/steps.ts";
import { readArguments } from "../tests/support/arguments.ts";
import { inRepository } from "../tests/support/repository.ts";

const USAGE = `deno task crashpoints [--only TEXT] [--dir DIRECTORY]

  --only TEXT       only changes whose name holds the text
  --dir DIRECTORY   where the replicas are made (the system's place for temporary files)`;

/** More calls than any change makes. */
const MOST_POINTS = 500;

/** Changes of the data: block by block. */
const PIECEWISE: ReadonlySet<string> = new Set(["write", "write and flush", "unmap", "close"]);

interface Ended {
  readonly killed: boolean;
  readonly ok: boolean;
  readonly text: string;
}

async function steps(...args: readonly string[]): Promise<Ended> {
  const { success, signal, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", inRepository("tests/crash/steps.ts"), ...args],
    env: { NO_COLOR: "1" },
  }).output();
  const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  return { killed: signal === "SIGKILL", ok: success, text };
}

async function lookAt(directory: string): Promise<View> {
  const { ok, text } = await steps("look", directory);
  if (!ok) throw new Error(`it does not open: ${text.trim().split("\n").slice(0, 2).join(" ")}`);
  return JSON.parse(text);
}

/**
 * What is wrong with what is left, or "".
 * @param atOnce the change is made as a whole or not at all
 */
export function problemOf(view: View, before: View, after: View, atOnce: boolean): string {
  if (view.bytes !== before.bytes && view.bytes !== after.bytes) return `its size is ${view.bytes}`;
  const torn = view.head.findIndex((value, i) =>
    value !== (before.head[i] ?? 0) && value !== (after.head[i] ?? 0)
  );
  if (torn >= 0) return `block ${torn} holds ${view.head[torn]}`;
  const is = (other: View) => view.head.every((value, i) => value === (other.head[i] ?? 0));
  if (atOnce && !is(before) && !is(after)) return `it holds ${view.head}, which is neither before nor after`;
  for (const [name, content] of Object.entries(before.snapshots)) {
    const now = view.snapshots[name];
    if (now === undefined) {
      if (name in after.snapshots) return `snapshot ${name} is lost`;
    } else if (String(now) !== String(content)) return `snapshot ${name} changed to ${now}`;
  }
  return "";
}

async function copyTo(from: string, to: string): Promise<void> {
  await Deno.remove(to, { recursive: true }).catch(() => {});
  const { success } = await new Deno.Command("cp", { args: ["-a", "--sparse=always", from, to] }).output();
  if (!success) throw new Error(`cannot copy ${from} to ${to}`);
}

/** All points of one change. @returns points that passed and failed */
async function run(change: string, directory: string): Promise<[passed: number, failed: number]> {
  const base = `${directory}/base`, work = `${directory}/work`;
  await copyTo(base, work);
  const whole = await steps("make", work, change);
  if (!whole.ok) throw new Error(`${change} fails without a crash: ${whole.text}`);
  const before = await lookAt(base), after = await lookAt(work);
  let failed = 0;
  for (let point = 1; point <= MOST_POINTS; point++) {
    await copyTo(base, work);
    const { killed } = await steps("make", work, change, String(point));
    if (!killed) {
      console.log(`${change}: ${point - 1} points, ${failed} failed`);
      return [point - 1 - failed, failed];
    }
    const problem = await lookAt(work).then(
      (view) => problemOf(view, before, after, !PIECEWISE.has(change)),
      (error) => error.message,
    );
    if (problem === "") continue;
    failed++;
    console.log(`${change}, killed after call ${point}: ${problem}`);
  }
  throw new Error(`${change} never ends`);
}

/** All points of something that is made anew: after each, it is begun again on what is left. */
async function runAnew(change: string, directory: string): Promise<[passed: number, failed: number]> {
  const base = `${directory}/base`, made = `${base}.new`;
  const clear = () => Deno.remove(made, { recursive: true }).catch(() => {});
  const make = async (): Promise<string> => {
    const { ok, text } = await steps("make", base, change);
    return ok ? JSON.stringify(await lookAt(made)) : `it cannot be begun again: ${text.slice(0, 200)}`;
  };
  await clear();
  const want = await make();
  let failed = 0;
  for (let point = 1; point <= MOST_POINTS; point++) {
    await clear();
    const { killed } = await steps("make", base, change, String(point));
    if (!killed) {
      console.log(`${change}: ${point - 1} points, ${failed} failed`);
      return [point - 1 - failed, failed];
    }
    const got = await make().catch((error) => String(error));
    if (got === want) continue;
    failed++;
    console.log(`${change}, killed after call ${point}: ${got}, not ${want}`);
  }
  throw new Error(`${change} never ends`);
}

async function main(): Promise<number> {
  const { values } = readArguments(USAGE, {
    options: { only: { type: "string", default: "" }, dir: { type: "string", default: "" } },
  });
  const directory = Deno.makeTempDirSync({ prefix: "crash-", ...(values.dir ? { dir: values.dir } : {}) });
  let passed = 0, failed = 0;
  try {
    const made = await steps("make", `${directory}/base`, "base");
    if (!made.ok) throw new Error(made.text);
    const names = [...Object.keys(MADE_ANEW), ...Object.keys(CHANGES)];
    for (const change of names.filter((name) => name.includes(values.only))) {
      const [good, bad] = await (change in MADE_ANEW ? runAnew : run)(change, directory);
      passed += good;
      failed += bad;
    }
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 && passed > 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main());
