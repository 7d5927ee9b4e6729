/**
 * The frontends by name, as the volume thread makes them.
 *
 * @module
 */
import type { BlockDevice } from "../../lib/block/device.ts";
import type { FrontendEvent } from "../../lib/engine/thread.ts";
import type { Frontend, Parcel } from "../../lib/frontend/frontend.ts";
import type { ChapSettings } from "../../lib/frontend/iscsi/chap.ts";
import { IscsiFrontend, targetNameOf } from "../../lib/frontend/iscsi/target.ts";
import { LoopFrontend, LoopMemory } from "../../lib/frontend/loop/loop_frontend.ts";
import { NbdFrontend, NbdMemory } from "../../lib/frontend/nbd/frontend.ts";
import { SocketFrontend } from "../../lib/frontend/socket/socket.ts";
import { whyNotRoot } from "../../lib/host/peer_owner.ts";
import { markIoFlusher } from "../../lib/host/fuse_mount.ts";
import type { Address, Io } from "../../lib/io/io.ts";
import type { BufferPool } from "../../lib/io/pool.ts";
import type { Logger } from "../../lib/log/log.ts";

/** What the volume thread can serve. */
export const SERVED = ["loop", "nbd", "iscsi", "socket"] as const;

/** One of {@linkcode SERVED}. */
export type ServedKind = typeof SERVED[number];

/** Frontends of which the host has a share: it ends up with a device, or with a target of its tgtd. */
export const DEVICE_FRONTENDS = [
  "tgt-blockdev",
  "tgt-iscsi",
  "iscsi-blockdev",
  "nbd-blockdev",
  "loop-blockdev",
] as const;

/** One of {@linkcode DEVICE_FRONTENDS}. */
export type DeviceFrontend = typeof DEVICE_FRONTENDS[number];

/** All kinds. */
export const FRONTENDS = [...SERVED, ...DEVICE_FRONTENDS] as const;

/** One of {@linkcode FRONTENDS}. */
export type FrontendKind = typeof FRONTENDS[number];

/** True for a kind that there is. */
export function isFrontend(kind: string): kind is FrontendKind {
  return (FRONTENDS as readonly string[]).includes(kind);
}

/** True for a kind of which the host has a share. */
export function isDeviceFrontend(kind: string): kind is DeviceFrontend {
  return (DEVICE_FRONTENDS as readonly string[]).includes(kind);
}

/** What a frontend is made of. */
export interface FrontendParts {
  /** The volume thread's world. */
  readonly io: Io;
  /** Buffers for data under way. */
  readonly pool: BufferPool;
  /** The disk to be shown. */
  readonly device: BlockDevice;
  /** Where clients' mistakes are told. */
  readonly log: Logger;
  /** Takes events to the main thread. */
  readonly notify: (event: FrontendEvent) => void;
}

/** Options that travel from the main thread to the volume thread. */
export interface FrontendOptions {
  /** Where it listens, for all kinds but `loop`. */
  readonly listen: Address;
  /** What the volume thread serves for a frontend of {@linkcode DEVICE_FRONTENDS}. */
  readonly serve?: ServedKind;
  /** Whom `iscsi` lets in; absent: everybody. */
  readonly chap?: ChapSettings;
  /** `iscsi` is for the initiator of this machine alone: connections that root did not make are refused. */
  readonly rootOnly?: boolean;
  /** From an engine whose place this one takes: the frontend goes on with its clients. */
  readonly handed?: Parcel;
  /** The mounted file system that `loop` serves; added by the main thread. */
  readonly mount?: { readonly fd: number; readonly file: string };
}

/** Arena bytes that the frontends take besides the pool. Untouched memory costs nothing. */
export const FRONTEND_ARENA_BYTES: number = LoopMemory.bytes() + 256 * 1024 * 1024;

/** The arena does not take memory back: a frontend that is started again uses the first one's. */
const loopMemories = new WeakMap<Io, LoopMemory>();
const nbdMemories = new WeakMap<Io, NbdMemory>();

function kept<Memory>(memories: WeakMap<Io, Memory>, io: Io, make: () => Memory): Memory {
  const memory = memories.get(io) ?? make();
  memories.set(io, memory);
  return memory;
}

function makeLoop(options: FrontendOptions, { io, device, log, notify }: FrontendParts): Frontend {
  const { handed } = options, fd = handed?.descriptors[0];
  const mount = fd === undefined ? options.mount : { fd, file: "" };
  if (!mount) throw new RangeError("frontend loop: the main thread has mounted nothing");
  if (!markIoFlusher()) log.debug("the thread could not be marked as one that block I/O depends on");
  return new LoopFrontend(io, device, {
    fd: mount.fd,
    handed: handed !== undefined,
    endpoint: mount.file,
    memory: kept(loopMemories, io, () => new LoopMemory(io)),
    events: {
      onResized: (value) => notify({ event: "frontend", what: "resized", value }),
      onEnded: (value) => notify({ event: "frontend", what: "ended", value }),
    },
  });
}

function makeIscsi(
  { listen, chap, handed, rootOnly }: FrontendOptions,
  { io, pool, device, log }: FrontendParts,
): Frontend {
  if (listen.kind !== "tcp") throw new RangeError("frontend iscsi: it listens on HOST:PORT only");
  return new IscsiFrontend(io, pool, device, {
    address: listen,
    targetName: targetNameOf(device.name),
    ...(chap ? { chap } : {}),
    ...(rootOnly ? { admit: whyNotRoot } : {}),
    ...(handed ? { handed } : {}),
    onEvent: ({ kind, connection, initiator, code, message }) =>
      log.info("iscsi", { what: kind, connection, initiator, code, detail: message }),
  });
}

/** Makes a frontend. @throws {RangeError} for a kind that does not exist */
export function makeFrontend(kind: string, options: unknown, parts: FrontendParts): Frontend {
  const { io, pool, device, log } = parts;
  const given = options as FrontendOptions;
  const { listen: address, handed } = given, taken = handed ? { handed } : {};
  if (!isFrontend(kind)) {
    throw new RangeError(`frontend "${kind}" does not exist; choose ${FRONTENDS.join(", ")}`);
  }
  const served = isDeviceFrontend(kind) ? given.serve : kind;
  if (served === undefined) throw new RangeError(`frontend ${kind}: the main thread has chosen no carrier`);
  switch (served) {
    case "loop":
      return makeLoop(given, parts);
    case "nbd":
      return new NbdFrontend(io, pool, device, {
        address,
        memory: kept(nbdMemories, io, () => new NbdMemory(io)),
        ...taken,
        onEvent: (event) => log.info("nbd", { event }),
      });
    case "iscsi":
      return makeIscsi(given, parts);
    case "socket":
      return new SocketFrontend(io, pool, device, {
        address,
        ...taken,
        onProblem: (error) => log.warn("client", { frontend: kind, problem: error.message }),
      });
  }
}
