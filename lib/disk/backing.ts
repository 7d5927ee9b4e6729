/**
 * The backing file: a disk image below the oldest disk of a volume. It is only ever read.
 *
 * @module
 */
import { Errno, IoError } from "../io/errno.ts";
import type { Files } from "../io/files.ts";
import { BackingFileError } from "./errors.ts";
import { SECTOR_BYTES } from "./volume_meta.ts";

/** First bytes of a qcow2 image (QEMU docs/interop/qcow2.txt, "Header"). */
const QCOW2_MAGIC = 0x514649fb;

/** An open backing file. */
export interface BackingFile {
  /** Path of the image itself, as it was given or inside the directory that was given. */
  readonly path: string;
  /** Its descriptor. */
  readonly fd: number;
  /** Its size in bytes. */
  readonly size: number;
}

/**
 * Opens a raw image.
 *
 * @param path the image, or a directory that holds exactly one file: the image
 * @param direct open it with O_DIRECT where the file system can
 * @param volumeBytes size of the volume; the image must fit
 * @throws {BackingFileError} when it cannot be used
 * @throws {IoError}
 */
export function openBacking(files: Files, path: string, direct: boolean, volumeBytes: number): BackingFile {
  const image = imagePath(files, path);
  const { size } = files.stat(image);
  if (size % SECTOR_BYTES !== 0) {
    throw new BackingFileError(image, `its size, ${size} bytes, is not a multiple of ${SECTOR_BYTES}`);
  }
  if (size > volumeBytes) {
    throw new BackingFileError(image, `it is larger (${size} bytes) than the volume (${volumeBytes} bytes)`);
  }
  refuseOtherFormats(files, image);
  return { path: image, fd: openImage(files, image, direct), size };
}

function imagePath(files: Files, path: string): string {
  const { kind } = files.stat(path);
  if (kind === "file") return path;
  if (kind !== "directory") throw new BackingFileError(path, "it is neither a file nor a directory");
  const names = files.list(path);
  if (names.length !== 1) {
    throw new BackingFileError(
      path,
      `a directory with exactly one file is needed, this one has ${names.length}`,
    );
  }
  const image = `${path}/${names[0]}`;
  if (files.stat(image).kind !== "file") throw new BackingFileError(image, "it is not a file");
  return image;
}

function refuseOtherFormats(files: Files, image: string): void {
  const fd = files.open(image);
  try {
    const head = new Uint8Array(4);
    if (files.readAt(fd, head, 0) === 4 && new DataView(head.buffer).getUint32(0) === QCOW2_MAGIC) {
      throw new BackingFileError(image, "qcow2 is not supported: convert it with `qemu-img convert -O raw`");
    }
  } finally {
    files.close(fd);
  }
}

function openImage(files: Files, image: string, direct: boolean): number {
  try {
    return files.open(image, { direct });
  } catch (error) {
    // Images may lie on file systems that replicas may not, such as tmpfs.
    if (!direct || !(error instanceof IoError) || error.errno !== Errno.EINVAL) throw error;
    return files.open(image);
  }
}
