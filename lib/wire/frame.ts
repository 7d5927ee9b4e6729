/**
 * The frame: 26 bytes of header and a payload, the one message of the data connections (engine to replica, and
 * a host's client to the engine's socket). Compatible with Longhorn's data connection protocol.
 *
 * | offset | bytes | field      | guards against |
 * |-------:|------:|------------|----------------|
 * |      0 |     2 | magic      | a peer that speaks something else, or a reader that lost its place |
 * |      2 |     4 | sequence   | a reply matched with the wrong request (requests finish in any order) |
 * |      6 |     4 | type       | |
 * |     10 |     8 | offset     | byte offset in the volume, echoed by replies |
 * |     18 |     4 | size       | requested or achieved bytes: a short operation taken for a whole one |
 * |     22 |     4 | dataLength | payload bytes that follow: losing the place in the stream |
 *
 * Little-endian, no padding, no checksum, no handshake. Requests are pipelined; replies come in order of
 * completion. There is no order between requests under way at once.
 *
 * @module
 */
import { digestBytes } from "./digest.ts";

/** Bytes of a frame header. */
export const FRAME_BYTES = 26;

/** The first two bytes of every frame (`01 1b`). */
export const FRAME_MAGIC = 0x1b01;

/**
 * Largest payload of a frame, and largest size of a read, bytes. Longhorn has no limit but u32; initiators send
 * at most a few MiB. More is a broken or hostile peer.
 */
export const MAX_FRAME_PAYLOAD = 16 * 1024 * 1024;

/** Most bytes of text in an Error frame that are looked at. */
export const MAX_ERROR_BYTES = 64 * 1024;

/**
 * Types of frames. 0 to 8 are Longhorn's. The others are Drover's: they are sent only to a peer that announced
 * the feature (Longhorn ignores requests of unknown types without a reply).
 */
export const FrameType = {
  READ: 0,
  WRITE: 1,
  /** Success; for reads with the data. */
  RESPONSE: 2,
  /** Failure; the payload is UTF-8 text. */
  ERROR: 3,
  EOF: 4,
  CLOSE: 5,
  PING: 6,
  UNMAP: 7,
  /** Failure for lack of space; the payload is UTF-8 text. */
  ENOSPC: 8,
  /** Put everything completed so far on stable storage. Offset, size and payload are empty. */
  FLUSH: 0x4456_0001,
  /** As WRITE, on stable storage before the reply. */
  WRITE_DURABLE: 0x4456_0002,
  /** Payload: JSON of the engine's generation and members; kept durably, then answered. */
  ADOPT: 0x4456_0003,
  /** Asks for the map of dirty regions; the Response carries it. See regions.ts. */
  REGIONS: 0x4456_0004,
  /** All copies are equal and flushed in this range: its regions are clean. */
  CLEAN: 0x4456_0005,
  /** Asks for the sums of a range's pieces; the Response carries them. See digest.ts. */
  DIGEST: 0x4456_0006,
} as const;

/** What a peer announces it understands; bits of `drover_features`. */
export const Feature = {
  /** FLUSH and WRITE_DURABLE. */
  FLUSH: 1,
  /** ADOPT, and refusal of engines of an older generation. */
  GENERATION: 2,
  /** REGIONS and CLEAN: dirty regions are recorded. */
  REGIONS: 4,
  /** DIGEST. */
  DIGEST: 8,
} as const;

/** All features of this implementation. */
export const ALL_FEATURES: number = Feature.FLUSH | Feature.GENERATION | Feature.REGIONS | Feature.DIGEST;

/** The text of ENOSPC; peers match on it. */
export const NO_SPACE_TEXT = "no space left on device";

/** How the text begins that refuses an engine of an older generation; engines match on it. */
export const SUPERSEDED_TEXT = "this engine was superseded";

/**
 * Metadata of ReplicaClose: the generation of the engine that asks. A replica that serves a newer one refuses; who
 * sends none (Longhorn's callers) is obeyed.
 */
export const GENERATION_KEY = "drover-generation";

/** Metadata of a `ReplicaClose`: the copy may differ from others, and stays marked as not cleanly closed. */
export const DIFFERS_KEY = "drover-differs";

/** The peer broke the protocol; the connection is closed. */
export class WireError extends Error {
  /** The class, for logs. */
  override readonly name = "WireError";
}

const HIGH = 0x1_0000_0000;

/** Writes a header at `at`. `offset` is at most 2^53 - 1. */
export function putFrame(
  view: DataView,
  at: number,
  sequence: number,
  type: number,
  offset: number,
  size: number,
  dataLength: number,
): void {
  view.setUint16(at, FRAME_MAGIC, true);
  view.setUint32(at + 2, sequence, true);
  view.setUint32(at + 6, type, true);
  view.setUint32(at + 10, offset, true);
  view.setUint32(at + 14, offset / HIGH, true);
  view.setUint32(at + 18, size, true);
  view.setUint32(at + 22, dataLength, true);
}

/** The magic of the header at `at`. */
export function frameMagic(view: DataView, at: number): number {
  return view.getUint16(at, true);
}

/** The sequence number of the header at `at`. */
export function frameSequence(view: DataView, at: number): number {
  return view.getUint32(at + 2, true);
}

/** The type of the header at `at`. */
export function frameType(view: DataView, at: number): number {
  return view.getUint32(at + 6, true);
}

/** The offset of the header at `at`; negative when the sender's was, and exact up to 2^53. */
export function frameOffset(view: DataView, at: number): number {
  return view.getUint32(at + 10, true) + view.getInt32(at + 14, true) * HIGH;
}

/** The size field of the header at `at`. */
export function frameSize(view: DataView, at: number): number {
  return view.getUint32(at + 18, true);
}

/** The payload length of the header at `at`. */
export function frameDataLength(view: DataView, at: number): number {
  return view.getUint32(at + 22, true);
}

/** Short name of a type for messages and logs. */
export function frameTypeName(type: number): string {
  for (const [name, value] of Object.entries(FrameType)) if (value === type) return name.toLowerCase();
  return `type ${type}`;
}

/** Types whose length is that of their payload: memory without one is not the peer's to write from. */
export function carriesData(type: number): boolean {
  return type === FrameType.WRITE || type === FrameType.WRITE_DURABLE || type === FrameType.ADOPT;
}

/** True for requests whose Response carries data. */
export function answersWithData(type: number): boolean {
  return type === FrameType.READ || type === FrameType.REGIONS || type === FrameType.DIGEST;
}

/** How many bytes that is, for the size that such a request names. */
export function answerBytes(type: number, size: number): number {
  return type === FrameType.DIGEST ? digestBytes(size) : size;
}

/** What is wrong with a request's header, or undefined. @param most bytes of a payload or a read */
export function frameFault(
  magic: number,
  type: number,
  size: number,
  length: number,
  most: number,
): string | undefined {
  if (magic !== FRAME_MAGIC) {
    return `wrong magic 0x${magic.toString(16)}, expected 0x${FRAME_MAGIC.toString(16)}`;
  }
  if (length > most) {
    return `${frameTypeName(type)} with ${length} bytes of payload; at most ${most} are accepted`;
  }
  if (answersWithData(type) && (answerBytes(type, size) > most || length > 0)) {
    return `read of ${size} bytes with ${length} bytes of payload; at most ${most} can be read at once`;
  }
  return undefined;
}
