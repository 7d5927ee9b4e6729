/**
 * Tables for people: columns as wide as their widest cell, a heading, nothing around.
 *
 * @module
 */

/** Blanks between columns. */
const GAP = "   ";

/** Text of a table, without a line feed at its end. Numbers and sizes go to the right with `right`. */
export function formatTable(
  heading: readonly string[],
  rows: readonly (readonly string[])[],
  right: ReadonlySet<number> = new Set(),
): string {
  const all = [heading, ...rows];
  const widths = heading.map((_, column) => Math.max(...all.map((row) => (row[column] ?? "").length)));
  return all.map((row) =>
    row.map((cell, column) =>
      right.has(column) ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)
    ).join(GAP).trimEnd()
  ).join("\n");
}

/** Lines of `name   value`, the values under each other. */
export function formatFields(fields: readonly (readonly [string, string])[]): string {
  const width = Math.max(...fields.map(([name]) => name.length));
  return fields.map(([name, value]) => `${name.padEnd(width)}${GAP}${value}`.trimEnd()).join("\n");
}
