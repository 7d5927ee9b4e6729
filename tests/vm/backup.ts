/**
 * Backup targets that the kernel mounts, with real servers: NFS and CIFS. And what is said where the machine cannot
 * mount them.
 *
 * @module
 */
import { type Lab, Skip } from "../../tools/vm/lab.ts";
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

/** The password reaches the kernel, and no command line. */
const CIFS = `
. /product/guest/shares.sh
modprobe cifs
cifs_server /data3/share keeper 'a, pass word'
export DROVER_BACKUP_TARGET=cifs://127.0.0.1/backups
printf 'CIFS_USERNAME=keeper\\nCIFS_PASSWORD=wrong\\n' >/run/keys
chmod 600 /run/keys
export DROVER_BACKUP_CREDENTIALS=/run/keys
drover backup ls >/run/wrong.out 2>&1 && { cat /run/wrong.out; exit 1; }
cat /run/wrong.out
grep -i 'permission denied' /run/wrong.out
printf 'CIFS_USERNAME=keeper\\nCIFS_PASSWORD=a, pass word\\n' >/run/keys
truncate -s 16M /run/image
dd if=/dev/urandom of=/run/image bs=1M seek=3 count=5 conv=notrunc status=none
drover backup import golden /run/image
findmnt -t cifs
drover backup ls golden | grep complete
drover backup restore-to-file golden /run/image.back
cmp /run/image /run/image.back
drover backup verify golden
drover backup rm golden --yes
[ -z "$(find /data3/share -name '*.blk')" ]
unmount_shares cifs
cifs_over
rm -r /data3/share /run/image /run/image.back
`;

async function cifs(lab: Lab): Promise<void> {
  if (await lab.sh("type -p smbd mount.cifs | wc -l") !== "2") throw new Skip("the machine has no Samba");
  await lab.sh(CIFS, STEP_MS);
}

/** See the module text. */
export const BACKUP: readonly Scenario[] = [
  {
    name: "backups to an NFS server: what is missing is named, two backups, a volume restored",
    slow: true,
    run: async (lab) => void await lab.sh(NFS, STEP_MS),
  },
  {
    name: "backups to a CIFS server: a wrong password is said, an image there and back",
    slow: true,
    run: cifs,
  },
];
