/**
 * Tests that can only run where something is there: a peer program, a kernel feature, root. The only place that
 * ignores a test; every skipped test has a reason, and `deno task test` lists the reasons at the end.
 *
 * @module
 */
import { missing, type Need } from "./needs.ts";

/** A test's body. */
export type TestBody = (t: Deno.TestContext) => void | Promise<void>;

/** Settings of a conditional test. */
export interface ConditionalOptions {
  /** All of these must be met, see {@linkcode Need}. */
  readonly needs: readonly Need[];
  /** False for code that keeps operations of the runtime open on purpose. Default: the test run's choice. */
  readonly sanitizeOps?: boolean;
  /** False for code that keeps descriptors or libraries open on purpose. Default: the test run's choice. */
  readonly sanitizeResources?: boolean;
}

/** Environment variable with the file that takes the reasons; `deno task test` sets it. One JSON line per test. */
export const SKIP_FILE_VARIABLE = "DROVER_SKIP_FILE";

/** One line of the file of reasons. */
export interface SkipRecord {
  /** Name of the test. */
  readonly name: string;
  /** Why it did not run. */
  readonly reason: string;
}

function report(record: SkipRecord): void {
  const file = Deno.env.get(SKIP_FILE_VARIABLE);
  if (file === undefined) console.error(`skipped: ${record.name}: ${record.reason}`);
  else Deno.writeTextFileSync(file, `${JSON.stringify(record)}\n`, { append: true });
}

/**
 * Registers a test that runs only where its needs are met, and says why where they are not.
 *
 * @example
 * ```ts
 * peerTest("qemu-img reads what was written", { needs: ["qemu-img"] }, async () => {});
 * ```
 */
export function peerTest(name: string, options: ConditionalOptions, body: TestBody): void {
  const { needs, ...sanitizers } = options;
  const reasons = needs.map(missing).filter((reason) => reason !== null);
  if (reasons.length > 0) report({ name, reason: reasons.join("; ") });
  Deno.test({ name, ignore: reasons.length > 0, ...sanitizers, fn: body });
}

/**
 * Registers a test that is skipped for a reason the caller found out, or run when `reason` is null.
 *
 * @param reason why the test cannot run here, for people; null: it can
 */
export function testUnless(reason: string | null, name: string, body: TestBody): void {
  if (reason !== null) report({ name, reason });
  Deno.test({ name, ignore: reason !== null, fn: body });
}
