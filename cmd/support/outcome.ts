/**
 * What a command that changes something says at its end: lines for people, or one object for scripts.
 *
 * @module
 */

/**
 * Says it.
 *
 * @param output `json`, or anything else for lines
 * @param data the same for scripts: what it was done to comes first
 */
export function tellOutcome(
  { output }: { readonly output?: string },
  data: Readonly<Record<string, unknown>>,
  ...lines: readonly string[]
): void {
  console.log(output === "json" ? JSON.stringify(data) : lines.join("\n"));
}
