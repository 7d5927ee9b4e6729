/**
 * The spike as it is measured: the throw-away programs that showed that a data path in TypeScript is fast enough. An
 * engine and three replicas with files, without any care for errors; what Drover adds to that should cost little.
 *
 * @module
 */
import { freePorts } from "../../tests/support/ports.ts";
import { type LoggedProcess, spawnLogged } from "../../tests/support/process.ts";
import { filledFile } from "./peers.ts";
import type { Subject, SubjectMaker } from "./subject.ts";

const REPLICAS = 3;
/** What the spike's replica sets its file to. */
const FILE_BYTES = 1024 * 1024 * 1024;
/** Its replica reads into slots of this size. */
const BLOCK_BYTES = 4096;

class Spike implements Subject {
  readonly name: string;
  readonly tool = "drover";
  readonly maxBlockBytes = BLOCK_BYTES;
  readonly isFilled = true;
  target = "";
  #replicas: LoggedProcess[] = [];
  #engine: LoggedProcess | undefined;

  constructor(name: string, readonly programs: string, readonly directory: string) {
    this.name = name;
  }

  get pids(): Readonly<Record<string, readonly number[]>> {
    const engine = this.#engine ? [this.#engine.pid] : [];
    return { engine, replicas: this.#replicas.map((replica) => replica.pid) };
  }

  async #program(script: string, args: readonly string[]): Promise<LoggedProcess> {
    const path = `${this.programs}/${script}`;
    const server = spawnLogged(Deno.execPath(), ["run", "-A", "--no-check", path, ...args]);
    await server.waitForOutput(/listening/);
    return server;
  }

  /** Its processes serve one client and end with it. */
  async prepare(): Promise<void> {
    await this[Symbol.asyncDispose]();
    const [port, ...ports] = freePorts(REPLICAS + 1).map(String);
    for (const [i, replicaPort] of ports.entries()) {
      this.#replicas.push(await this.#program("replica.ts", [replicaPort, `${this.directory}/file-${i}`]));
    }
    this.#engine = await this.#program("engine.ts", [port, ...ports]);
    this.target = `tcp:127.0.0.1:${port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#engine?.stop();
    for (const replica of this.#replicas) await replica.stop();
    this.#engine = undefined;
    this.#replicas = [];
  }
}

/**
 * The spike as a subject.
 * @param programs directory of its `engine.ts` and `replica.ts`
 */
export function spike(programs: string): SubjectMaker {
  const name = `spike/${REPLICAS}/cached`;
  return {
    name,
    needs: [],
    start: async (directory, bytes) => {
      for (let i = 0; i < REPLICAS; i++) {
        await filledFile(`${directory}/file-${i}`, Math.min(bytes, FILE_BYTES));
      }
      return new Spike(name, programs, directory);
    },
  };
}
