/**
 * The house has floors: a file imports from its own room or from a lower floor, never from a room beside it or
 * above. That keeps the data path free of gRPC and Kubernetes, and lets each room be read and tested alone.
 *
 * @module
 */
import assert from "node:assert/strict";
import { dirname, relative, resolve } from "node:path";
import { importsOf } from "./support/source.ts";
import { inRepository, ROOT, typescriptFiles } from "./support/repository.ts";

/** The rooms of `lib/` by floor, lowest first. A new room gets its place here first. */
const FLOORS: readonly (readonly string[])[] = [
  ["io", "rpc", "log"],
  ["wire", "disk", "block", "host", "backup"],
  ["replica", "engine", "frontend", "bench", "client"],
  ["instance", "store"],
  ["control", "api", "csi"],
];

/** Rooms of tests' helpers: they serve unit tests of all floors, so they may only stand on the lowest. */
const SUPPORT = "tests/support/";

/** The floor of a room, from 1, or 0 when the room is unknown. */
function floorOf(room: string): number {
  return FLOORS.findIndex((rooms) => rooms.includes(room)) + 1;
}

/** `io` for `lib/io/arena.ts`; null outside `lib/` and for files that lie in no room. */
function roomOf(path: string): string | null {
  return /^lib\/([^/]+)\/./.exec(path)?.[1] ?? null;
}

/** Why `from` may not import `to`, both relative to the top directory; null when it may. */
function objection(from: string, to: string): string | null {
  const room = roomOf(from);
  const target = roomOf(to);
  if (to.startsWith("lib/") && (target === null || floorOf(target) === 0)) {
    return `${to} lies in no known room of lib/`;
  }
  if (from.startsWith(SUPPORT)) {
    const fine = target === null ? to.startsWith(SUPPORT) || to.startsWith("tools/") : floorOf(target) === 1;
    return fine ? null : "helpers of tests stand on floor 1 of lib/ only";
  }
  if (room === null || target === room) return null;
  if (target === null) {
    if (from.endsWith("_test.ts") && to.startsWith(SUPPORT)) return null;
    return "a file in lib/ imports from lib/ only (its tests also from tests/support/)";
  }
  if (floorOf(target) < floorOf(room)) return null;
  return `${room} is on floor ${floorOf(room)}, ${target} on floor ${floorOf(target)}`;
}

/** All offences of one file, as `file:line: what`. */
function offences(path: string, source: string): string[] {
  const found: string[] = [];
  for (const { specifier, line } of importsOf(source)) {
    if (/^(https?|jsr|npm|file|data):/.test(specifier)) {
      found.push(`${path}:${line}: ${specifier}: packages are named in deno.json, with their version`);
    }
    if (!specifier.startsWith(".")) continue;
    const target = relative(ROOT, resolve(inRepository(dirname(path)), specifier));
    const why = objection(path, target);
    if (why !== null) found.push(`${path}:${line}: imports ${specifier}: ${why}`);
  }
  return found;
}

Deno.test("every file of lib/ lies in a room that has a floor", () => {
  const homeless = typescriptFiles("lib").filter((path) => floorOf(roomOf(path) ?? "") === 0);
  assert.deepEqual(homeless, [], "these files lie in no room of the table in tests/floors_test.ts");
});

Deno.test("files import from their own room or from a lower floor", () => {
  const paths = [...typescriptFiles("lib"), ...typescriptFiles("tests/support")];
  assert.ok(paths.length > 0);
  const found = paths.flatMap((path) => offences(path, Deno.readTextFileSync(inRepository(path))));
  assert.equal(found.join("\n"), "");
});

Deno.test("the check of the floors sees what it is there for", () => {
  const source = [
    'import { a } from "../io/arena.ts";',
    'import type { b } from "./b.ts";',
    'import { c } from "../disk/chain.ts";',
    'export * from "../engine/volume.ts";',
    'await import("../attic/x.ts");',
    'import { d } from "../../tests/support/temp.ts";',
    'import { e } from "npm:left-pad@1.0.0";',
    'import { f } from "node:path";',
    'import { g } from "../../cmd/engine.ts";',
  ].join("\n");
  const lines = (path: string): string[] => offences(path, source).map((text) => text.split(":")[1] ?? "");
  assert.deepEqual(lines("lib/wire/frame.ts"), ["3", "4", "5", "6", "7", "9"]);
  assert.deepEqual(lines("lib/wire/frame_test.ts"), ["3", "4", "5", "7", "9"]);
  assert.deepEqual(lines("lib/engine/volume.ts"), ["5", "6", "7", "9"]);
});
