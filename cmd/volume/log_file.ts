/**
 * The log of a volume's processes: one text file, a line per event, beside the volume's first copy.
 *
 * @module
 */
import { type Fields, formatLine } from "../../lib/log/format.ts";
import type { ChildEvent } from "../support/child.ts";

/** At the start of a volume a log larger than this is put aside as `NAME.log.1`, bytes. */
const ROTATE_BYTES = 8 * 1024 * 1024;

/** See the module text. Writing never throws: a full disk under a log must not stop a volume. */
export class LogFile implements Disposable {
  readonly #file: Deno.FsFile;

  /** Opens it. @throws when it cannot be created */
  constructor(readonly path: string) {
    try {
      if (Deno.statSync(path).size > ROTATE_BYTES) Deno.renameSync(path, `${path}.1`);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    this.#file = Deno.openSync(path, { append: true, create: true, mode: 0o600 });
  }

  /** Writes an event. @param process such as `engine` */
  write(process: string, { time, level, message, fields }: ChildEvent): void {
    const event = {
      time: Date.parse(time),
      level,
      message,
      fields: { process, ...fields } as Fields,
      stacks: false,
    };
    const bytes = new TextEncoder().encode(`${formatLine(event, "text")}\n`);
    try {
      for (let done = 0; done < bytes.length;) done += this.#file.writeSync(bytes.subarray(done));
    } catch {
      // See the class.
    }
  }

  /** Closes it. */
  [Symbol.dispose](): void {
    this.#file.close();
  }
}
