/**
 * What can go wrong with a backup, beside the failures of the target itself ({@linkcode TargetError}). Every message
 * names the volume, the backup or the block, and the way out where there is one.
 *
 * @module
 */

/** Something asked for cannot be done as asked: a wrong name, size or option. */
export class BackupInputError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "BackupInputError";
}

/** A record that cannot be used. */
export class RecordError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "RecordError";
  /**
   * Describes one fault.
   *
   * @param path where the record lies, relative to the target
   * @param problem what is wrong with it
   */
  constructor(readonly path: string, readonly problem: string, options?: ErrorOptions) {
    super(`${path}: ${problem}`, options);
  }
}

/** There is no such volume or backup on the target. */
export class NoSuchBackupError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "NoSuchBackupError";
}

/** The backup was never finished, so it cannot be restored, checked or built upon. */
export class BackupInProgressError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "BackupInProgressError";
  /** Names the backup. */
  constructor(readonly volume: string, readonly backup: string) {
    super(
      `backup ${backup} of volume ${volume} is in progress or was cut short: ` +
        `wait for it, create it again under the same name, or delete it`,
    );
  }
}

/** Another client works on the volume's backups in a way that excludes this. */
export class LockedError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "LockedError";
  /**
   * Names the lock in the way.
   *
   * @param what what its holder does: `a deletion`
   */
  constructor(readonly volume: string, readonly lock: string, what: string) {
    super(`the backups of volume ${volume} are locked by ${what} (${lock}): try again when it has ended`);
  }
}

/** The lock could not be kept fresh, so others may believe that it is gone. */
export class LockLostError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "LockLostError";
}

/** A block that cannot be had as its backup needs it. */
export class BlockError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "BlockError";
  /**
   * Names the block and who needs it.
   *
   * @param checksum its name
   * @param offset where it belongs in the volume, in bytes
   * @param problem what is wrong with it
   */
  constructor(
    readonly volume: string,
    readonly backup: string,
    readonly checksum: string,
    readonly offset: number,
    readonly problem: string,
    options?: ErrorOptions,
  ) {
    super(
      `block ${checksum} at offset ${offset} of backup ${backup} of volume ${volume}: ${problem}`,
      options,
    );
  }
}

/** Bytes that are not what a compression method writes, or not what they should decompress to. */
export class CodecError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "CodecError";
}
