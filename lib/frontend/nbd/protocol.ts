/**
 * Numbers of the NBD protocol, from `doc/proto.md` of the NetworkBlockDevice project. All integers on the wire
 * are big-endian.
 *
 * Handshake, server first:
 *
 * | bytes | field | what |
 * |---|---|---|
 * | 8 | `NBDMAGIC` | {@linkcode INIT_MAGIC_HIGH}, {@linkcode INIT_MAGIC_LOW} |
 * | 8 | `IHAVEOPT` | {@linkcode OPTION_MAGIC_HIGH}, {@linkcode OPTION_MAGIC_LOW} |
 * | 2 | handshake flags | {@linkcode Handshake} |
 *
 * The client answers with 4 bytes of flags and then sends options; each but `EXPORT_NAME` is answered by one or
 * more replies, the last of which is an ACK or an error:
 *
 * | option | bytes | | reply | bytes |
 * |---|---|---|---|---|
 * | `IHAVEOPT` | 8 | | reply magic | 8 |
 * | option | 4 | | option it answers | 4 |
 * | length of the data | 4 | | reply type | 4 |
 * | data | | | length of the data | 4 |
 *
 * Requests and replies of the transmission phase:
 *
 * | field | request | extended request | simple reply | structured chunk | extended chunk |
 * |---|---|---|---|---|---|
 * | magic | 0 (4) | 0 (4) | 0 (4) | 0 (4) | 0 (4) |
 * | flags | 4 (2) | 4 (2) | | 4 (2) | 4 (2) |
 * | type | 6 (2) | 6 (2) | error: 4 (4) | 6 (2) | 6 (2) |
 * | cookie, echoed | 8 (8) | 8 (8) | 8 (8) | 8 (8) | 8 (8) |
 * | offset | 16 (8) | 16 (8) | | | 16 (8) |
 * | length | 24 (4) | 24 (8) | | 16 (4) | 24 (8) |
 * | size | 28 | 32 | 16 | 20 | 32 |
 *
 * A wrong magic means that the two sides have lost each other in the stream: nothing after it can be trusted,
 * so the connection ends.
 *
 * @module
 */

/** First half of `NBDMAGIC`. */
export const INIT_MAGIC_HIGH = 0x4e42444d;
/** Second half of `NBDMAGIC`. */
export const INIT_MAGIC_LOW = 0x41474943;
/** First half of `IHAVEOPT`. */
export const OPTION_MAGIC_HIGH = 0x49484156;
/** Second half of `IHAVEOPT`. */
export const OPTION_MAGIC_LOW = 0x454f5054;
/** First half of the magic of option replies. */
export const OPTION_REPLY_MAGIC_HIGH = 0x0003e889;
/** Second half of the magic of option replies. */
export const OPTION_REPLY_MAGIC_LOW = 0x045565a9;
/** Magic of a request. */
export const REQUEST_MAGIC = 0x25609513;
/** Magic of a request with extended headers. */
export const EXTENDED_REQUEST_MAGIC = 0x21e41c71;
/** Magic of a simple reply. */
export const SIMPLE_REPLY_MAGIC = 0x67446698;
/** Magic of a chunk of a structured reply. */
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef;
/** Magic of a chunk of an extended reply. */
export const EXTENDED_REPLY_MAGIC = 0x6e8a278c;

/** Bytes of a request. */
export const REQUEST_BYTES = 28;
/** Bytes of a request with extended headers. */
export const EXTENDED_REQUEST_BYTES = 32;
/** Bytes of an option header, and of the header of an option's reply. */
export const OPTION_BYTES = 16;
/** Bytes of the header of an option's reply. */
export const OPTION_REPLY_BYTES = 20;
/** Zeroes after the reply to `EXPORT_NAME`, unless the client said it can do without. */
export const EXPORT_NAME_PADDING = 124;

/** Longest string of the protocol, bytes. */
export const MAX_STRING_BYTES = 4096;
/** Longest payload that a server may not call an attack, bytes; longer ones end the connection. */
export const MAX_PAYLOAD_BYTES = 32 * 1024 * 1024;
/** The port registered for NBD. */
export const DEFAULT_PORT = 10809;

/** Handshake flags; the client's flags have the same values. */
export const Handshake = {
  /** The server answers options it does not know. */
  FIXED_NEWSTYLE: 1,
  /** No padding after `EXPORT_NAME`. */
  NO_ZEROES: 2,
} as const;

/** Options. */
export const Option = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
  EXTENDED_HEADERS: 11,
} as const;

/** Types of replies to options; errors have the top bit set. */
export const OptionReply = {
  ACK: 1,
  SERVER: 2,
  INFO: 3,
  META_CONTEXT: 4,
  UNSUPPORTED: 0x80000001,
  INVALID: 0x80000003,
  UNKNOWN: 0x80000006,
  TOO_BIG: 0x80000009,
  EXTENDED_HEADERS_REQUIRED: 0x8000000a,
} as const;

/** Kinds of information in an `INFO` reply. */
export const Info = {
  EXPORT: 0,
  NAME: 1,
  DESCRIPTION: 2,
  BLOCK_SIZE: 3,
} as const;

/** Transmission flags: what an export can do. */
export const Transmission = {
  HAS_FLAGS: 1 << 0,
  SEND_FLUSH: 1 << 2,
  SEND_FUA: 1 << 3,
  SEND_TRIM: 1 << 5,
  SEND_WRITE_ZEROES: 1 << 6,
  SEND_DF: 1 << 7,
  CAN_MULTI_CONN: 1 << 8,
  SEND_CACHE: 1 << 10,
  SEND_FAST_ZERO: 1 << 11,
} as const;

/** Request types. */
export const Command = {
  READ: 0,
  WRITE: 1,
  DISC: 2,
  FLUSH: 3,
  TRIM: 4,
  CACHE: 5,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7,
} as const;

/** Flags of a request. */
export const CommandFlag = {
  /** On stable storage before the reply. */
  FUA: 1 << 0,
  /** WRITE_ZEROES: keep the space allocated. */
  NO_HOLE: 1 << 1,
  /** READ: one content chunk. */
  DF: 1 << 2,
  /** BLOCK_STATUS: one extent. */
  REQ_ONE: 1 << 3,
  /** WRITE_ZEROES: fail unless it is faster than a write. */
  FAST_ZERO: 1 << 4,
  /** Extended headers: `length` bytes of payload follow. */
  PAYLOAD_LEN: 1 << 5,
} as const;

/** Types of chunks in a structured or extended reply. */
export const Chunk = {
  NONE: 0,
  OFFSET_DATA: 1,
  BLOCK_STATUS: 5,
  BLOCK_STATUS_EXT: 6,
  ERROR: 0x8001,
} as const;

/** Flag of a chunk: the last one of its reply. */
export const CHUNK_DONE = 1;

/** The metadata context served here. */
export const ALLOCATION_CONTEXT = "base:allocation";
/** The number of {@linkcode ALLOCATION_CONTEXT} on a connection that selected it. */
export const ALLOCATION_CONTEXT_ID = 1;
