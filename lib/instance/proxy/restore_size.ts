/**
 * Whether a backup fits the volume that it is to be restored into: they have to be of one size.
 *
 * An encrypted volume of an older engine was as large as its user asked for, with the header of the encryption inside;
 * a newer one is made larger by that header. `need_correct_encrypted_volume_size` says that the backup is of the older
 * kind and the volume of the newer one: then the volume has to be larger by just the header, and what the backup does
 * not hold, the end, reads as zeros.
 *
 * @module
 */
import { loadVolume } from "../../backup/store.ts";
import { Credentials } from "../../backup/target/credentials.ts";
import { openTarget } from "../../backup/target/open.ts";
import { decodeBackupUrl } from "../../backup/target/url.ts";
import { ClientError } from "../../client/errors.ts";
import { SystemRunner } from "../../host/command.ts";
import { LUKS_HEADER_BYTES } from "../../host/luks.ts";
import { ShareMounts } from "../../host/share_mounts.ts";

/** What is restored, and into what. */
export interface RestoreSizes {
  /** URL of the backup. */
  readonly url: string;
  /** What its target needs beside. */
  readonly credential: Readonly<Record<string, string>>;
  /** Size of the volume in bytes. */
  readonly volumeBytes: number;
  /** The volume is larger than the backup's by the header of the encryption. */
  readonly largerByHeader: boolean;
  /** The volume holds an older backup already. */
  readonly standBy: boolean;
}

/**
 * Compares the sizes.
 *
 * @throws {ClientError} when they do not fit, with the size that is needed
 * @throws {NoSuchBackupError} {@linkcode TargetError} when the target cannot tell
 */
export async function checkRestoreSize(sizes: RestoreSizes): Promise<void> {
  const { url, credential, volumeBytes, largerByHeader, standBy } = sizes;
  const place = decodeBackupUrl(url);
  const mounter = new ShareMounts({ runner: new SystemRunner() });
  await using target = await openTarget(place.target, Credentials.from(credential), { mounter });
  const { bytes } = await loadVolume(target, place.volume);
  const wanted = largerByHeader ? bytes + LUKS_HEADER_BYTES : bytes;
  if (wanted === volumeBytes) return;
  const header = largerByHeader ? `, with the header of an encrypted volume ${wanted}` : "";
  const what = `the backup's volume has ${bytes} bytes${header}, and this one ${volumeBytes}`;
  if (wanted < volumeBytes) {
    throw new ClientError(`${what}: make a volume of ${wanted} bytes to restore it to`);
  }
  throw new ClientError(
    standBy
      ? `${what}: need to expand the DR volume to ${wanted} bytes before it can follow`
      : `${what}: make a volume of ${wanted} bytes to restore it to`,
  );
}
