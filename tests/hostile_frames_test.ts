import assert from "node:assert/strict";
import { FRAME_BYTES, FrameType, MAX_FRAME_PAYLOAD } from "../lib/wire/frame.ts";
import type { LoggedProcess } from "./support/process.ts";
import { sleep, waitFor } from "./support/wait.ts";
import { Cluster, Load, VOLUME_BYTES } from "./worlds/cluster.ts";
import { requestBytes } from "./worlds/frames.ts";

const MIB = 1024 * 1024;
/** Rounds of all attacks. What one leaves behind would be used up by the last. */
const ROUNDS = 3;
/** What a process may grow by: its buffers, each of which floods of reads touch sooner or later, and this. */
const WINDOWS_BYTES = 80 * MIB;
const POOL_BYTES = { "a replica's data port": 128 * MIB, "an engine's socket": 256 * MIB };
/** Deterministic numbers below 2^32. */
class Dice {
  constructor(public state: number) {}

  next(): number {
    this.state = (Math.imul(this.state, 1664525) + 1013904223) >>> 0;
    return (this.state ^ (this.state >>> 15)) >>> 0;
  }

  below(limit: number): number {
    return this.next() % limit;
  }

  bytes(length: number): Uint8Array<ArrayBuffer> {
    return Uint8Array.from({ length }, () => this.next() >>> 24);
  }
}

type Target = string | number;

/** A connection that does not care about anything. */
class Rude implements Disposable {
  constructor(readonly socket: Deno.Conn) {}

  static async connect(target: Target): Promise<Rude> {
    return new Rude(
      typeof target === "string"
        ? await Deno.connect({ transport: "unix", path: target })
        : await Deno.connect({ hostname: "127.0.0.1", port: target }),
    );
  }

  /** Sends until everything is gone, the other side has closed, or it takes nothing more for a while. */
  async send(bytes: Uint8Array, patienceMs = 300): Promise<boolean> {
    let moved = true, open = true;
    const sending = (async () => {
      try {
        for (let at = 0; at < bytes.length && open;) {
          at += await this.socket.write(bytes.subarray(at));
          moved = true;
        }
      } catch {
        // The other side has closed, or this one has.
      }
      open = false;
    })();
    while (open && moved) {
      moved = false;
      let timer: ReturnType<typeof setTimeout> | undefined;
      await Promise.race([sending, new Promise((resolve) => timer = setTimeout(resolve, patienceMs))]);
      clearTimeout(timer);
    }
    const all = !open;
    if (!all) this[Symbol.dispose]();
    await sending;
    return all;
  }

  /** Waits until the other side closes. */
  async end(): Promise<void> {
    const buffer = new Uint8Array(64 * 1024);
    try {
      while (await this.socket.read(buffer) !== null);
    } catch {
      // A reset is an end.
    }
  }

  [Symbol.dispose](): void {
    try {
      this.socket.close();
    } catch {
      // It is closed.
    }
  }
}

/** Opens connections, uses each, closes all. */
async function crowd(
  target: Target,
  count: number,
  use: (rude: Rude, i: number) => Promise<unknown>,
): Promise<void> {
  const all = await Promise.all(Array.from({ length: count }, () => Rude.connect(target)));
  try {
    await Promise.all(all.map(use));
  } finally {
    for (const rude of all) rude[Symbol.dispose]();
  }
}

