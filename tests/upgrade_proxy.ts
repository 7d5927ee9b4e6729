/**
 * A man in the middle between two engines that relieve each other: passes on what they say, descriptors too, and stops
 * at a message of the test's choice, so that one of them can be killed exactly there.
 *
 * @module
 */
import assert from "node:assert/strict";
import { HandoverChannel, type HandoverMessage, type Received } from "../lib/engine/handover_messages.ts";
import { acceptPassing, closeAll, connectForPassing, listenForPassing, readable } from "../lib/io/passing.ts";

const PATIENCE_MS = 60_000;

/** See the module text. */
export class HandoverProxy implements Disposable {
  readonly #listener: number;
  #taker: HandoverChannel | undefined;
  #giver: HandoverChannel | undefined;

  /**
   * Listens where the new engine looks.
   *
   * @param from a run directory for the new engine
   * @param to that of the running one
   * @param volume its name
   */
  constructor(from: string, readonly to: string, readonly volume: string) {
    Deno.mkdirSync(`${from}/engine`, { recursive: true });
    const path = `${from}/engine/${volume}.handover`;
    try {
      Deno.removeSync(path);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    this.#listener = listenForPassing(path);
  }

  /** Passes messages on until this one was said, which is not passed on. @returns it */
  async until(type: HandoverMessage["type"]): Promise<HandoverMessage> {
    assert.ok(await readable(this.#listener, PATIENCE_MS), "the new engine does not connect");
    const fd = acceptPassing(this.#listener),
      other = connectForPassing(`${this.to}/engine/${this.volume}.handover`);
    assert.ok(fd !== undefined && other !== undefined, "the running engine does not listen");
    const taker = this.#taker = new HandoverChannel(fd), giver = this.#giver = new HandoverChannel(other);
    // They speak in turns.
    for (let [from, to] = [giver, taker];; [from, to] = [to, from]) {
      const said = await from.next(PATIENCE_MS);
      assert.ok(said !== "end" && said !== "late", `waiting for "${type}": ${said}`);
      const { message, descriptors } = said as Received;
      if (message.type !== type) to.say(message, descriptors);
      closeAll(descriptors);
      if (message.type === type) return message;
      assert.ok(message.type !== "no" && message.type !== "failed", JSON.stringify(message));
    }
  }

  /** Hangs up on both: to each it looks as if the other one had died. */
  [Symbol.dispose](): void {
    this.#taker?.close();
    this.#giver?.close();
    closeAll([this.#listener]);
  }
}
