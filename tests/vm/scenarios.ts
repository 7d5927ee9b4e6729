/**
 * All scenarios of `deno task e2e:vm`, in the order they run in.
 *
 * @module
 */
import type { Scenario } from "../../tools/vm/scenario.ts";
import { ATTACHED } from "./attached.ts";
import { KILLED } from "./killed.ts";
import { NODES } from "./nodes.ts";
import { POWER } from "./power.ts";

/** See the module text. */
export const SCENARIOS: readonly Scenario[] = [...ATTACHED, ...KILLED, ...POWER, ...NODES];
