/**
 * The state of a long job in the words that peers know.
 *
 * @module
 */

/** "" before the first job. */
export type JobState = "" | "in_progress" | "complete" | "error";

/** A job and how far it is. */
export class JobStatus {
  /** See {@linkcode JobState}. */
  state: JobState = "";
  /** 0 to 100. */
  progress = 0;
  /** Why it failed, or "". */
  error = "";

  /** It is running. */
  get running(): boolean {
    return this.state === "in_progress";
  }

  /** A new job begins. */
  begin(): void {
    this.state = "in_progress";
    this.progress = 0;
    this.error = "";
  }

  /** It went well. */
  complete(): void {
    this.state = "complete";
    this.progress = 100;
  }

  /** It did not. */
  fail(error: unknown): void {
    this.state = "error";
    this.error = textOf(error);
  }

  /** As before the first job. */
  reset(): void {
    this.state = "";
    this.progress = 0;
    this.error = "";
  }
}

/** The text of whatever was thrown. */
export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
