/**
 * What can be wrong with a replica directory, as typed errors. Every message names the file or directory and,
 * where there is one, the way out.
 *
 * Failures of the operating system itself stay {@linkcode IoError}; they appear here as `cause`.
 *
 * @module
 */

/** A metadata file whose content cannot be used. */
export class MetadataError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "MetadataError";
  /**
   * Describes one fault.
   *
   * @param file path or name of the file
   * @param problem what is wrong with it
   */
  constructor(readonly file: string, readonly problem: string, options?: ErrorOptions) {
    super(`${file}: ${problem}`, options);
  }
}

/** The disks of a directory do not form a chain that can be opened. */
export class ChainError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "ChainError";
  /**
   * Describes one fault.
   *
   * @param directory the replica directory
   * @param problem what is wrong with the chain
   */
  constructor(readonly directory: string, readonly problem: string, options?: ErrorOptions) {
    super(`replica ${directory}: ${problem}`, options);
  }
}

/** Another process (or another object in this one) has the directory open. */
export class ReplicaLockedError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "ReplicaLockedError";
  /**
   * Describes one fault.
   *
   * @param directory the replica directory
   * @param pid the process that holds the lock, when the kernel tells
   */
  constructor(readonly directory: string, readonly pid: number | undefined) {
    const holder = pid === undefined ? "another process" : `process ${pid}`;
    super(`replica ${directory} is in use by ${holder}: stop it first, or use another directory`);
  }
}

/** The file system lacks something a replica cannot do without. */
export class UnsupportedFileSystemError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "UnsupportedFileSystemError";
  /**
   * Describes one fault.
   *
   * @param directory the replica directory
   * @param problem what it lacks, and the fix
   */
  constructor(readonly directory: string, readonly problem: string, options?: ErrorOptions) {
    super(`replica ${directory}: ${problem}`, options);
  }
}

/** A backing file that cannot serve as the base of a volume. */
export class BackingFileError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "BackingFileError";
  /**
   * Describes one fault.
   *
   * @param file path of the backing file
   * @param problem what is wrong with it
   */
  constructor(readonly file: string, readonly problem: string, options?: ErrorOptions) {
    super(`backing file ${file}: ${problem}`, options);
  }
}

/** A change of the chain that failed half way. */
export class ChangeFailedError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "ChangeFailedError";
  /**
   * Describes one fault.
   *
   * @param problem what failed
   * @param undoProblem why it could not be undone; "" when everything is as it was before
   */
  constructor(readonly problem: string, readonly undoProblem: string, options?: ErrorOptions) {
    super(undoProblem === "" ? problem : `${problem}; undoing it failed: ${undoProblem}`, options);
  }
}

/** An operation that the state of the replica does not allow. */
export class ReplicaStateError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "ReplicaStateError";
}
