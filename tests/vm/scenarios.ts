/**
 * All scenarios of `deno task e2e:vm`, in the order they run in: what matters most comes first, for a run whose time is
 * limited.
 *
 * @module
 */
import type { Scenario } from "../../tools/vm/scenario.ts";
import { ATTACHED, OTHERS } from "./attached.ts";
import { BACKUP } from "./backup.ts";
import { KILLED } from "./killed.ts";
import { LEFT_OVER } from "./left_over.ts";
import { NODES } from "./nodes.ts";
import { POWER } from "./power.ts";
import { TGT } from "./tgt.ts";

/** See the module text. */
export const SCENARIOS: readonly Scenario[] = [
  ...ATTACHED,
  ...POWER,
  ...KILLED,
  ...LEFT_OVER,
  ...TGT,
  ...OTHERS,
  ...BACKUP,
  ...NODES,
];
