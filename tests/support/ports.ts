/**
 * Free TCP ports on the loopback interface.
 *
 * @module
 */

/** Below Linux' default range for outgoing connections (32768 and up), so none of those takes a port away. */
const LOWEST = 20_000;
const HIGHEST = 32_000;
const ATTEMPTS = 200;

/** Ports that this process was told: who asked may not listen yet. */
const told = new Set<number>();

function isFree(port: number): boolean {
  if (told.has(port)) return false;
  try {
    Deno.listen({ hostname: "127.0.0.1", port }).close();
    return true;
  } catch {
    return false;
  }
}

/**
 * Finds `count` free ports in a row and returns the first. A replica, for one, listens on three in a row. Nothing
 * holds the ports: start what needs them soon.
 */
export function freePortRange(count: number): number {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const base = LOWEST + Math.floor(Math.random() * (HIGHEST - LOWEST - count));
    let free = 0;
    while (free < count && isFree(base + free)) free++;
    if (free < count) continue;
    for (let port = base; port < base + count; port++) told.add(port);
    return base;
  }
  throw new Error(`no ${count} free ports in a row between ${LOWEST} and ${HIGHEST}`);
}

/** Finds `count` different free ports. */
export function freePorts(count: number): number[] {
  const base = freePortRange(count);
  return Array.from({ length: count }, (_, index) => base + index);
}