/** Requests that are beyond the volume, or make no sense. */
function nonsense(dice: Dice): Uint8Array<ArrayBuffer> {
  const offsets = [
    BigInt(VOLUME_BYTES),
    -1n,
    -(2n ** 63n),
    2n ** 63n - 1n,
    2n ** 53n,
    BigInt(VOLUME_BYTES - 1),
  ];
  const types = [FrameType.READ, FrameType.UNMAP, FrameType.WRITE, FrameType.WRITE_DURABLE, FrameType.CLEAN];
  const type = types[dice.below(types.length)];
  const size = type === FrameType.READ ? 1 + dice.below(4096) : dice.next();
  const payload = type === FrameType.WRITE ? new Uint8Array(dice.below(64)) : undefined;
  return requestBytes(dice.next(), type, offsets[dice.below(offsets.length)], size, payload);
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

const ATTACKS: Readonly<Record<string, (target: Target, dice: Dice) => Promise<void>>> = {
  "random bytes": (target, dice) => crowd(target, 10, (rude) => rude.send(dice.bytes(100_000))),

  "headers with absurd lengths": (target, dice) =>
    crowd(target, 10, async (rude, i) => {
      const type = [FrameType.WRITE, FrameType.READ, FrameType.ADOPT, 77, FrameType.REGIONS][i % 5];
      const size = i % 5 === 1 ? 0xffff_ffff : dice.next();
      await rude.send(requestBytes(i, type, 0, size, undefined, i % 2 ? 0xffff_ffff : MAX_FRAME_PAYLOAD + 1));
      await rude.end();
    }),

  "frames cut anywhere": (target, dice) =>
    crowd(target, 10, (rude) => {
      const bytes = requestBytes(1, FrameType.WRITE, 0, 70_000, dice.bytes(70_000));
      return rude.send(bytes.subarray(0, 1 + dice.below(bytes.length - 1)));
    }),

  "headers byte by byte": (target) =>
    crowd(target, 10, async (rude) => {
      for (const byte of requestBytes(1, FrameType.PING, 0, 0).subarray(0, 20)) {
        await rude.send(new Uint8Array([byte]));
        await sleep(5);
      }
    }),

  "large payloads that stop": (target) =>
    crowd(target, 6, async (rude) => {
      const begun = requestBytes(1, FrameType.WRITE, 0, 0, new Uint8Array(MIB), MAX_FRAME_PAYLOAD);
      await rude.send(begun);
      await sleep(300);
    }),

  "a hundred connections": (target) => crowd(target, 100, () => sleep(200)),

  "a flood of unknown types": (target, dice) => {
    const frames = Array.from(
      { length: 3000 },
      (_, i) => requestBytes(i, 100 + dice.below(1000), dice.next(), 0, new Uint8Array(dice.below(2000))),
    );
    return crowd(target, 4, (rude) => rude.send(joined(frames)));
  },

  "a flood of nonsense without reading the answers": (target, dice) => {
    const frames = joined(Array.from({ length: 20_000 }, () => nonsense(dice)));
    return crowd(target, 4, (rude) => rude.send(frames));
  },

  "a flood of pings and reads without reading the answers": (target) => {
    const read = requestBytes(1, FrameType.READ, 0, MIB), ping = requestBytes(2, FrameType.PING, 0, 0);
    const frames = joined(Array.from({ length: 4000 }, (_, i) => i % 2 ? read : ping));
    return crowd(target, 4, (rude) => rude.send(frames));
  },
};

/** More than all buffers: each claims the largest payload, sends the first bytes of it, and is then silent. */
const CLAIMS = 14;

function residentBytes({ pid }: LoggedProcess): number {
  const found = /^VmRSS:\s+(\d+) kB$/m.exec(Deno.readTextFileSync(`/proc/${pid}/status`));
  return Number(found?.[1]) * 1024;
}

/** A new client is served; the server may need a moment to see that the others are gone. */
async function servesNewcomers(target: Target): Promise<void> {
  await waitFor(async () => {
    using rude = await Rude.connect(target);
    await rude.send(requestBytes(9, FrameType.PING, 0, 0));
    const answer = new Uint8Array(FRAME_BYTES);
    return await rude.socket.read(answer) === FRAME_BYTES && answer[0] === 1 && answer[2] === 9;
  }, { what: "a newcomer to be served" });
}

for (const side of ["a replica's data port", "an engine's socket"] as const) {
  Deno.test(`hostile clients of ${side} harm nobody: the good one is served, nothing grows`, async () => {
    await using cluster = await Cluster.start({ replicas: 1 });
    const { engine, replicas: [replica] } = cluster;
    const target = side === "an engine's socket" ? engine.socket : replica.dataPort;
    const process = side === "an engine's socket" ? engine.process : replica.process;
    assert.ok(process);
    const load = new Load(64), before = residentBytes(process), sizes: number[] = [];
    load.start(await cluster.connect(engine.socket), 4);
    await load.progress(100);
    for (let round = 0; round < ROUNDS; round++) {
      for (const [name, attack] of Object.entries(ATTACKS)) {
        const attacking = attack(target, new Dice(round * 1000 + name.length));
        // While it goes on, and after it.
        await load.progress(20);
        await attacking;
        await load.progress(20);
        assert.ok(process.running, `${name}: ${process.output}`);
        await servesNewcomers(target);
      }
      sizes.push(residentBytes(process));
    }
    await load.stop();
    assert.deepEqual(load.ends, []);
    await load.verify(await cluster.connect(engine.socket));
    const grown = sizes.map((size) => Math.round((size - before) / MIB)).join(", ");
    assert.ok(Math.max(...sizes) - before < POOL_BYTES[side] + WINDOWS_BYTES, `it grew by ${grown} MiB`);
    assert.deepEqual([...(await engine.modes()).values()], [{ mode: "RW", note: "" }]);
    assert.equal((await engine.process.stop()).code, 0);
    assert.equal(replica.meta().Dirty, false);
  });
}

for (const side of ["a replica's data port", "an engine's socket"] as const) {
  Deno.test(`clients of ${side} that claim all buffers and fall silent stop nobody`, async () => {
    await using cluster = await Cluster.start({ replicas: 1 });
    const { engine, replicas: [replica] } = cluster;
    const target = side === "an engine's socket" ? engine.socket : replica.dataPort;
    const load = new Load(64), frames = await cluster.connect(engine.socket);
    load.start(frames, 4);
    await load.progress(100);
    const rudes = await Promise.all(Array.from({ length: CLAIMS }, () => Rude.connect(target)));
    const begun = requestBytes(1, FrameType.WRITE, 0, 0, new Uint8Array(100), MAX_FRAME_PAYLOAD);
    for (const rude of rudes) await rude.send(begun);
    // They stay: small requests go on at once, a large one when the silent ones are sent away.
    await load.progress(100);
    const large = new Uint8Array(4 * MIB).fill(7), at = VOLUME_BYTES - large.length;
    await frames.write(at, large);
    assert.deepEqual(await frames.read(at, large.length), large);
    await load.stop();
    assert.deepEqual(load.ends, []);
    for (const rude of rudes) rude[Symbol.dispose]();
    assert.deepEqual([...(await engine.modes()).values()], [{ mode: "RW", note: "" }]);
  });
}
