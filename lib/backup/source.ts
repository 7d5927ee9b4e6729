/**
 * The two ends of a transfer: the snapshot that a backup is made of, and the place that a restore writes to. The
 * replica implements the first over its chain; files and volumes implement the second.
 *
 * @module
 */

/** Bytes of one unit of {@linkcode BlockSource.changed}: a volume's block. */
export const SOURCE_UNIT = 4096;

/** A range of a volume, in bytes. */
export interface Extent {
  /** First byte. */
  readonly offset: number;
  /** Number of bytes. */
  readonly length: number;
}

/** One snapshot of a volume, held open and unchanging while the source is. */
export interface BlockSource extends Disposable {
  /** Size of the volume in bytes. */
  readonly bytes: number;
  /**
   * Fills `into` with the volume's content from `offset`, all layers merged over the backing image. A block of a backup
   * is larger than a unit and is restored whole, so what the volume shows between its own units belongs to it.
   */
  read(offset: number, into: Uint8Array): void | Promise<void>;
  /**
   * Ranges written in the layers newer than snapshot `since` (exclusive), ascending and aligned to
   * {@linkcode SOURCE_UNIT}; undefined: in all layers. A backing image is no layer.
   */
  changed(since: string | undefined): Iterable<Extent>;
  /** True when the snapshot is in this chain. */
  has(snapshot: string): boolean;
}

/** Where a restore goes. Ranges do not overlap; calls may run beside each other. */
export interface BlockSink extends Disposable {
  /** Writes data at `offset`. */
  write(offset: number, data: Uint8Array): Promise<void>;
  /** Makes a range read as zeros. */
  zero(offset: number, length: number): Promise<void>;
  /** Returns when everything written is durable. */
  flush(): Promise<void>;
}
