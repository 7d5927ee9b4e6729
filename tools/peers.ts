/**
 * The programs of other projects that tests talk to: real initiators, real file systems, real gRPC clients. They
 * are what "compatible" is measured with, so a test that needs one names it and is skipped, with the reason
 * printed, where it is missing.
 *
 * @module
 */

/** One Debian package that tests use. */
export interface Peer {
  /** Name of the Debian package. */
  readonly package: string;
  /** Programs of the package that tests call, looked up on the PATH. May be empty. */
  readonly programs: readonly string[];
  /** What the tests do with it. */
  readonly purpose: string;
}

/** Everything that the tests can use beyond Deno and a Linux kernel. One place, installed by the test run. */
export const PEERS: readonly Peer[] = [
  { package: "fio", programs: ["fio"], purpose: "load and data verification on block devices" },
  { package: "qemu-utils", programs: ["qemu-img", "qemu-io"], purpose: "NBD client, and qcow2 for backups" },
  { package: "libnbd-bin", programs: ["nbdinfo", "nbdcopy"], purpose: "second NBD client" },
  { package: "nbdkit", programs: ["nbdkit"], purpose: "NBD server to compare with" },
  {
    package: "libiscsi-bin",
    programs: ["iscsi-ls", "iscsi-inq"],
    purpose: "iSCSI initiator without a kernel",
  },
  { package: "tgt", programs: ["tgtd", "tgtadm"], purpose: "the iSCSI target that Longhorn uses" },
  { package: "xfsprogs", programs: ["mkfs.xfs", "xfs_repair"], purpose: "file system on a volume" },
  {
    package: "e2fsprogs",
    programs: ["mkfs.ext4", "e2fsck"],
    purpose: "file system on a volume, loop images",
  },
  { package: "cryptsetup-bin", programs: ["cryptsetup"], purpose: "encrypted volumes" },
  { package: "mount", programs: ["losetup", "mount"], purpose: "loop devices" },
  { package: "lz4", programs: ["lz4"], purpose: "reads and writes the frames of backups' blocks" },
  { package: "iproute2", programs: ["ip"], purpose: "network namespaces" },
  { package: "strace", programs: ["strace"], purpose: "seeing which system calls a program makes" },
  { package: "protobuf-compiler", programs: ["protoc"], purpose: "compatibility of the .proto files" },
  { package: "lz4", programs: ["lz4"], purpose: "second implementation of the format of backup blocks" },
  { package: "rclone", programs: ["rclone"], purpose: "S3 client to compare backups with" },
  { package: "python3-grpcio", programs: [], purpose: "gRPC peer built on the C core" },
];

/** A program that is no Debian package and is built from its Go module. */
export interface GoPeer {
  /** What `go install` takes: a package of a module, and its version. */
  readonly module: string;
  /** The program that comes of it, in {@linkcode PEER_DIRECTORY}. */
  readonly program: string;
  /** What the tests do with it. */
  readonly purpose: string;
}

/** Built by the test run where Go is there; kept, because building takes minutes. */
export const GO_PEERS: readonly GoPeer[] = [
  {
    module: "github.com/versity/versitygw/cmd/versitygw@v1.8.0",
    program: "versitygw",
    purpose: "S3 service over a directory, as the place of backups",
  },
];

/** Where programs built for the tests are kept between runs. */
export const PEER_DIRECTORY = `${
  Deno.env.get("XDG_CACHE_HOME") || `${Deno.env.get("HOME") ?? "/root"}/.cache`
}/drover-peers/bin`;

/** The Debian package that brings a program, or undefined when no peer has it. */
export function packageOf(program: string): string | undefined {
  return PEERS.find((peer) => peer.programs.includes(program))?.package;
}
