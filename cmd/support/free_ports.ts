/**
 * Free TCP ports on the loopback interface, for processes that this one starts.
 *
 * @module
 */

/** Below Linux' default range for outgoing connections (32768 and up), so none of those takes a port away. */
const LOWEST = 20_000, HIGHEST = 32_000;
const ATTEMPTS = 500;

/** Whether a port can be listened on now. */
export function isFree(port: number, hostname = "127.0.0.1"): boolean {
  try {
    Deno.listen({ hostname, port }).close();
    return true;
  } catch {
    return false;
  }
}

/**
 * Finds so many free ports in a row and returns the first. Nothing holds them: a start that fails because a port
 * was taken meanwhile is to be repeated with others.
 *
 * @param taken ports that were given out already
 */
export function freePorts(count: number, taken: ReadonlySet<number> = new Set()): number {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const base = LOWEST + Math.floor(Math.random() * (HIGHEST - LOWEST - count));
    let free = 0;
    while (free < count && !taken.has(base + free) && isFree(base + free)) free++;
    if (free === count) return base;
  }
  throw new Error(`no ${count} free ports in a row on 127.0.0.1 between ${LOWEST} and ${HIGHEST}`);
}
