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

/**
 * CPU time of the threads that a process has now, milliseconds, to the microsecond: for processes that use less than
 * a tick. Where the kernel does not count that (CONFIG_SCHED_INFO), the ticks.
 */
export function fineCpuMs(pid: number): number {
  let ns = 0;
  try {
    for (const { name } of Deno.readDirSync(`/proc/${pid}/task`)) {
      ns += Number(Deno.readTextFileSync(`/proc/${pid}/task/${name}/schedstat`).split(" ")[0]);
    }
    return ns / 1e6;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return cpuSeconds([pid]) * 1000;
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
