/**
 * The demonstration's own load: a program of its own, so that its figures are not those of a busy event loop.
 *
 * ```text
 * load.ts write  PLACE BYTES SECONDS STATE [STOP]  fills BYTES of the place, then overwrites 4 KiB blocks at
 *                                                  random, for SECONDS or until there is a file STOP
 * load.ts verify PLACE BYTES STATE                 reads every block and compares it with what STATE says
 * ```
 *
 * PLACE is as for `drover bench`, such as `file:/path` or `unix:/path`. Every block holds its number and its version; STATE
 * keeps the version that was acknowledged last, so that a lost or a torn write is found. It prints lines of JSON.
 *
 * @module
 */
import { FileTarget } from "../../lib/bench/file.ts";
import { FramesTarget } from "../../lib/bench/frames.ts";
import { IscsiTarget } from "../../lib/bench/iscsi.ts";
import { NbdTarget } from "../../lib/bench/nbd.ts";
import { parsePlace } from "../../lib/bench/place.ts";
import type { BenchError, Target, TargetOwner } from "../../lib/bench/target.ts";
import { errnoText } from "../../lib/io/errno.ts";
import { FilesLibc } from "../../lib/io/files_libc.ts";
import type { Completer, Io } from "../../lib/io/io.ts";
import { openIo } from "../../lib/io/open.ts";

/** What the program prints, one line each. */
export type LoadLine =
  | { readonly kind: "filled"; readonly seconds: number }
  /** A tenth of a second of random writes: how many, and the longest time without the end of one. */
  | { readonly kind: "sample"; readonly at: number; readonly operations: number; readonly pauseMs: number }
  | {
    readonly kind: "written";
    readonly operations: number;
    readonly seconds: number;
    readonly errors: number;
  }
  | { readonly kind: "verified"; readonly blocks: number; readonly bad: number; readonly seconds: number };

/** Bytes of a block. */
const BLOCK = 4096;
/** Bytes of a write while filling. */
const FILL = 256 * 1024;
/** Operations under way. */
const DEPTH = 16;
/** Time between samples, milliseconds. */
const SAMPLE_MS = 100;
const ARENA_BYTES = 64 * 1024 * 1024;
/** Seed of the order of random writes. */
const SEED = 0x9e3779b9;

const FILES = new FilesLibc();
const say = (line: LoadLine): void => console.log(JSON.stringify(line));

function openTarget(io: Io, place: string, write: boolean, owner: TargetOwner): Target {
  const parsed = parsePlace(place);
  if (parsed.kind === "file") return new FileTarget(io, 0, parsed.path, { write, direct: true }, owner);
  if (parsed.kind === "frames") return new FramesTarget(io, 0, parsed.address, DEPTH, owner);
  if (parsed.kind === "nbd") return new NbdTarget(io, 0, parsed, DEPTH, owner);
  return new IscsiTarget(io, 0, parsed, DEPTH, owner);
}

/** Writes what a block holds at a version. */
function putBlock(words: Uint32Array, block: number, version: number): void {
  words[0] = block;
  words[1] = version;
  for (let i = 2; i < BLOCK / 4; i++) {
    words[i] = Math.imul(block + 1, 2654435761) + Math.imul(version, 40503) + i;
  }
}

/** Whether a block holds what it held at this version or at a later one, whole. */
function isBlock(words: Uint32Array, block: number, version: number): boolean {
  const found = words[1] ?? 0;
  if (words[0] !== block || found < version) return false;
  for (let i = 2; i < BLOCK / 4; i++) {
    if (words[i] !== (Math.imul(block + 1, 2654435761) + Math.imul(found, 40503) + i) >>> 0) return false;
  }
  return true;
}

/** What both jobs have in common: slots with buffers, and the target. */
abstract class Job implements TargetOwner {
  readonly target: Target;
  readonly #base: number;
  errors = 0;

  constructor(readonly io: Io, place: string, readonly bytes: number, write: boolean) {
    this.#base = io.arena.reserve(DEPTH * FILL, BLOCK);
    this.target = openTarget(io, place, write, this);
  }

  at(slot: number): number {
    return this.#base + slot * FILL;
  }

  words(slot: number, index = 0): Uint32Array {
    return new Uint32Array(this.io.arena.u8.buffer, this.at(slot) + index * BLOCK, BLOCK / 4);
  }

  abstract onReady(): void;
  abstract ended(slot: number, failed: boolean): void;

  onDone(_target: Target, tag: number, result: number, text: string): void {
    if (result < 0 && this.errors++ === 0) console.error(`load: ${errnoText(result)} ${text}`);
    this.ended(tag, result < 0);
  }

  onEnded(_target: Target, error: BenchError | undefined): void {
    if (error) throw error;
    this.io.stop();
  }
}

function isThere(path: string): boolean {
  return path !== "" && FILES.exists(path);
}

/** Fills, then overwrites at random. */
class WriteJob extends Job implements Completer {
  readonly #blocks: number;
  /** Acknowledged and begun versions of each block. */
  readonly versions: Uint32Array;
  readonly #begun: Uint32Array;
  readonly #block = new Int32Array(DEPTH);
  #phase: "fill" | "random" | "end" = "fill";
  #next = 0;
  #underWay = 0;
  #random = SEED;
  #begin = 0;
  #operations = 0;
  #sampled = 0;
  #lastEnd = 0;
  #pause = 0;

