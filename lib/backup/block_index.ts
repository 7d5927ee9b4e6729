/**
 * Which blocks a volume already has on its target. For a few questions, each is asked of the target; for many, the
 * folder is listed in 256 parts, each when it is first needed, so that a full backup costs hundreds of requests
 * instead of one for each block.
 *
 * @module
 */
import { blockPath, checksumOfPath } from "./names.ts";
import type { Target } from "./target/target.ts";

/** From this many expected questions on, listing is cheaper. */
const LIST_FROM = 512;
/** From this many on, what listings show would take too much memory. */
const LIST_TO = 1024 * 1024;

/** How to find out. */
export interface IndexOptions {
  /** How many blocks will be asked for, about. */
  readonly questions: number;
  /** False: blocks were removed a moment ago, and listings may still show them. */
  readonly trustListings: boolean;
}

/** What is there; see the module's text. */
export class BlockIndex {
  readonly #target: Target;
  readonly #folder: string;
  readonly #listing: boolean;
  readonly #known = new Set<string>();
  readonly #parts = new Map<string, Promise<void>>();
  #existingParts: Promise<Set<string>> | undefined;

  /** An index of a folder of blocks. */
  constructor(target: Target, folder: string, options: IndexOptions) {
    this.#target = target;
    this.#folder = folder;
    this.#listing = options.trustListings && options.questions >= LIST_FROM && options.questions <= LIST_TO;
  }

  /** True when the block is there. An empty object is none: a block is never empty. */
  async has(checksum: string): Promise<boolean> {
    if (this.#known.has(checksum)) return true;
    if (!this.#listing) return await this.#ask(checksum);
    const part = checksum.slice(0, 2);
    this.#existingParts ??= this.#target.children(this.#folder).then((names) => new Set(names));
    if (!(await this.#existingParts).has(part)) return false;
    let listed = this.#parts.get(part);
    if (listed === undefined) this.#parts.set(part, listed = this.#list(part));
    await listed;
    return this.#known.has(checksum);
  }

  /** Says that the block is there now. */
  add(checksum: string): void {
    this.#known.add(checksum);
  }

  async #ask(checksum: string): Promise<boolean> {
    const entry = await this.#target.head(blockPath(this.#folder, checksum));
    return entry !== undefined && entry.bytes > 0;
  }

  async #list(part: string): Promise<void> {
    for await (const { path, bytes } of this.#target.list(`${this.#folder}${part}/`)) {
      const checksum = checksumOfPath(path);
      if (checksum !== undefined && bytes > 0) this.#known.add(checksum);
    }
  }
}
