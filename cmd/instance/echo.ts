/**
 * The manager's standard output for the logs of its processes. Whoever is to read it may stop doing so: a pipe that
 * is full must not keep the manager from its work. What does not fit is left out; the files have it.
 *
 * @module
 */

/** Most text that waits, characters. */
const MAX_WAITING = 1024 * 1024;

/** Writes to standard output without waiting for who reads it. */
export class Echo {
  readonly #write: (bytes: Uint8Array) => Promise<number>;
  #waiting: string[] = [];
  #length = 0;
  #dropped = 0;
  #writing = false;

  /** Writes nothing yet. @param write to where, likewise in parts */
  constructor(write: (bytes: Uint8Array) => Promise<number> = (bytes) => Deno.stdout.write(bytes)) {
    this.#write = write;
  }

  /** Takes whole lines. */
  readonly take = (text: string): void => {
    if (this.#length + text.length > MAX_WAITING) {
      this.#dropped++;
      return;
    }
    this.#waiting.push(text);
    this.#length += text.length;
    if (!this.#writing) void this.#drain();
  };

  async #drain(): Promise<void> {
    this.#writing = true;
    try {
      while (this.#waiting.length > 0) {
        const bytes = new TextEncoder().encode(this.#waiting.join("") + this.#excuse());
        this.#waiting = [];
        this.#length = 0;
        for (let done = 0; done < bytes.length;) done += await this.#write(bytes.subarray(done));
      }
    } catch {
      // Nobody reads it any more. The lines are in the files.
      this.#waiting = [];
      this.#length = 0;
    }
    this.#writing = false;
  }

  #excuse(): string {
    if (this.#dropped === 0) return "";
    this.#dropped = 0;
    return "[instance-manager] lines were left out here: nobody took them; they are in the log files\n";
  }
}
