/**
 * What the kernel says of processes: CPU time and memory.
 *
 * @module
 */

/** Clock ticks per second of /proc/PID/stat: USER_HZ, which is 100 on every Linux for x86-64 and arm64. */
const TICKS_PER_SECOND = 100;

/** CPU seconds that processes have used so far, user and system. Processes that are gone count nothing. */
export function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    try {
      const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
      // The name in parentheses may hold anything; utime and stime are fields 14 and 15 (proc(5)).
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      ticks += Number(fields[11]) + Number(fields[12]);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return ticks / TICKS_PER_SECOND;
}

/** Tells the share of this machine's CPU time that its host gave to others since an earlier moment. */
export function stolenSince(): () => number {
  const look = (): [stolen: number, all: number] => {
    // user nice system idle iowait irq softirq steal, in ticks (proc(5))
    const [line = ""] = Deno.readTextFileSync("/proc/stat").split("\n", 1);
    const ticks = line.trim().split(/\s+/).slice(1, 9).map(Number);
    return [ticks[7] ?? 0, ticks.reduce((sum, one) => sum + one, 0)];
  };
  const [stolenBefore, allBefore] = look();
  return () => {
    const [stolen, all] = look();
    return all > allBefore ? (stolen - stolenBefore) / (all - allBefore) : 0;
  };
}

/** CPU time of the threads of a process, nanoseconds, by thread: for processes that use less than a tick. */
export type ThreadTimes = ReadonlyMap<string, number>;

/** What the threads have used so far. @throws Deno.errors.NotFound where the kernel has no CONFIG_SCHED_INFO */
export function threadTimes(pid: number): ThreadTimes {
  const tasks = [...Deno.readDirSync(`/proc/${pid}/task`)].map(({ name }) => name);
  return new Map(tasks.map((task) => {
    const [ran] = Deno.readTextFileSync(`/proc/${pid}/task/${task}/schedstat`).split(" ");
    return [task, Number(ran)];
  }));
}

/** What the threads have used between two looks, milliseconds. Threads that ended meanwhile count nothing. */
export function usedMs(before: ThreadTimes, after: ThreadTimes): number {
  let ns = 0;
  for (const [task, time] of after) ns += time - (before.get(task) ?? 0);
  return ns / 1e6;
}

/** How often {@linkcode CpuWatch} looks, milliseconds. */
const LOOK_MS = 100;

/**
 * Watches the CPU time of processes while something else goes on, also of processes that end with it. To be used
 * while nothing blocks the event loop.
 */
export class CpuWatch implements Disposable {
  readonly #looks: { readonly at: number; readonly used: readonly number[] }[] = [];
  readonly #timer: ReturnType<typeof setInterval>;

  /** Begins. @param pids by kind of process */
  constructor(readonly pids: Readonly<Record<string, readonly number[]>>) {
    this.#look();
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
  }

  #look(): void {
    this.#looks.push({ at: performance.now(), used: Object.values(this.pids).map(cpuSeconds) });
  }

  /**
   * Ends, and returns the share of a CPU that each kind used.
   *
   * @param from seconds after the beginning from when on to count
   * @param to until when
   */
  stop(from: number, to: number): Record<string, number> {
    this[Symbol.dispose]();
    const start = this.#looks[0]?.at ?? 0;
    const inside = this.#looks.filter(({ at }) => at >= start + from * 1000 && at <= start + to * 1000);
    const first = inside[0], last = inside.at(-1);
    if (first === undefined || last === undefined || first === last) return {};
    const seconds = (last.at - first.at) / 1000;
    const shares = Object.keys(this.pids).map((kind, i) =>
      [kind, ((last.used[i] ?? 0) - (first.used[i] ?? 0)) / seconds] as const
    );
    return Object.fromEntries(shares);
  }

  /** Ends without a result. */
  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

/** Bytes of memory that only this process uses: what another one like it would cost. */
export function privateBytes(pid: number): number {
  const text = Deno.readTextFileSync(`/proc/${pid}/smaps_rollup`);
  let kib = 0;
  for (const [, n] of text.matchAll(/^Private_(?:Clean|Dirty):\s+(\d+) kB/gm)) kib += Number(n);
  return kib * 1024;
}

/** What the figures were measured on, for those who read them elsewhere. */
export interface Machine {
  /** Model name of the first processor. */
  readonly cpu: string;
  /** Processors that can be used. */
  readonly cores: number;
  /** Bytes of memory. */
  readonly memoryBytes: number;
  /** Release of the kernel. */
  readonly kernel: string;
  /** Load average of the last minute: what else ran. */
  readonly load: number;
  /** Version of Deno. */
  readonly deno: string;
}

/** The machine this runs on. */
export function machine(): Machine {
  const info = Deno.readTextFileSync("/proc/cpuinfo");
  return {
    cpu: /^model name\s*:\s*(.*)$/m.exec(info)?.[1] ?? Deno.build.arch,
    cores: navigator.hardwareConcurrency,
    memoryBytes: Deno.systemMemoryInfo().total,
    kernel: Deno.osRelease(),
    load: Deno.loadavg()[0] ?? 0,
    deno: Deno.version.deno,
  };
}
