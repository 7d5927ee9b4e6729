/**
 * A client that backs up and deletes until it is killed, and the volume it does that with: its content follows from
 * numbers alone, so whoever looks at the target afterwards knows what each backup must hold.
 *
 * ```text
 * deno run -A tests/backup_client.ts DIRECTORY FIRST STEP
 * ```
 *
 * @module
 */
import {
  createBackup,
  deleteBackup,
  InlineCodec,
  LockedError,
  NoSuchBackupError,
} from "../lib/backup/mod.ts";
import type { BlockSource, Extent } from "../lib/backup/mod.ts";
import { Credentials } from "../lib/backup/target/credentials.ts";
import { openTarget } from "../lib/backup/target/open.ts";

/** The volume's name. */
export const VOLUME = "shared";
/** Size of a block of its backups, bytes. */
export const BLOCK_BYTES = 16384;
const UNIT = 4096, UNITS = 256;
/** One unit in so many changes from one snapshot to the next. */
const ONE_IN = 24;
/** A client keeps so many of its own backups. */
const KEEP = 3;
/** Pause of a lock: short, because the directory shows everything at once. */
const SETTLE_MS = 20;

/** Size of the volume, bytes. */
export const VOLUME_BYTES = UNIT * UNITS;

function mix(snapshot: number, unit: number): number {
  let x = Math.imul(snapshot + 1, 0x9e3779b1) ^ Math.imul(unit + 1, 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 15), 0x2c1b3c6d);
  return (x ^ (x >>> 13)) >>> 0;
}

function writes(snapshot: number, unit: number): boolean {
  return mix(snapshot, unit) % ONE_IN === 0;
}

/** The volume as of a snapshot. Few values, so that blocks come again and are shared. */
export function contentAt(snapshot: number): Uint8Array {
  const content = new Uint8Array(VOLUME_BYTES);
  for (let unit = 0; unit < UNITS; unit++) {
    for (let n = snapshot; n >= 0; n--) {
      if (!writes(n, unit)) continue;
      content.fill(1 + mix(n, unit) % 5, unit * UNIT, (unit + 1) * UNIT);
      break;
    }
  }
  return content;
}

/** The number in the name of a snapshot or backup. */
export function numberOf(name: string): number {
  return Number(name.slice(name.lastIndexOf("-") + 1));
}

function sourceAt(snapshot: number): BlockSource {
  const content = contentAt(snapshot);
  return {
    bytes: VOLUME_BYTES,
    read: (offset, into) => into.set(content.subarray(offset, offset + into.length)),
    has: (name) => numberOf(name) <= snapshot,
    *changed(since): Iterable<Extent> {
      const first = since === undefined ? 0 : numberOf(since) + 1;
      for (let unit = 0; unit < UNITS; unit++) {
        for (let n = first; n <= snapshot; n++) {
          if (!writes(n, unit)) continue;
          yield { offset: unit * UNIT, length: UNIT };
          break;
        }
      }
    },
    [Symbol.dispose]: () => {},
  };
}

async function work(url: string, first: number, step: number): Promise<void> {
  await using target = await openTarget(url, Credentials.from({}));
  const codec = new InlineCodec(), own: string[] = [];
  for (let n = first;; n += step) {
    try {
      const name = `b-${n}`;
      await createBackup(target, sourceAt(n), {
        volume: VOLUME,
        snapshot: `s-${n}`,
        snapshotCreatedAt: new Date(1e12 + n * 1000).toISOString(),
        name,
        blockBytes: BLOCK_BYTES,
        settleMs: SETTLE_MS,
        codec,
      });
      own.push(name);
      console.log(`made ${name}`);
      const oldest = own.length > KEEP ? own.shift() : undefined;
      if (oldest === undefined) continue;
      const report = await deleteBackup(target, { volume: VOLUME, backup: oldest }, { settleMs: SETTLE_MS });
      console.log(`removed ${oldest}: ${report.state}, ${report.removedBlocks} blocks`);
    } catch (error) {
      // The other client is in the way: that is what locks are for.
      if (!(error instanceof LockedError) && !(error instanceof NoSuchBackupError)) throw error;
      console.log(`waits: ${error.message}`);
    }
  }
}

if (import.meta.main) {
  const [url = "", first = "0", step = "1"] = Deno.args;
  await work(url, Number(first), Number(step));
}
