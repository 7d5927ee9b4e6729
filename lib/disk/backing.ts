/**
 * The backing file: a disk image below the oldest disk of a volume, raw or qcow2. It is only ever read.
 *
 * @module
 */
import { Errno, IoError } from "../io/errno.ts";
import type { Files } from "../io/files.ts";
import { BackingFileError } from "./errors.ts";
import { Qcow2Image } from "./qcow2.ts";
import { HEADER_BYTES, parseQcow2Header, QCOW_MAGIC } from "./qcow2_header.ts";
import { SECTOR_BYTES } from "./volume_meta.ts";

/** An open backing file. */
export interface BackingFile {
  /** Path of the image itself, as it was given or inside the directory that was given. */
  readonly path: string;
  /** Its descriptor. */
  readonly fd: number;
  /** What a volume sees of it, bytes. */
  readonly size: number;
  /** A qcow2 image, whose data is elsewhere in the file than in the volume; undefined for a raw one. */
  readonly image?: Qcow2Image;
}

/**
 * Opens an image. What begins as a qcow2 image is one; everything else is raw.
 *
 * @param path the image, or a directory that holds exactly one file: the image
 * @param direct open it with O_DIRECT where the file system can
 * @param volumeBytes size of the volume; the image must fit
 * @throws {BackingFileError} when it cannot be used
 * @throws {IoError}
 */
export function openBacking(files: Files, path: string, direct: boolean, volumeBytes: number): BackingFile {
  const image = imagePath(files, path);
  const { size } = files.stat(image), head = headOf(files, image);
  if (new DataView(head.buffer).getUint32(0) !== QCOW_MAGIC) {
    checkSize(image, size, volumeBytes);
    return { path: image, fd: openImage(files, image, direct), size };
  }
  const header = parseQcow2Header(image, head.subarray(0, Math.min(size, HEADER_BYTES)), size);
  checkSize(image, header.size, volumeBytes);
  // Clusters may be smaller than what direct I/O reads, and many replicas may share the image: cached.
  const fd = files.open(image);
  try {
    return { path: image, fd, size: header.size, image: new Qcow2Image(files, image, fd, size, header) };
  } catch (error) {
    files.close(fd);
    throw error;
  }
}

function checkSize(image: string, size: number, volumeBytes: number): void {
  if (size % SECTOR_BYTES !== 0) {
    throw new BackingFileError(image, `its size, ${size} bytes, is not a multiple of ${SECTOR_BYTES}`);
  }
  if (size > volumeBytes) {
    throw new BackingFileError(image, `it is larger (${size} bytes) than the volume (${volumeBytes} bytes)`);
  }
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

/** The first bytes, followed by zeros where the file is shorter. */
function headOf(files: Files, image: string): Uint8Array<ArrayBuffer> {
  const fd = files.open(image), head = new Uint8Array(HEADER_BYTES);
  try {
    files.readAt(fd, head, 0);
    return head;
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
