/**
 * Writing a qcow2 image whose allocation is known before the first byte: clusters for the blocks of a backup, in
 * order of their offsets. So the metadata is a function of the list of blocks, is written first, and a writer that
 * was interrupted goes on by computing it again.
 *
 * | part            | where              | what, and what it guards against                                        |
 * | --------------- | ------------------ | ------------------------------------------------------------------------ |
 * | header          | cluster 0          | version 3: sizes, places of the tables                                   |
 * | refcount table  | after it           | big-endian 64 bit: places of the refcount blocks                         |
 * | refcount blocks | after it           | 16 bit for each cluster, 1 for all: a cluster used twice, or not at all  |
 * | L1 table        | after them         | places of the L2 tables, with the flag "refcount is one"                 |
 * | L2 tables       | after it           | places of the data clusters, with the same flag; 0: reads as zeros       |
 * | data            | after them         | the blocks                                                               |
 *
 * @module
 */
import { BackupInputError } from "./errors.ts";

const MAGIC = 0x514649fb;
const VERSION = 3;
const HEADER_BYTES = 104;
/** Refcounts of 2^4 bits. */
const REFCOUNT_ORDER = 4;
const MIN_CLUSTER = 512;
/** Largest cluster of qcow2, in bytes. */
const MAX_CLUSTER = 2 * 1024 * 1024;
/** The bit of a table's entry that says that the refcount is one, in the upper 32 bits. */
const COPIED = 0x80000000;

/** Where everything is. */
export interface Qcow2Layout {
  /** Size of a cluster in bytes. */
  readonly clusterBytes: number;
  /** Size of the whole file in bytes. */
  readonly fileBytes: number;
  /** The metadata, which begins the file. */
  readonly metadata: Uint8Array<ArrayBuffer>;
  /** Where in the file the block of this offset lies; undefined when there is none. */
  place(offset: number): number | undefined;
}

/** The largest cluster that blocks of this size consist of. */
function clusterFor(blockBytes: number): number {
  const power = blockBytes & -blockBytes;
  if (power < MIN_CLUSTER) throw new BackupInputError(`blocks of ${blockBytes} bytes do not fit into qcow2`);
  return Math.min(power, MAX_CLUSTER);
}

function setPlace(view: DataView, at: number, place: number, flag: number): void {
  view.setUint32(at, (Math.floor(place / 2 ** 32) | flag) >>> 0);
  view.setUint32(at + 4, place >>> 0);
}

interface Sizes {
  readonly refcountTable: number;
  readonly refcountBlocks: number;
  readonly l1: number;
  readonly l2: number;
  readonly data: number;
}

/** How many clusters each part takes. Refcounts count themselves, so their number is found by repetition. */
function sizesFor(cluster: number, volumeBytes: number, l2: number, data: number): Sizes {
  const entries = cluster / 8, refcounts = cluster / 2;
  const l1Entries = Math.ceil(Math.ceil(volumeBytes / cluster) / entries);
  const l1 = Math.max(1, Math.ceil(l1Entries / entries));
  let refcountBlocks = 1, refcountTable = 1;
  for (;;) {
    const total = 1 + refcountTable + refcountBlocks + l1 + l2 + data;
    const blocks = Math.ceil(total / refcounts), table = Math.ceil(blocks / entries);
    if (blocks === refcountBlocks && table === refcountTable) break;
    refcountBlocks = blocks;
    refcountTable = table;
  }
  return { refcountTable, refcountBlocks, l1, l2, data };
}

function writeHeader(view: DataView, cluster: number, volumeBytes: number, sizes: Sizes): void {
  const l1At = (1 + sizes.refcountTable + sizes.refcountBlocks) * cluster;
  view.setUint32(0, MAGIC);
  view.setUint32(4, VERSION);
  view.setUint32(20, Math.log2(cluster));
  setPlace(view, 24, volumeBytes, 0);
  view.setUint32(36, Math.ceil(Math.ceil(volumeBytes / cluster) / (cluster / 8)));
  setPlace(view, 40, l1At, 0);
  setPlace(view, 48, cluster, 0);
  view.setUint32(56, sizes.refcountTable);
  view.setUint32(96, REFCOUNT_ORDER);
  view.setUint32(100, HEADER_BYTES);
}

/**
 * Lays out an image.
 *
 * @param offsets of the blocks that are stored, ascending, multiples of `blockBytes`
 * @throws {BackupInputError} for blocks that qcow2 cannot hold
 */
export function layoutQcow2(
  volumeBytes: number,
  blockBytes: number,
  offsets: readonly number[],
): Qcow2Layout {
  const cluster = clusterFor(blockBytes), entries = cluster / 8, perBlock = blockBytes / cluster;
  const guest = offsets.flatMap((offset) => Array.from({ length: perBlock }, (_, i) => offset / cluster + i));
  const l2Indexes = [...new Set(guest.map((index) => Math.floor(index / entries)))];
  const sizes = sizesFor(cluster, volumeBytes, l2Indexes.length, guest.length);
  const l1Cluster = 1 + sizes.refcountTable + sizes.refcountBlocks;
  const l2Cluster = l1Cluster + sizes.l1, dataCluster = l2Cluster + sizes.l2;
  const total = dataCluster + sizes.data;
  const metadata = new Uint8Array(dataCluster * cluster);
  const view = new DataView(metadata.buffer);
  writeHeader(view, cluster, volumeBytes, sizes);
  for (let i = 0; i < sizes.refcountBlocks; i++) {
    setPlace(view, cluster + i * 8, (1 + sizes.refcountTable + i) * cluster, 0);
  }
  const refcounts = (1 + sizes.refcountTable) * cluster;
  for (let i = 0; i < total; i++) view.setUint16(refcounts + i * 2, 1);
  const l2Of = new Map<number, number>();
  l2Indexes.forEach((index, i) => {
    const place = (l2Cluster + i) * cluster;
    l2Of.set(index, place);
    setPlace(view, l1Cluster * cluster + index * 8, place, COPIED);
  });
  guest.forEach((index, i) => {
    const table = l2Of.get(Math.floor(index / entries)) ?? 0;
    setPlace(view, table + index % entries * 8, (dataCluster + i) * cluster, COPIED);
  });
  const places = new Map(
    offsets.map((offset, i) => [offset, dataCluster * cluster + i * blockBytes] as const),
  );
  return {
    clusterBytes: cluster,
    fileBytes: total * cluster,
    metadata,
    place: (offset) => places.get(offset),
  };
}
