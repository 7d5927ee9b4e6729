import assert from "node:assert/strict";
import { MAX_TRANSFER_BYTES } from "../../block/device.ts";
import { MemoryDevice } from "../../block/memory_device.ts";
import type { Address, Io } from "../../io/io.ts";
import { BufferPool } from "../../io/pool.ts";
import { StreamMemory } from "../../io/stream.ts";
import { World } from "../../io/stream_test_kit.ts";
import { FrameClient, type FrameClientOwner } from "../../wire/client.ts";
import { FRAME_BYTES, FrameType, putFrame } from "../../wire/frame.ts";
import type { Frontend } from "../frontend.ts";
import { move, suspend } from "../test_parcel.ts";
import { SocketFrontend } from "./socket.ts";

const PATIENCE_MS = 20_000;

/** Counts answers. */
class Counter implements FrameClientOwner {
  good = 0;
  bad = 0;
  ended = false;
  destination(): number {
    return -1;
  }
  onReply(_client: FrameClient, _sequence: number, result: number): void {
    if (result >= 0) this.good++;
    else this.bad++;
  }
  onSent(): void {}
  onClosed(): void {
    this.ended = true;
  }
}

class Bench implements Disposable {
  readonly world = new World();
  readonly io: Io = this.world.io;
  readonly pool = new BufferPool(this.io, 16 << 20, MAX_TRANSFER_BYTES);
  readonly device = new MemoryDevice(this.io, "vol", 1 << 20);
  readonly #directory = Deno.makeTempDirSync();
  readonly address: Address = { kind: "unix", path: `${this.#directory}/s` };
  frontend: Frontend = new SocketFrontend(this.io, this.pool, this.device, { address: this.address });

  until = (condition: () => boolean): void => {
    const end = performance.now() + PATIENCE_MS;
    while (!condition()) {
      assert.ok(performance.now() < end, "waited in vain");
      this.world.passes(1);
    }
  };

  connect(owner: FrameClientOwner): FrameClient {
    let fd = -1;
    this.io.connect(this.address, { complete: (_tag, result) => void (fd = result) }, 0);
    this.until(() => fd >= 0);
    return new FrameClient(
      this.io,
      fd,
      new StreamMemory(this.io, { client: true }),
      this.io.arena.reserve(65536),
      owner,
    );
  }

  move(): void {
    this.frontend = move(
      this.frontend,
      this.until,
      (handed) =>
        new SocketFrontend(this.io, this.pool, this.device, {
          address: { kind: "unix", path: "/no" },
          handed,
        }),
    );
  }

  [Symbol.dispose](): void {
    this.world[Symbol.dispose]();
    Deno.removeSync(this.#directory, { recursive: true });
  }
}

Deno.test("clients of the socket go on with the next process, also with half a frame on the way", () => {
  using bench = new Bench();
  const counter = new Counter(), client = bench.connect(counter), at = bench.io.arena.reserve(4096);
  const { endpoint } = bench.frontend;
  for (let round = 0; round < 8; round++) {
    for (let n = 0; n < 20; n++) client.request(n, FrameType.WRITE, n * 4096, 4096, at, 4096, 0);
    if (round % 2) bench.world.passes(1 + round);
    bench.move();
    bench.until(() => counter.good + counter.bad === 20 * (round + 1));
  }
  // A header in two parts, one for each process.
  const header = bench.io.arena.reserve(FRAME_BYTES);
  putFrame(bench.io.arena.view, header, 7, FrameType.FLUSH, 0, 0, 0);
  client.stream.payload(header, 11, 0);
  bench.world.passes(5);
  bench.move();
  client.stream.payload(header + 11, FRAME_BYTES - 11, 0);
  bench.until(() => counter.good + counter.bad === 161);
  assert.deepEqual([counter.good, counter.bad, counter.ended], [161, 0, false]);
  assert.equal(bench.frontend.endpoint, endpoint);
  const late = new Counter();
  bench.connect(late).request(1, FrameType.PING, 0, 0, 0, 0, 0);
  bench.until(() => late.good === 1);
});

Deno.test("half a payload makes the handover fail in time, and is taken to its end afterwards", () => {
  using bench = new Bench();
  const counter = new Counter(), client = bench.connect(counter), at = bench.io.arena.reserve(8192);
  putFrame(bench.io.arena.view, at, 7, FrameType.WRITE, 0, 4096, 4096);
  client.stream.payload(at, FRAME_BYTES + 1000, 0);
  bench.world.passes(5);
  assert.match(suspend(bench.frontend, bench.until, 20), /neither ends its request/);
  bench.frontend.resume();
  client.stream.payload(at, 3096, 0);
  bench.until(() => counter.good === 1);
  bench.move();
});
