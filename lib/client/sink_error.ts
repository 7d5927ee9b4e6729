/**
 * What goes wrong at the place that a backup is restored to.
 *
 * @module
 */

/** The volume cannot be written, or cannot be reached. */
export class RestoreSinkError extends Error {
  /** Name of the class, for logs. */
  override readonly name = "RestoreSinkError";
}
