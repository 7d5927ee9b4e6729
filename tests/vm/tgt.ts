/**
 * Longhorn's own way to a disk: tgtd with the backing store `longhorn` is the client of the volume's socket. Debian's
 * tgtd gets that store from `tools/vm/tgt/`.
 *
 * @module
 */
import { type Lab, Skip } from "../../tools/vm/lab.ts";
import type { Scenario } from "../../tools/vm/scenario.ts";
import { ATTACHED_MS, BYTES, fileSystemWork } from "./attached.ts";
import { RecordWriter, verifyRecords } from "./records.ts";

/** Records to be seen after each event. */
const RECORDS = 25;

/** @throws {Skip} the store could not be built on this host */
async function needStore(lab: Lab): Promise<void> {
  const files = await lab.sh("ls /product/guest");
  if (!files.includes("tgt-longhorn.so")) {
    throw new Skip("Debian's tgtd has no backing store named longhorn, and none could be built");
  }
}

/** Work with a file system, a new engine under load, an exchange of the connection as Longhorn's engines ask for it. */
async function blockdev(lab: Lab): Promise<void> {
  await needStore(lab);
  await lab.sh(
    `
mark
attach data tgt --size ${BYTES} --replicas 2
tgtadm --lld iscsi --op show --mode target | grep 'Backing store type: longhorn'
${fileSystemWork("ext4")}
mkfs.ext4 -q -F $disk
mount $disk /mnt
engine_of data >/run/first.engine
`,
    ATTACHED_MS,
  );
  const writer = await RecordWriter.start(lab, 1);
  await writer.more(RECORDS);
  await lab.sh(
    `
drover volume upgrade data --dir /data1 /data2 /data3
[ "$(engine_of data)" != "$(cat /run/first.engine)" ]
`,
    ATTACHED_MS,
  );
  await writer.more(RECORDS);
  await lab.sh("sg_raw /dev/longhorn/data a6 00 00 00 00 00");
  await writer.more(RECORDS);
  await writer.stop();
  await verifyRecords(lab, writer.last);
  await lab.sh(
    `
disk=/dev/longhorn/data
umount /mnt
e2fsck -f -n $disk >/run/check.out 2>&1 || { cat /run/check.out; exit 1; }
finish data
remove data
fails kernel_errors
left_behind
tgt_over
`,
    ATTACHED_MS,
  );
}

/** The target alone; the initiator could be another host's. */
const ISCSI = `
mark
initiator
tgt_store
target=$(serve plain --size 64MiB --replicas 1 --frontend tgt-iscsi)
echo "endpoint: $target"
iscsiadm -m discovery -t sendtargets -p 127.0.0.1 | grep -F "$target"
iscsiadm -m node -T $target -p 127.0.0.1 --login
disk_of() { ls /dev/disk/by-path/*$target-lun-1 2>/dev/null; }
within 60 disk_of
disk=$(readlink -f $(disk_of))
dd if=/dev/urandom of=/run/data.bin bs=1M count=2 status=none
dd if=/run/data.bin of=$disk bs=64k oflag=direct status=none
dd if=$disk bs=64k count=32 iflag=direct status=none | cmp - /run/data.bin
cmp -n 2097152 /run/data.bin /data1/plain-r-1/volume-head-000.img
iscsiadm -m node -T $target --logout
iscsiadm -m node -o delete -T $target
finish plain
remove plain
fails kernel_errors
left_behind
tgt_over
`;

/** See the module text. */
export const TGT: readonly Scenario[] = [
  {
    name: "tgt-blockdev: verified load, discard, growth, a new engine under load, an exchanged connection",
    slow: true,
    run: blockdev,
  },
  {
    name: "tgt-iscsi: an initiator finds the target of tgtd, and what it writes is in the volume",
    slow: true,
    run: async (lab) => {
      await needStore(lab);
      await lab.sh(ISCSI, ATTACHED_MS);
    },
  },
];
