/**
 * Processes by their number, as Linux shows them: which process a number means now, and by which environment a lost
 * one is recognised.
 *
 * @module
 */

/** One process, told from all others that had or will have its number. */
export interface ProcessKey {
  /** Process id. */
  readonly pid: number;
  /** When it was started, clock ticks since the boot (field 22 of /proc/PID/stat, see proc(5)). */
  readonly startTicks: number;
}

/** What /proc/PID/stat says, as far as it is used. */
export interface ProcessStat extends ProcessKey {
  /** Ended, and not waited for yet. */
  readonly zombie: boolean;
  /** As wait(2) gives it; field 52, which only a zombie has. */
  readonly waitStatus: number;
}

/** Reads the text of /proc/PID/stat. The name in parentheses may hold anything, so the last `)` counts. */
export function parseStat(text: string): ProcessStat | undefined {
  const end = text.lastIndexOf(")");
  const pid = Number(/^\d+/.exec(text)?.[0] ?? NaN);
  const fields = text.slice(end + 2).trim().split(" ");
  const startTicks = Number(fields[19] ?? NaN);
  if (end < 0 || !Number.isSafeInteger(pid) || !Number.isSafeInteger(startTicks)) return undefined;
  const zombie = fields[0] === "Z" || fields[0] === "X";
  return { pid, startTicks, zombie, waitStatus: Number(fields[49] ?? 0) };
}

/** The process that has a number now; undefined when there is none. */
export function processStat(pid: number): ProcessStat | undefined {
  try {
    return parseStat(Deno.readTextFileSync(`/proc/${pid}/stat`));
  } catch {
    return undefined;
  }
}

/** Where process numbers mean what they mean here: this boot and this pid namespace. */
export function hostKey(): string {
  const boot = Deno.readTextFileSync("/proc/sys/kernel/random/boot_id").trim();
  return `${boot} ${Deno.readLinkSync("/proc/self/ns/pid")}`;
}

/** Finds processes that have one of the values in a variable of their environment. @returns value to process */
export function findByEnvironment(variable: string, values: ReadonlySet<string>): Map<string, ProcessKey> {
  const found = new Map<string, ProcessKey>();
  if (values.size === 0) return found;
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const environment = Deno.readTextFileSync(`/proc/${name}/environ`).split("\0");
      const value = environment.find((one) => one.startsWith(`${variable}=`))?.slice(variable.length + 1);
      if (value === undefined || !values.has(value)) continue;
      const stat = processStat(Number(name));
      // Its children have the variable too: the oldest is the one that was started with it.
      const known = found.get(value);
      if (!stat || stat.zombie || (known && known.startTicks <= stat.startTicks)) continue;
      found.set(value, { pid: stat.pid, startTicks: stat.startTicks });
    } catch {
      // It ended, or is not ours to look at.
    }
  }
  return found;
}
