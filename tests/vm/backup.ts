/**
 * Backup targets that the kernel mounts, with a real server: NFS. And what is said where the machine cannot
 * mount them.
 *
 * @module
 */
import type { Scenario } from "../../tools/vm/scenario.ts";

/** Time limit of a scenario here, milliseconds: the machine may be emulated on a busy host. */
const STEP_MS = 1_200_000;

/** First without a client in the kernel, then without the program that mounts, then with both. */
const NFS = `
. /product/guest/shares.sh
mark
modprobe -r nfsv4 nfs
export DROVER_BACKUP_TARGET=nfs://127.0.0.1:/data3/exports
echo 'install nfs /bin/false' >/etc/modprobe.d/no-nfs.conf
drover backup ls >/run/no-module.out 2>&1 && { cat /run/no-module.out; exit 1; }
rm /etc/modprobe.d/no-nfs.conf
cat /run/no-module.out
grep 'modprobe nfs' /run/no-module.out
modprobe nfs
nfs_server /data3/exports
mv /sbin/mount.nfs /sbin/mount.nfs.away
drover backup ls >/run/no-program.out 2>&1 && { cat /run/no-program.out; exit 1; }
mv /sbin/mount.nfs.away /sbin/mount.nfs
cat /run/no-program.out
grep 'install the Debian package nfs-common' /run/no-program.out
attach source nbd --size 64MiB --replicas 1
mkdir -p /mnt /mnt2
mkfs.ext4 -q -F $disk
mount $disk /mnt
dd if=/dev/urandom of=/mnt/first bs=1M count=6 conv=fsync status=none
drover backup create source --dir /data1
dd if=/dev/urandom of=/mnt/second bs=1M count=1 conv=fsync status=none
drover backup create source --dir /data1 | tee /run/second.out
findmnt -t nfs4
drover backup ls source | tee /run/ls.out
[ "$(grep -c complete /run/ls.out)" = 2 ]
attach copy nbd --size 64MiB --replicas 1
drover backup restore source --into copy --yes --dir /data1
mount $disk /mnt2
cmp /mnt/first /mnt2/first
cmp /mnt/second /mnt2/second
umount /mnt /mnt2
e2fsck -f -n $disk >/run/check.out 2>&1 || { cat /run/check.out; exit 1; }
for name in source copy; do finish $name; remove $name; done
unmount_shares nfs4
nfs_over
rm -r /data3/exports
fails kernel_errors
left_behind
`;

/** See the module text. */
export const BACKUP: readonly Scenario[] = [
  {
    name: "backups to an NFS server: what is missing is named, two backups, a volume restored",
    slow: true,
    run: async (lab) => void await lab.sh(NFS, STEP_MS),
  },
];
