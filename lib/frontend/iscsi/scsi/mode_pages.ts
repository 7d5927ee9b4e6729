/**
 * Mode pages: settings of the disk that a host can read and, some of them, change (SPC-4 section 7.5, SBC-3
 * section 6.5). Changes last until a reset; there are no saved pages.
 *
 * | page | what | changeable |
 * |---|---|---|
 * | 01h read-write error recovery | nothing set | nothing |
 * | 08h caching | WCE: the write cache is on | WCE |
 * | 0Ah control | D_SENSE: descriptor sense; SWP: write protected | D_SENSE, SWP |
 * | 1Ch informational exceptions | nothing set | nothing |
 *
 * @module
 */

/** Which values MODE SENSE asks for: PC, bits 7..6 of byte 2. */
export const PageControl = { CURRENT: 0, CHANGEABLE: 1, DEFAULT: 2, SAVED: 3 } as const;

/** Caching page, byte 2. */
const WCE = 0x04;
/** Control page, byte 2. */
const D_SENSE = 0x04;
/** Control page, byte 4. */
const SWP = 0x08;

interface Page {
  readonly defaults: Uint8Array;
  readonly changeable: Uint8Array;
  readonly current: Uint8Array;
}

function page(bytes: readonly number[], changeable: readonly [number, number][] = []): Page {
  const mask = new Uint8Array(bytes.length);
  mask[0] = bytes[0];
  mask[1] = bytes[1];
  for (const [at, bits] of changeable) mask[at] = bits;
  return { defaults: Uint8Array.from(bytes), changeable: mask, current: Uint8Array.from(bytes) };
}

function zeros(count: number): number[] {
  return new Array<number>(count).fill(0);
}

/** The mode pages of one disk. */
export class ModePages {
  readonly #pages = new Map<number, Page>([
    [0x01, page([0x01, 0x0a, ...zeros(10)])],
    [0x08, page([0x08, 0x12, WCE, ...zeros(17)], [[2, WCE]])],
    // QUEUE ALGORITHM MODIFIER 1: SIMPLE tasks run in any order. Busy time-out unlimited.
    [
      0x0a,
      page([0x0a, 0x0a, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0x00, 0x00], [[2, D_SENSE], [
        4,
        SWP,
      ]]),
    ],
    [0x1c, page([0x1c, 0x0a, ...zeros(10)])],
  ]);
  /** The write cache is on: hosts flush when they want durability. */
  writeCache = true;
  /** The host wants sense data in descriptor format. */
  descriptorSense = false;
  /** Software write protection. */
  writeProtected = false;

  /** Page codes in ascending order. */
  get codes(): number[] {
    return [...this.#pages.keys()];
  }

  /**
   * One page, with the values that `control` asks for.
   *
   * @returns the bytes of a page, undefined when there is no such page
   */
  read(code: number, control: number): Uint8Array | undefined {
    const found = this.#pages.get(code);
    if (!found) return undefined;
    if (control === PageControl.CHANGEABLE) return found.changeable;
    return control === PageControl.DEFAULT ? found.defaults : found.current;
  }

  /**
   * Checks what MODE SELECT wants of one page.
   * @param bytes the page from its page code on
   * @returns the offset of the first byte that cannot be so, or -1
   */
  check(bytes: Uint8Array): number {
    const found = this.#pages.get(bytes[0] & 0x3f);
    if (!found || bytes[0] & 0x40) return 0;
    if (bytes[1] !== found.current[1] || bytes.length < found.current.length) return 1;
    for (let i = 2; i < found.current.length; i++) {
      if ((bytes[i] ^ found.current[i]) & ~found.changeable[i]) return i;
    }
    return -1;
  }

  /**
   * Takes over a page that {@linkcode check} found right.
   * @returns true when something changed
   */
  write(bytes: Uint8Array): boolean {
    const found = this.#pages.get(bytes[0] & 0x3f);
    if (!found) return false;
    let changed = false;
    for (let i = 2; i < found.current.length; i++) {
      if (found.current[i] !== bytes[i]) changed = true;
      found.current[i] = bytes[i];
    }
    this.#derive();
    return changed;
  }

  /** The pages as they are, for {@linkcode restore} in another process. */
  save(): readonly (readonly number[])[] {
    return [...this.#pages.values()].map(({ current }) => [...current]);
  }

  /** Takes over pages of another process; what cannot be here stays as it is. */
  restore(pages: readonly (readonly number[])[]): void {
    for (const page of pages) {
      const bytes = Uint8Array.from(page);
      if (this.check(bytes) === -1) this.write(bytes);
    }
  }

  /** Back to the defaults. */
  reset(): void {
    for (const found of this.#pages.values()) found.current.set(found.defaults);
    this.#derive();
  }

  #derive(): void {
    this.writeCache = this.#has(0x08, 2, WCE);
    this.descriptorSense = this.#has(0x0a, 2, D_SENSE);
    this.writeProtected = this.#has(0x0a, 4, SWP);
  }

  #has(code: number, at: number, bit: number): boolean {
    return ((this.#pages.get(code)?.current[at] ?? 0) & bit) !== 0;
  }
}
