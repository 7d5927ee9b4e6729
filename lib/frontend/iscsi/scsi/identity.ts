/**
 * Who the disk is: names that stay the same as long as the volume has its name, on whatever node it is attached.
 *
 * @module
 */
import { createHash } from "node:crypto";

/** T10 vendor identification, 8 characters (SPC-4 section 6.6.2). */
export const VENDOR = "DROVER";
/** Product identification, 16 characters: what Longhorn's disks say, so that udev rules keep matching. */
export const PRODUCT = "VIRTUAL-DISK";

/**
 * First four bytes of the NAA 6 designator: format 6 and a company id with the locally administered bit set, so
 * that it cannot be one that IEEE gave to somebody (SPC-4 section 7.8.6.6.5).
 */
const NAA_PREFIX = [0x60, 0x24, 0x45, 0x20];

/** Names of a disk. */
export class Identity {
  /** Unit serial number, 16 hexadecimal digits. */
  readonly serial: string;
  /** NAA designator, 16 bytes. */
  readonly naa: Uint8Array;

  /**
   * Works the names out.
   *
   * @param volume name of the volume
   * @param targetName name of the iSCSI target
   * @param lun number of the logical unit
   * @param revision product revision level, 4 characters
   */
  constructor(
    readonly volume: string,
    readonly targetName: string,
    readonly lun: number,
    readonly revision: string,
  ) {
    const hash = createHash("sha256").update("drover-volume\0").update(volume).digest();
    this.serial = hash.subarray(16, 24).toString("hex");
    this.naa = new Uint8Array(16);
    this.naa.set(hash.subarray(0, 16));
    this.naa.set(NAA_PREFIX.slice(0, 3));
    // The company id ends in the middle of byte 3.
    this.naa[3] = NAA_PREFIX[3] | (this.naa[3] & 0x0f);
  }
}
