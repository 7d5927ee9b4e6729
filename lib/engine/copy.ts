/**
 * How requests are spread over copies: a change to all of them, and the second half of a COPY, where what one copy
 * answered goes to others.
 *
 * @module
 */
import type { Io } from "../io/io.ts";
import { FrameType } from "../wire/frame.ts";
import type { Link } from "./link.ts";
import type { ReplicaSet } from "./replica_set.ts";
import type { Slots } from "./slots.ts";

/** Bytes of a block: a replica reads, changes and writes back what is smaller. */
const BLOCK = 4096;

/** Edges of a write that are no whole blocks; bits of {@linkcode Slots.mend}. */
export const Edge = { FIRST: 1, LAST: 2 } as const;

/**
 * Sends a change or a flush to every writer. Longhorn's replicas get the plain form where there is one.
 *
 * @param payload bytes of data that go along
 * @param feature what a replica must have announced for this type
 */
export function sendToAll(
  s: Slots,
  replicas: ReplicaSet,
  slot: number,
  type: number,
  payload: number,
  feature: number,
): void {
  const sequence = s.sequence(slot), { writers } = replicas, length = s.length[slot];
  for (let i = 0; i < writers.length; i++) {
    const link = writers[i];
    let as = type;
    if ((link.features & feature) !== feature) {
      if (type !== FrameType.WRITE_DURABLE) continue;
      as = FrameType.WRITE;
    }
    if (link.layered && type !== FrameType.FLUSH && type !== FrameType.CLEAN) {
      sendLayered(s, slot, link, as, payload);
      continue;
    }
    s.waiting[slot] |= link.bit;
    if (payload > 0) s.holds[slot]++;
    link.send(slot, sequence, as, s.offset[slot], length, s.at[slot], payload);
  }
}

/**
 * A change for a copy whose lower layers are not there yet. It cannot complete a block from what it has, nor tell
 * whether a trimmed block must be hidden: whole blocks go there, the edges are copied to it afterwards (mend.ts),
 * and trims are noted until it is whole.
 */
function sendLayered(s: Slots, slot: number, link: Link, type: number, payload: number): void {
  const offset = s.offset[slot], end = offset + s.length[slot];
  if (payload === 0) {
    link.trims?.addWhole(offset, s.length[slot]);
    return;
  }
  link.trims?.removeTouched(offset, s.length[slot]);
  const from = Math.ceil(offset / BLOCK) * BLOCK, to = Math.floor(end / BLOCK) * BLOCK;
  if (offset < from) s.mend[slot] |= Edge.FIRST;
  // A write within one block has one edge.
  if (end > to && to >= from) s.mend[slot] |= Edge.LAST;
  if (to <= from) return;
  s.waiting[slot] |= link.bit;
  s.holds[slot]++;
  link.send(slot, s.sequence(slot), type, from, to - from, s.at[slot] + from - offset, to - from);
}

/** Sends the data of a slot to the links of `to`, except its source. Zeros are not stored: a hole stays one. */
export function spread(io: Io, s: Slots, replicas: ReplicaSet, slot: number, source: Link, to: number): void {
  const length = s.length[slot], zero = isZero(io.arena.u8, s.at[slot], length);
  s.good[slot] = source.bit;
  for (const link of replicas.writers) {
    if (link === source || (link.bit & to) === 0) continue;
    // A hole would let through what a lower layer is going to have there.
    const payload = zero && !link.layered ? 0 : length;
    s.waiting[slot] |= link.bit;
    if (payload > 0) s.holds[slot]++;
    const type = payload === 0 ? FrameType.UNMAP : FrameType.WRITE;
    link.send(slot, s.sequence(slot), type, s.offset[slot], length, s.at[slot], payload);
  }
}

/** True when `length` bytes at `at`, a multiple of 8 both, are all zero. 64 KiB take 10 us by words, 40 by bytes. */
export function isZero(bytes: Uint8Array, at: number, length: number): boolean {
  const words = new Int32Array(bytes.buffer, bytes.byteOffset + at, length / 4);
  for (let i = 0; i < words.length; i++) if (words[i] !== 0) return false;
  return true;
}