  constructor(io: Io, place: string, bytes: number, readonly seconds: number, readonly stop: string) {
    super(io, place, bytes, true);
    this.#blocks = bytes / BLOCK;
    this.versions = new Uint32Array(this.#blocks);
    this.#begun = new Uint32Array(this.#blocks);
  }

  onReady(): void {
    this.#begin = performance.now();
    for (let slot = 0; slot < DEPTH; slot++) this.#submit(slot);
  }

  #submit(slot: number): void {
    if (this.#phase === "fill" && this.#next < this.bytes) {
      for (let i = 0; i < FILL / BLOCK; i++) putBlock(this.words(slot, i), this.#next / BLOCK + i, 1);
      this.#block[slot] = this.#next / BLOCK;
      this.target.submit(true, this.#next, FILL, this.at(slot), slot);
      this.#next += FILL;
      this.#underWay++;
    } else if (this.#phase === "random") {
      const block = this.#pick();
      putBlock(this.words(slot), block, ++this.#begun[block]);
      this.#block[slot] = block;
      this.target.submit(true, block * BLOCK, BLOCK, this.at(slot), slot);
      this.#underWay++;
    }
  }

  /** A block that nobody is writing: two writes of one block at once have no order. */
  #pick(): number {
    for (;;) {
      this.#random = (Math.imul(this.#random, 1664525) + 1013904223) >>> 0;
      const block = this.#random % this.#blocks;
      if (this.#begun[block] === this.versions[block]) return block;
    }
  }

  ended(slot: number, failed: boolean): void {
    this.#underWay--;
    const block = this.#block[slot];
    if (this.#phase === "fill") {
      if (!failed) this.versions.fill(1, block, block + FILL / BLOCK);
      if (this.#next >= this.bytes && this.#underWay === 0) return this.#startRandom();
    } else {
      this.#operations++;
      const now = performance.now();
      this.#pause = Math.max(this.#pause, now - this.#lastEnd);
      this.#lastEnd = now;
      if (!failed) this.versions[block] = this.#begun[block];
    }
    this.#submit(slot);
    if (this.#phase === "end" && this.#underWay === 0) this.#end();
  }

  #startRandom(): void {
    say({ kind: "filled", seconds: (performance.now() - this.#begin) / 1000 });
    this.#begun.fill(1);
    this.#phase = "random";
    this.#begin = this.#lastEnd = performance.now();
    this.io.timer(SAMPLE_MS, this, 0);
    for (let slot = 0; slot < DEPTH; slot++) this.#submit(slot);
  }

  /** The timer: a sample, or the end. */
  complete(): void {
    if (this.#phase !== "random") return;
    const now = performance.now(), pauseMs = Math.max(this.#pause, now - this.#lastEnd);
    say({ kind: "sample", at: Date.now(), operations: this.#operations - this.#sampled, pauseMs });
    this.#sampled = this.#operations;
    this.#pause = 0;
    if (now - this.#begin >= this.seconds * 1000 || isThere(this.stop)) this.#phase = "end";
    else this.io.timer(SAMPLE_MS, this, 0);
  }

  #end(): void {
    const seconds = (performance.now() - this.#begin) / 1000;
    say({ kind: "written", operations: this.#operations, seconds, errors: this.errors });
    this.target.close();
  }
}

/** Reads everything and compares. */
class VerifyJob extends Job {
  readonly #begin = performance.now();
  readonly #offset = new Float64Array(DEPTH);
  #next = 0;
  #underWay = 0;
  #bad = 0;

  constructor(io: Io, place: string, bytes: number, readonly versions: Uint32Array) {
    super(io, place, bytes, false);
  }

  onReady(): void {
    for (let slot = 0; slot < DEPTH; slot++) this.#submit(slot);
  }

  #submit(slot: number): void {
    if (this.#next >= this.bytes) return;
    this.#offset[slot] = this.#next;
    this.target.submit(false, this.#next, FILL, this.at(slot), slot);
    this.#next += FILL;
    this.#underWay++;
  }

  ended(slot: number, failed: boolean): void {
    this.#underWay--;
    const first = this.#offset[slot] / BLOCK;
    for (let i = 0; i < FILL / BLOCK; i++) {
      if (failed || !isBlock(this.words(slot, i), first + i, this.versions[first + i])) this.#bad++;
    }
    this.#submit(slot);
    if (this.#underWay > 0) return;
    const seconds = (performance.now() - this.#begin) / 1000;
    say({ kind: "verified", blocks: this.versions.length, bad: this.#bad, seconds });
    this.target.close();
  }
}

if (import.meta.main) {
  const [what = "", place = "", bytes = "", ...rest] = Deno.args;
  const io = openIo({ arenaBytes: ARENA_BYTES });
  if (what === "write") {
    const job = new WriteJob(io, place, Number(bytes), Number(rest[0]), rest[2] ?? "");
    job.target.open();
    io.run();
    Deno.writeFileSync(rest[1] ?? "", new Uint8Array(job.versions.buffer));
  } else {
    const state = Deno.readFileSync(rest[0] ?? "");
    new VerifyJob(io, place, Number(bytes), new Uint32Array(state.buffer)).target.open();
    io.run();
  }
}
