/**
 * Load on a volume whose engines change: it must not see an error, and every block is looked at afterwards.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { LoadLine } from "../tools/demo/load.ts";
import { type LoggedProcess, spawnDeno } from "./support/process.ts";
import { waitFor } from "./support/wait.ts";
import { Stage, type StageOptions } from "./upgrade_kit.ts";

/** Bytes that the load uses. */
const BYTES = 16 << 20;

/** Random writes of 4 KiB, 16 at a time, over one connection; see the module text. */
export class Load implements AsyncDisposable {
  readonly #stop: string;

  private constructor(readonly stage: Stage, readonly process: LoggedProcess, readonly place: string) {
    this.#stop = stage.path("stop");
  }

  /** Fills a part of the volume and begins. */
  static async start(stage: Stage): Promise<Load> {
    const place = stage.place();
    const args = ["write", place, String(BYTES), "600", stage.path("state"), stage.path("stop")];
    const load = new Load(stage, spawnDeno("tools/demo/load.ts", args), place);
    await load.process.waitForOutput(/"sample"/, { timeoutMs: 60_000 });
    return load;
  }

  get #samples(): number {
    return this.process.output.split('"sample"').length - 1;
  }

  /** Waits for some time of load from now on. */
  async goesOn(): Promise<void> {
    const operations = () =>
      this.#lines().reduce((n, line) => n + (line.kind === "sample" ? line.operations : 0), 0);
    const samples = this.#samples + 1, enough = operations() + 100;
    const done = () => this.#samples > samples && operations() > enough;
    await waitFor(() => done() || !this.process.running, {
      what: "load on the new engine",
      timeoutMs: 30_000,
    });
    assert.ok(
      this.process.running,
      `${this.process.output.slice(-2000)}\n${this.stage.engine.output.slice(-3000)}`,
    );
  }

  #lines(output = this.process.output): LoadLine[] {
    return output.split("\n").filter((line) => line.startsWith("{") && line.endsWith("}")).map((line) =>
      JSON.parse(line)
    );
  }

  /** Ends it; no request may have failed. */
  async finish(): Promise<void> {
    Deno.writeTextFileSync(this.#stop, "");
    assert.equal((await this.process.status).code, 0, this.process.output.slice(-2000));
    const written = this.#lines().find((line) => line.kind === "written");
    assert.ok(written && written.errors === 0 && written.operations > 100, this.process.output.slice(-2000));
  }

  /** Reads every block back. */
  async check(): Promise<void> {
    const args = ["verify", this.place, String(BYTES), this.stage.path("state")];
    await using verify = spawnDeno("tools/demo/load.ts", args);
    assert.equal((await verify.status).code, 0, verify.output);
    const verified = this.#lines(verify.output).find((line) => line.kind === "verified");
    assert.deepEqual([verified?.blocks, verified?.bad], [BYTES / 4096, 0], verify.output);
  }

  /** {@linkcode finish} and {@linkcode check}. */
  async verify(): Promise<void> {
    await this.finish();
    await this.check();
  }

  /** Kills what is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.process.signal("SIGKILL");
    await this.process.status;
  }
}

/** Live upgrades in a row under load, then the check. */
export async function upgradeUnderLoad(options: StageOptions, upgrades: number): Promise<void> {
  await using stage = await Stage.start(options);
  await using load = await Load.start(stage);
  for (let n = 0; n < upgrades; n++) {
    await stage.upgrade();
    await load.goesOn();
  }
  await load.verify();
}
