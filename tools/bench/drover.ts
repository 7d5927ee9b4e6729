/**
 * Drover as it is measured: real processes, one per replica and one engine.
 *
 * @module
 */
import { freePortRange, freePorts } from "../../tests/support/ports.ts";
import { type LoggedProcess, spawnLogged } from "../../tests/support/process.ts";
import { inRepository } from "../../tests/support/repository.ts";
import { PROGRAMS } from "../programs.ts";
import type { Subject, SubjectMaker } from "./subject.ts";

/** Ports of a replica: control, data, and the listener for file synchronisation. */
const PORTS_PER_REPLICA = 3;
const START_TIMEOUT_MS = 30_000;

/** How a volume is made and shown. */
export interface DroverShape {
  /** Which frontend. */
  readonly frontend: "socket" | "nbd" | "iscsi" | "loop";
  /** How many copies. */
  readonly replicas: number;
  /** How replicas treat the page cache. */
  readonly ioMode: "cached" | "direct";
}

/**
 * Starts one of our programs: that of the dist which `DROVER_BIN` names, else from source, with the flags for V8 and
 * the setting of malloc that it is shipped with.
 */
export function startProgram(
  name: string,
  args: readonly string[],
  more: Record<string, string> = {},
): LoggedProcess {
  const bin = Deno.env.get("DROVER_BIN");
  const env = { MALLOC_ARENA_MAX: "1", ...more };
  if (bin) return spawnLogged(`${bin}/${name}`, args, { env });
  const program = PROGRAMS.find((known) => known.name === name);
  if (program === undefined) throw new Error(`there is no program ${name}`);
  const flags = program.v8.length > 0 ? [`--v8-flags=${program.v8.join(",")}`] : [];
  const command = ["run", ...program.permissions, ...flags, "--no-check", inRepository(program.entry)];
  return spawnLogged(Deno.execPath(), [...command, ...args], { env });
}

/** A volume in processes of its own; stop it with `await using`. */
export class DroverVolume implements AsyncDisposable {
  /** Its replicas. */
  readonly replicas: LoggedProcess[] = [];
  /** Its engine. */
  engine: LoggedProcess | undefined;
  /** From the start of the engine's process until it was ready, milliseconds. */
  readyMs = 0;
  /** Where hosts find the disk. */
  endpoint = "";

  /** Starts nothing yet. */
  constructor(readonly name: string, readonly directory: string) {}

  /** Starts the replicas, waits for them, then starts the engine and waits for it. */
  async start(bytes: number, { frontend, replicas, ioMode }: DroverShape): Promise<void> {
    const controls = Array.from({ length: replicas }, () => `127.0.0.1:${freePortRange(PORTS_PER_REPLICA)}`);
    for (const [i, control] of controls.entries()) {
      const args = [`${this.directory}/replica-${i}`, "--listen", control, "--size", String(bytes)];
      this.replicas.push(startProgram("replica", [...args, "--io-mode", ioMode, "--disableRevCounter"]));
    }
    for (const replica of this.replicas) {
      await replica.waitForOutput(/replica ready/, { timeoutMs: START_TIMEOUT_MS });
    }
    const [port, frontendPort] = freePorts(2);
    const listen = frontend === "iscsi" ? `127.0.0.1:${frontendPort}` : `unix:${this.directory}/frontend`;
    const args = ["controller", this.name, "--listen", `127.0.0.1:${port}`, "--size", String(bytes)];
    args.push("--disableRevCounter", "--frontend", frontend, "--frontend-listen", listen);
    args.push(...controls.flatMap((control) => ["--replica", `tcp://${control}`]));
    const began = performance.now();
    this.engine = startProgram("engine", args, { DROVER_RUN: `${this.directory}/run` });
    await this.engine.waitForOutput(/"engine ready"|engine ready/, {
      timeoutMs: START_TIMEOUT_MS,
      everyMs: 5,
    });
    this.readyMs = performance.now() - began;
    this.endpoint = /"endpoint":"([^"]+)"/.exec(this.engine.output)?.[1] ?? "";
  }

  /** Stops the engine first, as an orderly end wants it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.engine?.stop();
    await Promise.all(this.replicas.map((replica) => replica.stop()));
  }
}

/** What `drover bench` (or, for a device, fio) calls the endpoint. */
function targetOf(frontend: DroverShape["frontend"], endpoint: string): string {
  switch (frontend) {
    case "socket":
      return `unix:${endpoint}`;
    case "loop":
      return `--filename=${endpoint}`;
    default:
      return endpoint;
  }
}

/** A subject of this shape. */
export function drover(shape: DroverShape): SubjectMaker {
  const { frontend, replicas, ioMode } = shape;
  const name = `drover/${frontend}/${replicas}/${ioMode}`;
  return {
    name,
    needs: frontend === "loop" ? ["root", "loop", "fuse", "fio"] : [],
    start: async (directory, bytes): Promise<Subject> => {
      const volume = new DroverVolume(`bench-${frontend}`, directory);
      try {
        await volume.start(bytes, shape);
      } catch (error) {
        await volume[Symbol.asyncDispose]();
        throw error;
      }
      return {
        name,
        tool: frontend === "loop" ? "fio" : "drover",
        target: targetOf(frontend, volume.endpoint),
        pids: {
          engine: volume.engine ? [volume.engine.pid] : [],
          replicas: volume.replicas.map((replica) => replica.pid),
        },
        maxBlockBytes: Infinity,
        isFilled: false,
        [Symbol.asyncDispose]: () => volume[Symbol.asyncDispose](),
      };
    },
  };
}
