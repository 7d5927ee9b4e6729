/**
 * `deno task e2e:vm`: runs the product in a virtual machine with Debian's kernel: real initiators, real file systems,
 * and cuts of the power. The last line is `N passed, N failed, N skipped`.
 *
 * ```text
 * deno task e2e:vm [--all] [--only TEXT,...] [--seconds N] [--list]
 * ```
 *
 * Without `--all` scenarios that take long are left out. Those that have not begun when `--seconds` are over are
 * skipped; the building of the image does not count. Needs root on Debian, for building the machine's image;
 * where it cannot run it says why and counts everything as skipped. `DROVER_VM_LOGS` names a directory for what
 * failures leave, else it is made in /tmp.
 *
 * @module
 */
import { join } from "node:path";
import { readArguments, wholeNumber } from "../tests/support/arguments.ts";
import { findProgram } from "../tests/support/needs.ts";
import { SCENARIOS } from "../tests/vm/scenarios.ts";
import { installPackages } from "./testing/install_peers.ts";
import { findAcceleration } from "./vm/acceleration.ts";
import { ensureImage } from "./vm/image.ts";
import { makeProduct } from "./vm/product.ts";
import { HOST_PEERS } from "./vm/recipe.ts";
import { runScenarios, type Scenario, type Tally } from "./vm/scenario.ts";

/** Environment variable with the directory for what failures leave. */
const LOGS_VARIABLE = "DROVER_VM_LOGS";

/** Why no machine can be run here; installs what is missing where that is possible. */
async function whyNot(): Promise<string | undefined> {
  if (Deno.build.os !== "linux" || Deno.build.arch !== "x86_64") return "only Linux on x86-64 is supported";
  if (Deno.uid() !== 0) return "building the image needs root";
  await installPackages(console.log, HOST_PEERS);
  const missing = HOST_PEERS.flatMap(({ programs }) => programs).filter((name) => findProgram(name) === null);
  return missing.length > 0 ? `not installed: ${missing.join(", ")}` : undefined;
}

function keeper(): (name: string, text: string) => string {
  let directory: string | undefined;
  return (name, text) => {
    const given = Deno.env.get(LOGS_VARIABLE);
    if (given !== undefined) Deno.mkdirSync(given, { recursive: true });
    directory ??= given ?? Deno.makeTempDirSync({ prefix: "drover-vm-logs-" });
    const path = join(directory, `${name.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").slice(0, 60)}.log`);
    Deno.writeTextFileSync(path, text);
    return path;
  };
}

async function runIn(
  directory: string,
  scenarios: readonly Scenario[],
  seconds: number,
  signal: AbortSignal,
): Promise<Tally> {
  const say = (line: string) => console.log(line);
  const image = await ensureImage(say);
  const acceleration = await findAcceleration(image, say);
  const product = await makeProduct(directory, say);
  return await runScenarios(scenarios, { image, product, acceleration, directory, say }, {
    seconds,
    signal,
    keep: keeper(),
  });
}

const USAGE = `deno task e2e:vm [--all] [--only TEXT,...] [--seconds N] [--list]

  --all             also the scenarios that take long
  --only TEXT,...   only scenarios whose names hold one of the texts
  --seconds N       begin none after so long
  --list            only print their names`;

async function main(): Promise<number> {
  const { values } = readArguments(USAGE, {
    options: {
      all: { type: "boolean" },
      only: { type: "string" },
      seconds: { type: "string" },
      list: { type: "boolean" },
    },
  });
  const seconds = values.seconds === undefined ? Infinity : wholeNumber(USAGE, "seconds", values.seconds, 1);
  const only = values.only?.toLowerCase().split(",");
  const scenarios = SCENARIOS.filter(({ name, slow }) =>
    only === undefined
      ? values.all === true || slow !== true
      : only.some((text) => name.toLowerCase().includes(text))
  );
  if (values.list === true) {
    for (const { name, slow } of scenarios) console.log(`${slow === true ? "(slow) " : ""}${name}`);
    return 0;
  }
  const abort = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, () => abort.abort());
  let tally: Tally = { passed: 0, failed: 0, skipped: scenarios.length };
  const reason = scenarios.length === 0 ? `no scenario has "${values.only}" in its name` : await whyNot();
  if (reason !== undefined) console.log(`no virtual machine: ${reason}`);
  else {
    const directory = Deno.makeTempDirSync({ dir: "/var/tmp", prefix: "drover-vm-" });
    try {
      tally = await runIn(directory, scenarios, seconds, abort.signal);
    } finally {
      Deno.removeSync(directory, { recursive: true });
    }
  }
  console.log(`${tally.passed} passed, ${tally.failed} failed, ${tally.skipped} skipped`);
  return abort.signal.aborted ? 130 : tally.failed === 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main());
