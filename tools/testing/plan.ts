/**
 * Which files a test run runs, in which way.
 *
 * @module
 */
import { missing } from "../../tests/support/needs.ts";
import { typescriptFiles } from "../../tests/support/repository.ts";
import type { Job, Skip } from "./run_file.ts";

/** Time limit of a file of unit tests, milliseconds. */
const UNIT_TIMEOUT_MS = 120_000;

/** Time limit of a file below `tests/`, milliseconds. */
const INTEGRATION_TIMEOUT_MS = 300_000;

/** Tests of the data path and of its peers: they run once in each world. */
const IN_BOTH_WORLDS = /^tests\/(worlds\/|hostile_frames_test|cli_frontends_test|(iscsi|nbd)_peers_test)/;

/**
 * Tests of whole processes that mostly wait, on ports and directories of their own: they run beside the others of their
 * kind, which halves the time of the whole.
 */
const BESIDE = /^tests\/(backup_|cli_repair|cli_volume|dist_volume|instance_|soak)/;

/** The worlds that exist outside the simulation, as the environment variable DROVER_IO names them. */
const WORLDS = ["uring", "poll"] as const;

/** What is to be done. */
export interface Plan {
  /** Files that disturb nobody: several at a time. */
  readonly parallel: readonly Job[];
  /** Files that use ports, devices and whole processes: one at a time. */
  readonly serial: readonly Job[];
  /** Others of that kind: one at a time as well, beside those. */
  readonly beside: readonly Job[];
  /** What is known beforehand not to run. */
  readonly skips: readonly Skip[];
}

function chosen(path: string, only: readonly string[]): boolean {
  return only.length === 0 ||
    only.some((prefix) => path === prefix || path.startsWith(prefix.replace(/\/?$/, "/")));
}

/**
 * Makes the plan.
 *
 * @param only files and directories to restrict the run to, relative to the top directory; empty: everything
 */
export function makePlan(only: readonly string[]): Plan {
  const tests = (directory: string): string[] =>
    typescriptFiles(directory).filter((path) => path.endsWith("_test.ts") && chosen(path, only));
  const job = (path: string, timeoutMs: number): Job => ({ path, variant: "", env: {}, timeoutMs });
  const integration = tests("tests");
  const twice = integration.filter((path) => IN_BOTH_WORLDS.test(path));
  const noRing = missing("io_uring");
  const worlds = WORLDS.filter((world) => world !== "uring" || noRing === null);
  const serial = integration.filter((path) => !IN_BOTH_WORLDS.test(path))
    .map((path) => job(path, INTEGRATION_TIMEOUT_MS));
  for (const world of worlds) {
    for (const path of twice) {
      serial.push({ path, variant: world, env: { DROVER_IO: world }, timeoutMs: INTEGRATION_TIMEOUT_MS });
    }
  }
  const quiet = serial.filter(({ path }) => BESIDE.test(path));
  return {
    beside: quiet,
    parallel: ["lib", "cmd", "tools"].flatMap(tests).map((path) => job(path, UNIT_TIMEOUT_MS)),
    serial: serial.filter((one) => !quiet.includes(one)),
    skips: noRing === null
      ? []
      : twice.map((path) => ({ path: `${path} (uring)`, name: "all its tests", reason: noRing })),
  };
}
