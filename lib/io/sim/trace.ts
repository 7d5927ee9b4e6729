/**
 * What happened last: a ring of events as numbers, turned into text only when somebody reads it, and a
 * running hash of all of them. Two runs of one seed have the same hash or the simulation is not deterministic.
 *
 * @module
 */

/** What an event of the trace was. The two numbers that go with it are named in brackets. */
export const Verb = {
  /** A completion was handed to a process [tag, result]. */
  COMPLETE: 0,
  /** A process woke up [completions at hand, 0]. */
  WAKE: 1,
  /** Bytes reached a socket [connection, bytes so far]. */
  ARRIVE: 2,
  /** End of stream reached a socket [connection, bytes so far]. */
  FIN: 3,
  /** A reset reached a socket [connection, 0]. */
  RESET: 4,
  /** A packet waits at a blocked link [connection, kind]. */
  HELD: 5,
  /** A connection attempt arrived [port, outcome]. */
  SYN: 6,
  /** A process started [0, 0]. */
  START: 7,
  /** A process was killed [operations under way, 0]. */
  KILL: 8,
  /** A host lost power [0, 0]. */
  POWER_CUT: 9,
  /** A host booted [0, 0]. */
  BOOT: 10,
  /** A write reached the page cache [inode, offset]. */
  WRITE: 11,
  /** A file's data became durable [inode, size]. */
  SYNC: 12,
  /** A name was set or removed [inode, journal length]. */
  NAME: 13,
  /** Journal entries became durable [entries, entries left]. */
  COMMIT: 14,
  /** An injected error was drawn [errno, 0]. */
  FAULT: 15,
  /** A link was blocked (1) or opened (0) [state, packets held]. */
  LINK: 16,
  /** A note of the test or of the code under test. */
  NOTE: 17,
  /** After a power cut a file has this many bytes [inode, size]. */
  SURVIVOR: 18,
  /** A state-changing operation of a process [its number, which one on what: an id]. */
  MUTATION: 19,
} as const;

/** One of {@linkcode Verb}. */
export type Verb = typeof Verb[keyof typeof Verb];

const NAMES = Object.keys(Verb).map((name) => name.toLowerCase().replaceAll("_", " "));

/** A bounded record of events. */
export class Trace {
  #times: Float64Array;
  #verbs: Uint8Array;
  #subjects: Int32Array;
  #first: Float64Array;
  #second: Float64Array;
  #labels: string[] = [];
  #ids = new Map<string, number>();
  #count = 0;
  #hash = 0x811c_9dc5 | 0;
  #mask: number;
  #double = new Float64Array(1);
  #words = new Int32Array(this.#double.buffer);

  /** An empty trace. @param capacity events kept, rounded up to a power of two */
  constructor(capacity: number) {
    const size = 2 ** Math.ceil(Math.log2(Math.max(2, capacity)));
    this.#mask = size - 1;
    this.#times = new Float64Array(size);
    this.#verbs = new Uint8Array(size);
    this.#subjects = new Int32Array(size);
    this.#first = new Float64Array(size);
    this.#second = new Float64Array(size);
  }

  /** Events so far, kept or not. */
  get count(): number {
    return this.#count;
  }

  /** Hash of all events so far: 32 bits, FNV-like. */
  get hash(): number {
    return this.#hash >>> 0;
  }

  /** The number that stands for a name in {@linkcode record}. */
  id(label: string): number {
    const known = this.#ids.get(label);
    if (known !== undefined) return known;
    const id = this.#labels.length;
    this.#labels.push(label);
    this.#ids.set(label, id);
    return id;
  }

  /** Adds an event. */
  record(time: number, verb: Verb, subject: number, first: number, second: number): void {
    const at = this.#count++ & this.#mask;
    this.#times[at] = time;
    this.#verbs[at] = verb;
    this.#subjects[at] = subject;
    this.#first[at] = first;
    this.#second[at] = second;
    this.#double[0] = time;
    const words = this.#words;
    let hash = this.#hash;
    hash = Math.imul(hash ^ (words[0] ?? 0), 0x0100_0193);
    hash = Math.imul(hash ^ (words[1] ?? 0) ^ (hash >>> 15), 0x0100_0193);
    hash = Math.imul(hash ^ ((verb << 24) | subject), 0x0100_0193);
    hash = Math.imul(hash ^ (first | 0) ^ (hash >>> 15), 0x0100_0193);
    this.#hash = Math.imul(hash ^ (second | 0), 0x0100_0193);
  }

  /** Adds a line of text. */
  note(time: number, text: string): void {
    this.record(time, Verb.NOTE, this.id(text), 0, 0);
  }

  /** The last events as lines, oldest first. */
  lines(most = Infinity): string[] {
    const kept = Math.min(this.#count, this.#mask + 1, most);
    const lines: string[] = [];
    for (let number = this.#count - kept; number < this.#count; number++) {
      const at = number & this.#mask;
      const label = this.#labels[this.#subjects[at] ?? 0] ?? "?";
      const verb = this.#verbs[at] ?? 0;
      const second = verb === Verb.MUTATION ? this.#labels[this.#second[at] ?? 0] : this.#second[at];
      const what = verb === Verb.NOTE ? "" : `: ${NAMES[verb]} ${this.#first[at]} ${second}`;
      lines.push(`${(this.#times[at] ?? 0).toFixed(4)} ${label}${what}`);
    }
    return lines;
  }
}
