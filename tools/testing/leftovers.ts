/**
 * What a test file leaves behind when it goes wrong: processes, mounts, loop devices. All of it is found, named and
 * removed, so that one broken test does not spoil the next.
 *
 * @module
 */

/**
 * Environment variable that marks everything a test file starts; children inherit it. The marks of a run begin with
 * the same word and end in a slash, so that a run's mark is a prefix of its files' marks.
 */
export const MARK_VARIABLE = "DROVER_TEST_FILE";

/** How often, and how far apart in milliseconds, to look for processes that are about to end. */
const LOOKS = 100;
const LOOK_MS = 50;

interface Survivor {
  readonly pid: number;
  readonly command: string;
}

function readOr(path: string, otherwise: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return otherwise;
  }
}

/** Processes whose mark begins so. Only their own user and root can see that. */
function survivors(mark: string): Survivor[] {
  const found: Survivor[] = [];
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name) || Number(name) === Deno.pid) continue;
    const environment = readOr(`/proc/${name}/environ`, "").split("\0");
    if (!environment.some((entry) => entry.startsWith(`${MARK_VARIABLE}=${mark}`))) continue;
    found.push({
      pid: Number(name),
      command: readOr(`/proc/${name}/cmdline`, "").replaceAll("\0", " ").trim(),
    });
  }
  return found;
}

/** What has not ended by itself after some looks. */
async function survivorsAfterAWhile(mark: string): Promise<Survivor[]> {
  let left = survivors(mark);
  for (let look = 0; look < LOOKS && left.length > 0; look++) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    left = survivors(mark);
  }
  return left;
}

/** Kills what carries a mark that begins so and says what that was; empty when all had ended by themselves. */
export async function killSurvivors(mark: string): Promise<string[]> {
  const left = await survivorsAfterAWhile(mark);
  for (const { pid } of left) {
    try {
      Deno.kill(pid, "SIGKILL");
    } catch {
      // It ended in the meantime.
    }
  }
  // What a signal has killed still holds its files and mounts for a moment.
  if (left.length > 0) await survivorsAfterAWhile(mark);
  return left.map(({ pid, command }) => `a process was left running: ${pid} ${command}`);
}

function runQuietly(command: string, args: string[]): string {
  try {
    const output = new Deno.Command(command, { args, stdin: "null", stderr: "null" }).outputSync();
    return new TextDecoder().decode(output.stdout);
  } catch {
    return "";
  }
}

/** Mount points below a directory, deepest first. Source: proc(5), /proc/PID/mountinfo, field 5. */
function mountsBelow(directory: string): string[] {
  return readOr("/proc/self/mountinfo", "").split("\n").map((line) => line.split(" ")[4] ?? "")
    .map((path) => path.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8))))
    .filter((path) => path.startsWith(`${directory}/`)).sort().reverse();
}

/** Unmounts and detaches everything that lies below a directory, and says what that was. */
export function releaseBelow(directory: string): string[] {
  const said: string[] = [];
  for (const path of mountsBelow(directory)) {
    runQuietly("umount", ["--lazy", path]);
    said.push(`a file system was left mounted: ${path}`);
  }
  for (
    const line of runQuietly("losetup", ["--list", "--noheadings", "--output", "NAME,BACK-FILE"]).split("\n")
  ) {
    const [device, file] = line.trim().split(/\s+/);
    if (device === undefined || !file?.startsWith(`${directory}/`)) continue;
    runQuietly("losetup", ["--detach", device]);
    said.push(`a loop device was left: ${device} on ${file}`);
  }
  return said;
}
