/**
 * What the benchmark measures: something that shows a disk, made of processes, up as long as it is measured.
 *
 * @module
 */

/** Which program puts the load on. */
export type Tool = "drover" | "fio" | "iscsi-perf";

/** A kind of load. */
export interface Cell {
  /** As fio calls it. */
  readonly rw: "read" | "write" | "randread" | "randwrite";
  /** Bytes of an operation. */
  readonly blockBytes: number;
  /** Operations under way. */
  readonly depth: number;
}

/** `randread 4k qd32`. */
export function cellName({ rw, blockBytes, depth }: Cell): string {
  return `${rw} ${blockBytes >= 1 << 20 ? `${blockBytes >> 20}m` : `${blockBytes >> 10}k`} qd${depth}`;
}

/** Something that is measured. */
export interface Subject extends AsyncDisposable {
  /** `drover/socket/3/cached`: who, how it is shown, how many copies, how it treats the page cache. */
  readonly name: string;
  /** Which program measures it. */
  readonly tool: Tool;
  /** Target of `drover bench`, URI for iscsi-perf, arguments for fio that name the disk. */
  readonly target: string;
  /** Processes that serve, by what they are; CPU time is counted for each. */
  readonly pids: Readonly<Record<string, readonly number[]>>;
  /** Largest block it can do; the spike knows only its own. */
  readonly maxBlockBytes: number;
  /** The disk has data already; else it is filled before it is measured. */
  readonly isFilled: boolean;
  /** To be called before every measurement, for servers that serve one client and end. */
  prepare?(): Promise<void>;
}

/** Starts a subject in a directory of its own, on a file system that nothing else uses. */
export interface SubjectMaker {
  /** See {@linkcode Subject.name}. */
  readonly name: string;
  /** Programs it needs, as `tests/support/needs.ts` knows them. */
  readonly needs: readonly string[];
  /**
   * Starts it.
   *
   * @param directory exists, empty
   * @param bytes size of the disk
   */
  start(directory: string, bytes: number): Promise<Subject>;
}
