/**
 * A replica directory as the data service uses it.
 *
 * @module
 */
import type { ReplicaDisk } from "../disk/replica_disk.ts";
import type { Completer } from "../io/io.ts";
import type { DirtyRegions } from "./dirty_regions.ts";
import type { AdoptedRecord } from "./adopted_record.ts";
import type { ReplicaStore } from "./data_service.ts";

/** See the module text. */
export class DiskStore implements ReplicaStore {
  /**
   * Serves an open directory.
   *
   * @param id identifier of this copy, part of every record
   * @param boot identifier of the machine's present boot
   * @param regions its dirty regions
   */
  constructor(
    readonly disk: ReplicaDisk,
    readonly id: string,
    readonly boot: string,
    public regions: DirtyRegions | undefined,
  ) {}

  get bytes(): number {
    return this.disk.bytes;
  }

  get fault(): string {
    return this.disk.fault;
  }

  get record(): AdoptedRecord | undefined {
    return this.disk.drover;
  }

  /** See {@linkcode ReplicaStore}. */
  read(offset: number, length: number, at: number, who: Completer, tag: number): void {
    this.disk.read(offset, length, at, who, tag);
  }

  /** See {@linkcode ReplicaStore}. */
  write(offset: number, length: number, at: number, durable: boolean, who: Completer, tag: number): void {
    this.disk.write(offset, length, at, durable, who, tag);
  }

  /** See {@linkcode ReplicaStore}. */
  unmap(offset: number, length: number, who: Completer, tag: number): void {
    this.disk.unmap(offset, length, who, tag);
  }

  /** See {@linkcode ReplicaStore}. */
  flush(who: Completer, tag: number): void {
    this.disk.flush(who, tag);
  }

  /** See {@linkcode ReplicaStore}. */
  markData(offset: number, length: number, block: number, marks: Uint8Array): void {
    this.disk.markData(offset, length, block, marks);
  }

  adopt(record: AdoptedRecord | undefined): void {
    const unknown = this.disk.drover?.unknown ?? {};
    if (record === undefined) return this.disk.setDrover(undefined);
    const { generation, revision, members } = record;
    this.disk.setDrover({ id: this.id, generation, revision, boot: this.boot, members, unknown });
  }
}
