/**
 * What is measured together. The subjects of a group are up at the same time and are measured in turns, cell by
 * cell: what else happens on the machine meets them alike.
 *
 * @module
 */
import { drover } from "./drover.ts";
import { qemuNbd, rawFile, tgt } from "./peers.ts";
import { spike } from "./spike.ts";
import type { Cell, SubjectMaker } from "./subject.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

/** A subject and the one its figures are divided by. */
export interface Row {
  /** What is measured. */
  readonly maker: SubjectMaker;
  /** Name of the subject it is compared with, if any. */
  readonly against?: string;
  /** Loads that it takes part in; default all of the group. */
  readonly takes?: (cell: Cell) => boolean;
}

/** Subjects and loads that are measured together. */
export interface Group {
  /** For progress messages. */
  readonly name: string;
  /** What is measured. */
  readonly rows: readonly Row[];
  /** With what. */
  readonly cells: readonly Cell[];
  /** On the repository's file system instead of one in memory: so that a disk sets the pace. */
  readonly onDisk?: boolean;
}

function random(depths: readonly number[], ...kinds: ("randread" | "randwrite")[]): Cell[] {
  return depths.flatMap((depth) => kinds.map((rw): Cell => ({ rw, blockBytes: 4 * KIB, depth })));
}

/** Operations under way of a sequential load: enough that the way there and back does not count. */
const SEQUENTIAL_DEPTH = 4;
const SEQUENTIAL: readonly Cell[] = [
  { rw: "write", blockBytes: MIB, depth: SEQUENTIAL_DEPTH },
  { rw: "read", blockBytes: MIB, depth: SEQUENTIAL_DEPTH },
];

/** On a disk: deep enough that a real device is busy all the time. */
const DISK_SEQUENTIAL: readonly Cell[] = SEQUENTIAL.map((cell) => ({ ...cell, depth: 32 }));

const reads = ({ rw }: Cell) => rw.endsWith("read");
const small = ({ blockBytes }: Cell) => blockBytes < MIB;
const large = (cell: Cell) => !small(cell);

/** Name of the subjects that goals speak of. */
export const Names = {
  SPIKE: "spike/3/cached",
  RAW: "file/direct/fio",
  TGT: "tgtd/cached/drover",
  QEMU: "qemu-nbd/cached/drover",
} as const;

/** In memory a megabyte costs what its copies cost; only with a device below does it tell what a volume adds. */
const DISK: Group = {
  name: "large transfers on a disk",
  rows: [
    { maker: drover({ frontend: "socket", replicas: 1, ioMode: "direct" }), against: Names.RAW },
    { maker: rawFile("fio", "direct") },
  ],
  cells: DISK_SEQUENTIAL,
  onDisk: true,
};

/**
 * The groups that are measured.
 *
 * @param quick only what the goals speak of
 * @param spikePrograms directory of the spike's programs, or undefined when it is not there
 */
export function groups(quick: boolean, spikePrograms: string | undefined): Group[] {
  const spikes = spikePrograms === undefined ? [] : [{ maker: spike(spikePrograms) }];
  const all = quick ? [1, 32] : [1, 8, 32, 128];
  const both = ["randread", "randwrite"] as const;
  const more = (rows: Row[]): Row[] => quick ? [] : rows;
  const frames: Group = {
    name: "frames, through the page cache",
    rows: [
      { maker: drover({ frontend: "socket", replicas: 3, ioMode: "cached" }), against: Names.SPIKE },
      ...spikes,
      ...more([{ maker: drover({ frontend: "socket", replicas: 1, ioMode: "cached" }) }]),
    ],
    cells: [...random(all, ...both), ...quick ? [] : SEQUENTIAL],
  };
  const direct: Group = {
    name: "frames, past the page cache",
    rows: [
      {
        maker: drover({ frontend: "socket", replicas: 3, ioMode: "direct" }),
        against: Names.SPIKE,
        ...quick ? { takes: small } : {},
      },
      {
        maker: drover({ frontend: "socket", replicas: 1, ioMode: "direct" }),
        against: Names.RAW,
        ...quick ? { takes: large } : {},
      },
      { maker: rawFile("fio", "direct"), ...quick ? { takes: large } : {} },
      ...more([{ maker: rawFile("drover", "direct"), against: Names.RAW }]),
    ],
    cells: [...random(quick ? [32] : all, ...both), ...SEQUENTIAL],
  };
  const iscsi: Group = {
    name: "iSCSI",
    rows: [
      { maker: drover({ frontend: "iscsi", replicas: 1, ioMode: "cached" }), against: Names.TGT },
      { maker: tgt("drover") },
      ...more([
        { maker: tgt("iscsi-perf"), against: Names.TGT, takes: reads },
        { maker: drover({ frontend: "iscsi", replicas: 3, ioMode: "direct" }), against: Names.TGT },
      ]),
    ],
    cells: quick ? random([32], "randread") : [...random(all, ...both), ...SEQUENTIAL],
  };
  const nbd: Group = {
    name: "NBD",
    rows: [
      { maker: drover({ frontend: "nbd", replicas: 1, ioMode: "cached" }), against: Names.QEMU },
      { maker: qemuNbd("drover") },
      ...more([
        { maker: qemuNbd("fio"), against: Names.QEMU },
        { maker: drover({ frontend: "nbd", replicas: 3, ioMode: "direct" }), against: Names.QEMU },
      ]),
    ],
    cells: [...random(quick ? [32] : all, ...both), ...quick ? [] : SEQUENTIAL],
  };
  const loop: Group = {
    name: "loop device",
    rows: [{ maker: drover({ frontend: "loop", replicas: 1, ioMode: "cached" }), against: Names.RAW }],
    cells: [...random(all, ...both), ...SEQUENTIAL],
  };
  return quick ? [frames, direct, DISK, iscsi, nbd] : [frames, direct, DISK, iscsi, nbd, loop];
}
