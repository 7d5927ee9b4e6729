/** Random histories of a chain against a model that knows what every snapshot holds. */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { Io } from "../io/io.ts";
import { openIo } from "../io/open.ts";
import { settleOne } from "../io/test_kit.ts";
import { DiskMemory } from "./memory.ts";
import { ReplicaDisk } from "./replica_disk.ts";
import { Awaited, BLOCK, CREATED, longhornView } from "./test_kit.ts";

const STEP_BLOCKS = 16;
const MOST_BLOCKS = 4 * STEP_BLOCKS;

type Command =
  | { readonly kind: "write" | "unmap"; readonly from: number; readonly length: number }
  | { readonly kind: "snapshot" | "expand" | "reopen" }
  | { readonly kind: "revert" | "mark" | "remove"; readonly which: number };

const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom("write" as const, "write" as const, "unmap" as const),
      from: fc.nat(MOST_BLOCKS * BLOCK - 1),
      length: fc.integer({ min: 1, max: 6 * BLOCK }),
    }),
  },
  { weight: 3, arbitrary: fc.constant({ kind: "snapshot" as const }) },
  { weight: 1, arbitrary: fc.constantFrom({ kind: "expand" as const }, { kind: "reopen" as const }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom("revert" as const, "mark" as const, "remove" as const),
      which: fc.nat(20),
    }),
  },
);

/** Runs commands on a replica and on the model. */
class History {
  readonly #options;
  #disk: ReplicaDisk;
  #data: Awaited;
  #content = new Uint8Array(STEP_BLOCKS * BLOCK);
  readonly #snapshots = new Map<string, Uint8Array>();
  #made = 0;
  #fill = 0;

  constructor(readonly io: Io, readonly directory: string, memory: DiskMemory, readonly at: number) {
    this.#options = { memory, revisionCounter: false };
    ReplicaDisk.create(io, directory, { size: this.#content.length });
    this.#disk = ReplicaDisk.open(io, directory, this.#options);
    this.#data = new Awaited(io, this.#disk, at);
  }

  run(command: Command): void {
    const disk = this.#disk, { changes } = disk;
    switch (command.kind) {
      case "write":
      case "unmap":
        return this.#change(command.kind, command.from % this.#content.length, command.length);
      case "snapshot": {
        const name = `s${this.#made++}`;
        changes.snapshot(name, { userCreated: true, created: CREATED });
        this.#snapshots.set(name, this.#content.slice());
        return;
      }
      case "expand": {
        const bytes = this.#content.length + STEP_BLOCKS * BLOCK;
        if (bytes > MOST_BLOCKS * BLOCK) return;
        this.#snapshots.set(`expand-${bytes}`, this.#content.slice());
        changes.expand(bytes);
        this.#content = grown(this.#content, bytes);
        return;
      }
      case "reopen":
        disk.close();
        this.#disk = ReplicaDisk.open(this.io, this.directory, this.#options);
        this.#data = new Awaited(this.io, this.#disk, this.at);
        return;
    }
    const names = [...this.#snapshots.keys()], name = names[command.which % Math.max(1, names.length)];
    if (name === undefined) return;
    if (command.kind === "revert") return this.#revert(name);
    disk.markRemoved(name);
    if (command.kind === "mark") {
      // Nobody can ask for it any more; the data that others need of it must stay.
      this.#snapshots.delete(name);
      return;
    }
    this.#snapshots.delete(name);
    for (const { action, source, target } of changes.prepareRemove(name)) {
      const { head } = disk.info();
      if (action === "remove") changes.remove(source, false);
      else if (action === "replace") changes.replace(target, source);
      else if (action === "prune") {
        assert.equal(settleOne(this.io, (who) => disk.folds.prune(source, head, who, 0)), 0);
      } else assert.equal(settleOne(this.io, (who) => disk.folds.coalesce(source, target, head, who, 0)), 0);
    }
  }

  #change(kind: "write" | "unmap", from: number, wanted: number): void {
    const length = Math.min(wanted, this.#content.length - from);
    if (kind === "write") {
      const bytes = new Uint8Array(length).fill(++this.#fill);
      assert.equal(this.#data.write(from, bytes), length);
      this.#content.set(bytes, from);
    } else {
      assert.ok(this.#data.unmap(from, length) >= 0);
      const start = Math.ceil(from / BLOCK) * BLOCK, end = Math.floor((from + length) / BLOCK) * BLOCK;
      if (end > start) this.#content.fill(0, start, end);
    }
  }

  #revert(name: string): void {
    this.#disk.changes.revert(name, CREATED);
    this.#content = grown(this.#snapshots.get(name) ?? new Uint8Array(0), this.#content.length);
  }

  check(): void {
    const found = this.#data.read(0, this.#content.length);
    assert.ok(typeof found !== "number");
    assert.ok(equal(found, this.#content), "the head");
  }

  /** Every snapshot, and the head by Longhorn's rules. */
  end(): void {
    this.#disk.close();
    assert.ok(equal(longhornView(this.io.files, this.directory), this.#content), "Longhorn's view");
    this.#disk = ReplicaDisk.open(this.io, this.directory, this.#options);
    this.#data = new Awaited(this.io, this.#disk, this.at);
    this.check();
    for (const name of this.#snapshots.keys()) {
      this.#revert(name);
      this.check();
    }
    this.#disk.close();
  }
}

function grown(content: Uint8Array, bytes: number): Uint8Array<ArrayBuffer> {
  const result = new Uint8Array(bytes);
  result.set(content);
  return result;
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

Deno.test("whatever happened to a chain, the head and every snapshot hold what the model says", () => {
  const parent = Deno.makeTempDirSync({ prefix: "drover-disk-" });
  try {
    using io = openIo({ arenaBytes: 16 * 1024 * 1024 });
    const memory = new DiskMemory(io), at = io.arena.reserve(2 * 1024 * 1024, BLOCK);
    let number = 0;
    fc.assert(
      fc.property(fc.array(command, { minLength: 5, maxLength: 40 }), (commands) => {
        const history = new History(io, `${parent}/${number++}`, memory, at);
        for (const one of commands) {
          history.run(one);
          history.check();
        }
        history.end();
      }),
      { numRuns: 30 },
    );
  } finally {
    Deno.removeSync(parent, { recursive: true });
  }
});
