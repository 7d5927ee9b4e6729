/**
 * Processes of a volume are killed while a file system on it is at work: a copy, which is filled anew, and the engine,
 * whose successor takes the device over. The file system sees no error either time, and no synced record is lost.
 *
 * @module
 */
import type { Lab } from "../../tools/vm/lab.ts";
import type { Scenario } from "../../tools/vm/scenario.ts";
import { RecordWriter, verifyRecords } from "./records.ts";

/** Time limit of one step, milliseconds: the machine may be emulated on a busy host. */
const STEP_MS = 900_000;
/** Records to be seen after each event. */
const RECORDS = 25;

async function copyAndEngine(lab: Lab, carrier: "iscsi" | "nbd"): Promise<void> {
  await lab.sh(
    `
mkdir -p /mnt
attach kill ${carrier} --size 128MiB
mkfs.ext4 -q -F $disk
mount $disk /mnt
mark
`,
    STEP_MS,
  );
  const writer = await RecordWriter.start(lab, 1);
  await writer.more(RECORDS);
  await lab.sh(`kill -9 $(replica_of kill-r-2)`);
  await writer.more(RECORDS);
  await lab.sh("within 600 grep -q 'copy kill-r-2 is complete again' /run/kill.out", STEP_MS);
  await writer.more(RECORDS);
  await lab.sh(
    `
kill -9 $(engine_of kill)
within 60 is_over kill
within 60 no_programs
attach kill ${carrier}
`,
    STEP_MS,
  );
  await writer.more(RECORDS);
  await writer.stop();
  await lab.sh(
    `
umount /mnt
disk=/dev/longhorn/kill
e2fsck -f -n $disk >/run/check.out 2>&1 || { cat /run/check.out; exit 1; }
mount $disk /mnt
`,
    STEP_MS,
  );
  await verifyRecords(lab, writer.last);
  await lab.sh(
    `
umount /mnt
within 300 equal_again kill
finish kill
same_copies kill
fails kernel_errors
remove kill
left_behind
`,
    STEP_MS,
  );
}

function killed(carrier: "iscsi" | "nbd", slow: boolean): Scenario {
  return {
    name:
      `${carrier}-blockdev: a killed copy is filled anew, a killed engine is followed by another, under load`,
    slow,
    run: (lab) => copyAndEngine(lab, carrier),
  };
}

/** See the module text. */
export const KILLED: readonly Scenario[] = [killed("iscsi", false), killed("nbd", true)];
