/**
 * What the connections of one frontend share.
 *
 * @module
 */
import type { BlockDevice } from "../../block/device.ts";
import type { Io } from "../../io/io.ts";
import type { BufferPool } from "../../io/pool.ts";
import type { Export } from "./haggle.ts";
import type { Slots } from "./slots.ts";

/** See the module text. */
export interface Host {
  /** The world. */
  readonly io: Io;
  /** Buffers for payloads. */
  readonly pool: BufferPool;
  /** The disk. */
  readonly device: BlockDevice;
  /** The disk as the handshake shows it. */
  readonly volume: Export;
  /** Request slots. */
  readonly slots: Slots;
  /** Arena offset of {@linkcode Host.zeroBytes} bytes that are zero and stay so. */
  readonly zeroes: number;
  /** How many. */
  readonly zeroBytes: number;
  /** Most bytes of buffers for one connection. A connection without any gets one buffer in any case. */
  readonly connectionBytes: number;
  /** Most bytes of buffers for all connections; as above. The rest of the pool is the volume's. */
  readonly frontendBytes: number;
  /** Bytes of buffers that connections hold now. */
  bytesHeld: number;
  /** How long a client may take to open the export, milliseconds. */
  readonly handshakeMs: number;
  /** How long a stop waits for clients to read their last replies, milliseconds. */
  readonly lingerMs: number;
  /** True once the frontend is to stop. */
  readonly stopping: boolean;
  /** Some connection waits for what others hold: call {@linkcode Host.returned} when something comes back. */
  wanted: boolean;
  /** Lets waiting connections try again. */
  returned(): void;
}
