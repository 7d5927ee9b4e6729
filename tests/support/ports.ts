/**
 * Free TCP ports on the loopback interface.
 *
 * @module
 */
import assert from "node:assert/strict";

/**
 * All ports of the tests. Not where `drover volume serve` looks for its own (20000 and up), nor iSCSI's and NBD's own
 * ports, nor Linux' default range for outgoing connections (32768 and up): none of those takes a port away between the
 * look at it and its use.
 */
const FIRST_PORT = 11_000, END_OF_PORTS = 20_000;

/** Parts of the range. Test files that run at the same time have each their own: so none takes another's ports. */
export const PORT_LANES = 6;

/** Environment variable: the number of a test file's part, from 0. Without it everything may be taken. */
export const PORT_LANE_VARIABLE = "DROVER_TEST_PORTS";

const ATTEMPTS = 200;

/** The ports that this process may take: the first, and the one after the last. */
function ownRange(): readonly [first: number, end: number] {
  const lane = Deno.env.get(PORT_LANE_VARIABLE);
  if (lane === undefined) return [FIRST_PORT, END_OF_PORTS];
  assert.match(lane, /^\d+$/);
  assert.ok(Number(lane) < PORT_LANES, `${PORT_LANE_VARIABLE}=${lane}: there are ${PORT_LANES}`);
  const size = (END_OF_PORTS - FIRST_PORT) / PORT_LANES, first = FIRST_PORT + Number(lane) * size;
  return [first, first + size];
}

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
  const [first, end] = ownRange();
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const base = first + Math.floor(Math.random() * (end - first - count));
    let free = 0;
    while (free < count && isFree(base + free)) free++;
    if (free < count) continue;
    for (let port = base; port < base + count; port++) told.add(port);
    return base;
  }
  throw new Error(`no ${count} free ports in a row between ${first} and ${end}`);
}

/** Finds `count` different free ports. */
export function freePorts(count: number): number[] {
  const base = freePortRange(count);
  return Array.from({ length: count }, (_, index) => base + index);
}
