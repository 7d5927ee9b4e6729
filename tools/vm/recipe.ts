/**
 * What the machine of `deno task e2e:vm` is made of: Debian packages and a few settings, nothing of Drover. The
 * image is built once and kept under a key over this file's contents, see `image.ts`.
 *
 * There is no service manager in it: `guest/init` starts the little that is wanted. That saves half a minute per
 * boot in an emulated machine.
 *
 * @module
 */
import type { Peer } from "../peers.ts";

/** What the host needs to build and run the machine. */
export const HOST_PEERS: readonly Peer[] = [
  { package: "mmdebstrap", programs: ["mmdebstrap"], purpose: "makes the file tree of the machine" },
  { package: "qemu-system-x86", programs: ["qemu-system-x86_64"], purpose: "runs the machine" },
  { package: "e2fsprogs", programs: ["mke2fs"], purpose: "makes the machine's disks from directories" },
  { package: "gcc", programs: ["gcc"], purpose: "builds a backing store for the machine's tgtd" },
  { package: "libc6-dev", programs: [], purpose: "likewise" },
];

/** Debian's release. */
export const SUITE = "bookworm";

/** The kernel's modules that the initial memory disk loads: enough to mount the root. */
const BOOT_MODULES = ["virtio_pci", "virtio_blk", "ext4", "crc32c_generic"];

/** Below a running system: without these nothing can be configured. */
const BASE = [
  "base-files",
  "base-passwd",
  "bash",
  "coreutils",
  "dash",
  "debconf",
  "debianutils",
  "diffutils",
  "dpkg",
  "findutils",
  "grep",
  "gzip",
  "hostname",
  "init-system-helpers",
  "initramfs-tools",
  "iproute2",
  "iptables",
  "kmod",
  "libc-bin",
  "linux-image-amd64",
  "login",
  "mount",
  "ncurses-base",
  "perl-base",
  "procps",
  "psmisc",
  "sed",
  "sysvinit-utils",
  "tar",
  "udev",
  "util-linux",
];

/** What attaches volumes, makes file systems on them, and puts load on them. */
const TOOLS = [
  "cryptsetup-bin",
  "dmsetup",
  "e2fsprogs",
  "fio",
  "fuse3",
  "nbd-client",
  "nfs-common",
  "nfs-kernel-server",
  "open-iscsi",
  "sg3-utils",
  "tgt",
  "xfsprogs",
];

/** All packages. */
export const PACKAGES: readonly string[] = [...BASE, ...TOOLS];

/** Files that no scenario looks at. */
export const EXCLUDED: readonly string[] = [
  "/usr/share/doc/*",
  "/usr/share/man/*",
  "/usr/share/locale/*",
  "/usr/lib/modules/*/kernel/sound/*",
  ...["gpu", "media", "infiniband", "iio", "hwmon", "usb", "net/ethernet", "net/wireless", "staging"]
    .map((drivers) => `/usr/lib/modules/*/kernel/drivers/${drivers}/*`),
];

/** Bytes of the root disk; the file is sparse. */
export const ROOT_BYTES = 2 * 1024 ** 3;

/** Shell commands that finish the file tree, which is `$1`. */
export const SETTINGS: readonly string[] = [
  `mkdir -p "$1/product" "$1/etc/initramfs-tools/conf.d"`,
  `echo MODULES=list > "$1/etc/initramfs-tools/conf.d/drover"`,
  `printf '%s\\n' ${BOOT_MODULES.join(" ")} > "$1/etc/initramfs-tools/modules"`,
  `chroot "$1" update-initramfs -u -k all`,
  // The first process comes with the product's disk, so that the image need not change with it.
  `printf '#!/bin/sh\\nmount -o ro /dev/vdb /product\\nexec /product/guest/init\\n' > "$1/sbin/init"`,
  `chmod 755 "$1/sbin/init"`,
];
