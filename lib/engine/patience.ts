/**
 * How long to wait for a replica. A request or a ping that took longer than the timeout S speaks against its replica
 * only if some complete copy is not late itself: when all are, the cause is likely common (a stalled network, a
 * suspended machine), and the engine waits twice as long before it gives them up. The age of the oldest request
 * or ping decides, not the time since any answer: a replica that answers some requests and forgets others is broken.
 *
 * @module
 */
import { SLOTS } from "./limits.ts";
import type { Link } from "./link.ts";
import { type Slots, SlotState } from "./slots.ts";

/** The links to give up now. `timeoutMs` is S; `now` and `slots.sentAt` are milliseconds. */
export function lateLinks(now: number, timeoutMs: number, slots: Slots, links: readonly Link[]): Link[] {
  let late = 0, veryLate = 0;
  for (let slot = 0; slot < SLOTS; slot++) {
    if (slots.state[slot] !== SlotState.ACTIVE) continue;
    const age = now - slots.sentAt[slot];
    if (age > timeoutMs) late |= slots.waiting[slot];
    if (age > 2 * timeoutMs) veryLate |= slots.waiting[slot];
  }
  for (const link of links) {
    const age = link.pingAge(now);
    if (age > timeoutMs) late |= link.bit;
    if (age > 2 * timeoutMs) veryLate |= link.bit;
  }
  if (late === 0) return [];
  const punctual = links.some((link) => link.mode === "RW" && (late & link.bit) === 0);
  return links.filter((link) => {
    if (link.mode !== "RW" || punctual) return (late & link.bit) !== 0;
    return (veryLate & link.bit) !== 0;
  });
}
