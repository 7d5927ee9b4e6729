/**
 * A volume with snapshots in memory, and a sink in memory: the two ends of the tests of this room.
 *
 * @module
 */
import { type BlockSink, type BlockSource, type Extent, SOURCE_UNIT } from "./source.ts";
import type { RestoreJournal } from "./types.ts";

interface Layer {
  readonly name: string;
  readonly units: ReadonlyMap<number, Uint8Array>;
}

/** A volume that is written in units and has snapshots. */
export class TestVolume {
  /** Size in bytes. */
  readonly bytes: number;
  readonly #layers: Layer[] = [];
  #head = new Map<number, Uint8Array>();

  /** An empty volume of `units` units of {@linkcode SOURCE_UNIT} bytes. */
  constructor(units: number) {
    this.bytes = units * SOURCE_UNIT;
  }

  /** Fills one unit with a byte, except for its first four bytes, which hold the number. */
  write(unit: number, value: number): void {
    const data = new Uint8Array(SOURCE_UNIT).fill(value);
    new DataView(data.buffer).setUint32(0, value);
    this.#head.set(unit, data);
  }

  /** Takes a snapshot. */
  snapshot(name: string): void {
    this.#layers.push({ name, units: this.#head });
    this.#head = new Map();
  }

  /** Removes a snapshot by folding it into the next one, or the head. */
  removeSnapshot(name: string): void {
    const index = this.#layers.findIndex((layer) => layer.name === name);
    const layer = this.#layers[index], next = this.#layers[index + 1];
    if (layer === undefined) return;
    if (next === undefined) this.#head = new Map([...layer.units, ...this.#head]);
    else this.#layers[index + 1] = { name: next.name, units: new Map([...layer.units, ...next.units]) };
    this.#layers.splice(index, 1);
  }

  /** Whole content as of a snapshot. */
  content(snapshot: string): Uint8Array {
    const content = new Uint8Array(this.bytes);
    for (const { units } of this.#chain(snapshot)) {
      for (const [unit, data] of units) content.set(data, unit * SOURCE_UNIT);
    }
    return content;
  }

  /** The snapshot as a source. */
  source(snapshot: string): BlockSource {
    const chain = this.#chain(snapshot), content = this.content(snapshot);
    return {
      bytes: this.bytes,
      read: (offset, into) => into.set(content.subarray(offset, offset + into.length)),
      has: (name) => chain.some((layer) => layer.name === name),
      changed: (since) => {
        const from = since === undefined ? 0 : chain.findIndex((layer) => layer.name === since) + 1;
        const units = new Set(chain.slice(from).flatMap((layer) => [...layer.units.keys()]));
        return [...units].sort((a, b) => a - b).map((unit): Extent => ({
          offset: unit * SOURCE_UNIT,
          length: SOURCE_UNIT,
        }));
      },
      [Symbol.dispose]: () => {},
    };
  }

  #chain(snapshot: string): Layer[] {
    const index = this.#layers.findIndex((layer) => layer.name === snapshot);
    if (index < 0) throw new RangeError(`there is no snapshot ${snapshot}`);
    return this.#layers.slice(0, index + 1);
  }
}

/** A sink in memory. */
export class MemorySink implements BlockSink {
  /** What it holds. */
  readonly content: Uint8Array;
  /** Bytes written. */
  written = 0;

  /** A sink that holds `content`, or zeros of that length. */
  constructor(content: Uint8Array | number) {
    this.content = typeof content === "number" ? new Uint8Array(content) : content.slice();
  }

  /** Size in bytes. */
  get bytes(): number {
    return this.content.length;
  }

  /** See {@linkcode BlockSink.write}. */
  write(offset: number, data: Uint8Array): Promise<void> {
    this.content.set(data, offset);
    this.written += data.length;
    return Promise.resolve();
  }

  /** See {@linkcode BlockSink.zero}. */
  zero(offset: number, length: number): Promise<void> {
    this.content.fill(0, offset, offset + length);
    return Promise.resolve();
  }

  /** Nothing to do. */
  flush(): Promise<void> {
    return Promise.resolve();
  }

  /** Nothing to do. */
  [Symbol.dispose](): void {}
}

/** A journal in memory. */
export class MemoryJournal implements RestoreJournal {
  /** What was saved last. */
  text: string | undefined;

  /** See {@linkcode RestoreJournal.load}. */
  load(): Promise<string | undefined> {
    return Promise.resolve(this.text);
  }

  /** See {@linkcode RestoreJournal.save}. */
  save(text: string): Promise<void> {
    this.text = text;
    return Promise.resolve();
  }

  /** See {@linkcode RestoreJournal.clear}. */
  clear(): Promise<void> {
    this.text = undefined;
    return Promise.resolve();
  }
}
