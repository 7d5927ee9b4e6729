/**
 * The backup store: all that other rooms call. Begin reading at `create.ts`; the layout is in `names.ts`, the
 * records in `records.ts`, the argument why a block in use is never removed in `collect.ts`.
 *
 * @module
 */
export * from "./errors.ts";
export * from "./records.ts";
export * from "./source.ts";
export * from "./types.ts";
export * from "./target/target.ts";
export { type Bytes, type Codec, type Hashed, InlineCodec } from "./codec.ts";
export { CodecPool } from "./codec_pool.ts";
export { createBackup } from "./create.ts";
export { restoreBackup, restoreDelta, type SizedSink } from "./restore.ts";
export { FileJournal, restoreToFile } from "./restore_file.ts";
export { collectGarbage, deleteBackup, deleteVolume, retain } from "./delete.ts";
export {
  type BackingImageRecord,
  inspectBackingImage,
  inspectSystemBackup,
  listBackingImages,
  listSystemBackups,
  type SystemBackupName,
  type SystemBackupRecord,
} from "./images.ts";
export {
  type BackupSummary,
  backupUrl,
  type BackupUrlParts,
  hasVolume,
  inspectBackup,
  inspectVolume,
  listBackups,
  type ListOptions,
  listVolumes,
  longhornBackup,
  type LonghornJson,
  longhornList,
  longhornVolume,
  parseBackupUrl,
} from "./inspect.ts";
export { verifyBackups } from "./verify.ts";
export {
  deleteSystemBackup,
  downloadSystemBackup,
  parseSystemBackupUrl,
  type SystemBackupDetails,
  type SystemBackupUrl,
  uploadSystemBackup,
} from "./system_backup.ts";
export { type BackingImageOptions, type BackingImageResult, createBackingImage } from "./backing_create.ts";
export { deleteBackingImage } from "./backing_images.ts";
export { type BackingImageRestoreOptions, restoreBackingImage } from "./backing_restore.ts";
