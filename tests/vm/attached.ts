/**
 * A volume as a disk of the kernel's: file systems on it, load that is verified, discards, and nothing left behind.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Lab } from "../../tools/vm/lab.ts";
import type { Scenario } from "../../tools/vm/scenario.ts";

/** Time limit of a scenario here, milliseconds: the machine may be emulated on a busy host. */
export const ATTACHED_MS = 900_000;

/** Size of a volume, and what it grows by, bytes. */
export const BYTES = 400 * 1024 ** 2, GROWTH_BYTES = 96 * 1024 ** 2;

/** A file system on `$disk`, at /mnt: verified load, space given back, growth in use, clean after unmounting. */
export function fileSystemWork(kind: "ext4" | "xfs"): string {
  const mkfs = kind === "ext4" ? "mkfs.ext4 -q -F" : "mkfs.xfs -q -f";
  const check = kind === "ext4" ? "e2fsck -f -n" : "xfs_repair -n";
  return `
mkdir -p /mnt
${mkfs} $disk
mount $disk /mnt
fio --name=verify --directory=/mnt --size=8m --rw=randrw --bsrange=4k-64k --ioengine=libaio --direct=1 \\
  --iodepth=16 --verify=crc32c --do_verify=1 --verify_fatal=1 --randseed=7 --minimal >/run/fio.out
used() { du -sk /data1 | cut -f1; }
sync; before=$(used)
rm /mnt/verify*; sync; fstrim -v /mnt; sync
after=$(used)
echo "used before the discard: $before KiB, after: $after KiB"
[ $after -lt $((before - 4096)) ]
before=$(df --output=size -k /mnt | tail -n 1)
drover volume expand data --size +${GROWTH_BYTES} --dir /data1 /data2 /data3
grown() { [ $(blockdev --getsize64 $disk) = ${BYTES + GROWTH_BYTES} ]; }
within 120 grown
${
    kind === "ext4"
      ? "resize2fs $disk"
      : "xfs_growfs /mnt"
  } >/run/grow.out 2>&1 || { cat /run/grow.out; exit 1; }
[ $(df --output=size -k /mnt | tail -n 1) -gt $((before + 65536)) ]
dd if=/dev/zero of=/mnt/more bs=1M count=4 conv=fsync status=none
umount /mnt
${check} $disk >/run/check.out 2>&1 || { cat /run/check.out; exit 1; }
`;
}

/** A volume by one carrier, from its making to its removal. */
function attached(carrier: "iscsi" | "nbd" | "loop", kind: "ext4" | "xfs", slow: boolean): Scenario {
  return {
    name: `${carrier}-blockdev with ${kind}: verified load, discard, growth, and nothing is left behind`,
    slow,
    run: async (lab: Lab) => {
      await lab.sh(
        `
mark
attach data ${carrier} --size ${BYTES} --replicas 2
${fileSystemWork(kind)}
finish data
remove data
fails kernel_errors
left_behind
`,
        ATTACHED_MS,
      );
    },
  };
}

/** See the module text. */
export const ATTACHED: readonly Scenario[] = [
  {
    name: "drover check finds the machine fit",
    run: async (lab) => {
      const report = await lab.sh(
        "modprobe loop; modprobe fuse; modprobe nbd; drover check --dir /data1",
      );
      assert.match(report, /io_uring/);
      assert.doesNotMatch(report, /panic/i);
    },
  },
  attached("iscsi", "ext4", false),
];

/** Other carriers, other file systems, and what lies between. */
export const OTHERS: readonly Scenario[] = [
  attached("nbd", "xfs", true),
  attached("iscsi", "xfs", true),
  attached("nbd", "ext4", true),
  attached("loop", "ext4", true),
];
