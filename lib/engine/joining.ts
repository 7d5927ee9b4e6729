/**
 * The volume thread's part when a copy joins: admits it at the right moment, copies to it what it lacks, and makes up
 * for trims; see additions.ts for the ways there are.
 *
 * @module
 */
import type { Completer, Io } from "../io/io.ts";
import type { Handlers, Reply } from "../io/mailbox_server.ts";
import { type BufferPool, NO_BUFFER } from "../io/pool.ts";
import { SET_BLOCK_BYTES } from "./block_set.ts";
import { ADMIT_RETRY_MS, COPY_BYTES, MAX_SETTLED_TRIMS, TRIM_BLOCKS } from "./limits.ts";
import type { Link } from "./link.ts";
import { LostWrites } from "./lost.ts";
import { Pace } from "./pace.ts";
import { Rebuild, type RebuildProgress } from "./rebuild.ts";
import { InnerOp } from "./slots.ts";
import type { Volume } from "./volume.ts";

/** Body of `rebuild`. */
export interface RebuildBody {
  /** The copy: connected, not admitted. */
  readonly name: string;
  /** Only what it missed is copied. */
  readonly missed?: boolean;
  /** Its machine restarted: it also lost what was not flushed. */
  readonly lost?: boolean;
}

/** See the module text. */
export class Joining {
  #filling: Rebuild | undefined;
  readonly #pace: Pace;

  /** Does nothing yet. @param filled told the end of a filling: "" or why it failed, and the bytes it took */
  constructor(
    readonly io: Io,
    readonly pool: BufferPool,
    readonly volume: Volume,
    readonly filled: (name: string, failure: string, bytes: number) => void,
  ) {
    this.#pace = new Pace(io);
  }

  /** How far the filling is, if one runs. */
  get progress(): RebuildProgress | null {
    return this.#filling?.progress ?? null;
  }

  /** The calls of the main thread. */
  handlers(): Handlers {
    return {
      limitCopies: (body, reply) => {
        this.#pace.limit = (body as { bytesPerSecond: number }).bytesPerSecond;
        reply.ok();
      },
      rebuild: (body, reply) => this.#rebuild(body as RebuildBody, reply),
      missed: (body, reply) =>
        reply.ok(this.volume.journals.leftAt((body as { id: string }).id, this.io.now())),
      admitLayered: (body, reply) => {
        const link = this.volume.replicas.find((body as { name: string }).name);
        this.#whenReady(link, reply, () => {
          this.volume.admit(link.name, "WO");
          this.volume.setLayered(link, true);
          reply.ok();
        });
      },
      settleTrims: (_body, reply) => this.#settleTrims(reply),
      completeLayers: (body, reply) =>
        this.#completeLayers(this.volume.replicas.find((body as { name: string }).name), reply),
    };
  }

  /** Members that are being recorded, or copies that are being made equal, come first. */
  #whenReady(link: Link, reply: Reply, ready: () => void): void {
    const look = () => {
      if (!link.up) return reply.error(new Error(link.reason || "the new copy is gone"));
      if (this.volume.settled && !this.volume.turns.single) return ready();
      this.io.timer(ADMIT_RETRY_MS, { complete: look }, 0);
    };
    look();
  }

  /** Admits a copy and fills it. Answers when it gets all writes; its end comes as an event. */
  #rebuild({ name, missed, lost }: RebuildBody, reply: Reply): void {
    const { volume } = this, link = volume.replicas.find(name);
    if (this.#filling) throw new Error("can only have one WO replica at a time");
    this.#whenReady(link, reply, () => {
      const set = missed ? volume.journals.take(link.id, this.io.now()) : undefined;
      if (missed && !set) return reply.error(new Error("what it missed is not known any more"));
      // What it lost is missed too, and not known yet: should it go now, it is to be rebuilt whole.
      link.catchingUp = lost ? undefined : set;
      volume.admit(name, "WO");
      const filling = new Rebuild(
        this.io,
        this.pool,
        volume,
        link,
        (failure) => {
          this.#filling = undefined;
          if (failure === "") link.catchingUp = undefined;
          this.filled(name, failure, filling.progress.done);
        },
        this.#pace,
        set,
      );
      this.#filling = filling;
      const start = () => filling.start();
      if (set && lost) new LostWrites(this.io, this.pool, volume, link, set, start).start();
      else start();
      reply.ok();
    });
  }

  /**
   * A snapshot is about to be taken: what was trimmed on a layered copy must read as zeros in it, whatever its lower
   * layers are going to have there. Changes are held.
   */
  #settleTrims(reply: Reply): void {
    const { volume, pool } = this;
    const link = volume.replicas.writers.find(({ layered, trims }) => layered && trims && trims.count > 0);
    const trims = link?.trims;
    if (!link || !trims) return reply.ok();
    const bytes = trims.count * SET_BLOCK_BYTES;
    if (trims.overflown || bytes > MAX_SETTLED_TRIMS) {
      const text =
        `${bytes} bytes were trimmed while ${link.name} is being rebuilt; take the snapshot when it is complete`;
      return reply.error(new Error(text));
    }
    const at = pool.allocate(COPY_BYTES), most = COPY_BYTES / SET_BLOCK_BYTES;
    if (at === NO_BUFFER) return reply.error(new Error("the engine is out of buffers; try again"));
    const end = (error?: Error) => {
      pool.release(at);
      if (error) reply.error(error);
      else reply.ok();
    };
    let next = 0;
    const settle = (result: number) => {
      // A copy that is gone needs nothing any more.
      if (result < 0 && link.up) return end(new Error("what was trimmed cannot be settled"));
      const [first, count] = link.up ? trims.next(next, most) : [0, 0];
      if (count === 0) {
        trims.removeTouched(0, volume.bytes);
        return end();
      }
      next = first + count;
      const offset = first * SET_BLOCK_BYTES,
        length = Math.min(count * SET_BLOCK_BYTES, volume.bytes - offset);
      volume.submitInner(InnerOp.MEND, offset, length, at, { complete: (_, r) => settle(r) }, 0, link.bit);
    };
    settle(0);
  }

  /** The lower layers are there: what was trimmed since is trimmed on this copy too. Changes are held. */
  #completeLayers(link: Link, reply: Reply): void {
    const { volume } = this, { trims } = link;
    if (!link.up || !link.layered || !trims) throw new Error(link.reason || "the copy is not being rebuilt");
    if (trims.overflown) throw new Error("more was trimmed meanwhile than could be noted; rebuild it again");
    volume.setLayered(link, false);
    let next = 0;
    const trim = (result: number) => {
      if (result < 0) {
        return reply.error(new Error(link.reason || "what was trimmed cannot be trimmed there"));
      }
      const [first, count] = trims.next(next, TRIM_BLOCKS);
      if (count === 0) return this.#flush(link, reply);
      next = first + count;
      const offset = first * SET_BLOCK_BYTES,
        length = Math.min(count * SET_BLOCK_BYTES, volume.bytes - offset);
      const who: Completer = { complete: (_, end) => trim(end) };
      volume.submitInner(InnerOp.TRIM, offset, length, 0, who, 0, link.bit);
    };
    trim(0);
  }

  #flush(link: Link, reply: Reply): void {
    this.volume.flush({
      complete: (_, result) =>
        result < 0 || !link.up
          ? reply.error(new Error(link.reason || "the flush at the end failed"))
          : reply.ok(),
    });
  }
}
