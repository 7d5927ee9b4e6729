/**
 * What stands on a volume's disk, and what is left of it: an encrypted volume, a snapshot that freezes its file
 * system, and an engine that was killed, whose device is found and removed.
 *
 * @module
 */
import type { Scenario } from "../../tools/vm/scenario.ts";

/** Time limit of a scenario here, milliseconds: the machine may be emulated on a busy host. */
const STEP_MS = 900_000;

/** 16 MiB of the volume are the header of LUKS2. */
const ENCRYPTED = `
mark
modprobe dm_crypt
attach crypt nbd --size 96MiB --replicas 1
printf 'a pass phrase' >/run/key
chmod 600 /run/key
drover crypt format $disk --passphrase-file /run/key --pbkdf pbkdf2 --iterations 1000
printf 'another' >/run/wrong
chmod 600 /run/wrong
fails drover crypt open $disk --passphrase-file /run/wrong
drover crypt open $disk --passphrase-file /run/key
mapped=/dev/mapper/crypt
[ $(blockdev --getsize64 $mapped) = $((80 * 1024 * 1024)) ]
mkfs.ext4 -q $mapped
mkdir -p /mnt
mount $mapped /mnt
echo 'nobody is to see this on the disk' >/mnt/secret
sync
if kill -INT "$(cat /run/crypt.pid)" && within 60 grep -q 'not stopped: .*in use.*mounted at /mnt' /run/crypt.out; then
  echo "a disk in use is not taken away"
else
  exit 1
fi
drover snapshot create crypt still --freeze --dir /data1 /data2 /data3
grep 'file systems frozen' /data1/crypt.log
echo more >/mnt/more
drover volume expand crypt --size +16MiB --dir /data1 /data2 /data3
grown() { [ $(blockdev --getsize64 $disk) = $((112 * 1024 * 1024)) ]; }
within 120 grown
drover crypt grow crypt --passphrase-file /run/key
[ $(blockdev --getsize64 $mapped) = $((96 * 1024 * 1024)) ]
resize2fs $mapped >/run/grow.out 2>&1 || { cat /run/grow.out; exit 1; }
umount /mnt
e2fsck -f -n $mapped >/run/check.out 2>&1 || { cat /run/check.out; exit 1; }
drover crypt close crypt
fails grep -q 'nobody is to see this' $disk /data1/crypt-r-1/*.img
finish crypt
remove crypt
fails kernel_errors
left_behind
`;

const KILLED = `
attach left iscsi --size 64MiB --replicas 1
engine=$(engine_of left)
kill -STOP $engine
kill -9 "$(cat /run/left.pid)"
kill -9 $engine
within 60 no_programs
drover node check >/run/node.out 2>&1 && { cat /run/node.out; exit 1; }
grep 'iscsi session' /run/node.out
drover node clean --dry-run | grep 'would clean: iscsi session'
ls /sys/class/iscsi_session/session* >/dev/null
drover node clean --yes
drover node check
remove left
left_behind
`;

/** See the module text. */
export const LEFT_OVER: readonly Scenario[] = [
  {
    name: "an encrypted volume (LUKS2): its size and growth, its snapshot, and nothing of it in clear",
    run: async (lab) => void await lab.sh(ENCRYPTED, STEP_MS),
  },
  {
    name: "drover node finds and removes what killed processes leave of a disk",
    slow: true,
    run: async (lab) => void await lab.sh(KILLED, STEP_MS),
  },
];
