/**
 * The power is cut while a program writes and syncs. What it was told to be on stable storage was told to the host at
 * once, record by record; after the next boot all of that has to be there, on a clean file system, and the copies have
 * to become equal.
 *
 * The disks under the copies lose what was not flushed: everything, or every other sector, or nothing on one of them.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Lab } from "../../tools/vm/lab.ts";
import type { Scenario } from "../../tools/vm/scenario.ts";
import { RecordWriter, verifyRecords } from "./records.ts";
import type { Loss } from "../../tools/vm/volatile_cache.ts";

/** Records that are written before the power may go. */
const RECORDS = 60;
/** Time limit of one step, milliseconds: the machine may be emulated on a busy host. */
const STEP_MS = 900_000;
/** The cut comes up to so much later, milliseconds. */
const LATER_MS = 1_500;

/** Writes that nobody syncs: what the disks may lose. */
const NOISE = `
noise() {
  while dd if=/dev/urandom of=/mnt/noise bs=32k count=2 seek=$((RANDOM % 200)) conv=notrunc oflag=direct status=none; do
    sleep 0.2
  done
}
noise >/run/noise.out 2>&1 </dev/null &
`;

async function verify(lab: Lab, last: number): Promise<void> {
  await lab.sh("mark; attach power iscsi; mount $disk /mnt", STEP_MS);
  await verifyRecords(lab, last);
  await lab.sh("fails kernel_errors");
}

/** Unmounts, and looks at the file system and at the copies when they have become equal. */
async function settle(lab: Lab): Promise<void> {
  await lab.sh(
    `
disk=/dev/longhorn/power
umount /mnt
e2fsck -f -n $disk >/run/check.out 2>&1 || { cat /run/check.out; exit 1; }
within 300 equal_again power
finish power
same_copies power
`,
    STEP_MS,
  );
}

function cut(title: string, losses: readonly (readonly Loss[])[], slow: boolean): Scenario {
  return {
    name: `power cut during synced writes, ${title}: every synced record is there`,
    slow,
    run: async (lab) => {
      await lab.sh(
        `
mkdir -p /mnt
attach power iscsi --size 400MiB
mkfs.ext4 -q -F $disk
mount $disk /mnt
`,
        STEP_MS,
      );
      let first = 1;
      for (const loss of losses) {
        const writer = await RecordWriter.start(lab, first);
        await lab.sh(NOISE);
        await writer.more(RECORDS);
        await new Promise((resolve) => setTimeout(resolve, Math.random() * LATER_MS));
        const lost = await lab.cut(...loss);
        lab.options.say(`      cut after record ${writer.last}; the disks lost ${lost.join(", ")} bytes`);
        await verify(lab, writer.last);
        first = writer.last + 1;
      }
      await settle(lab);
      await lab.sh("remove power; left_behind");
      assert.ok(first > RECORDS);
    },
  };
}

/** See the module text. */
export const POWER: readonly Scenario[] = [
  cut("disks lose all that was not flushed", [["all"]], false),
  cut("each disk loses something else, twice", [["some", "none", "all"], ["none", "all", "some"]], true),
];
