/**
 * Numbers of the NBD protocol as a client needs them, from `doc/proto.md` of the NetworkBlockDevice project. All
 * integers on the wire are big-endian. Kept apart from the server's table on purpose: a measuring client that
 * shared it would agree with a server's mistake.
 *
 * | what | layout |
 * |---|---|
 * | greeting of the server | `NBDMAGIC` 8, `IHAVEOPT` 8, handshake flags 2 |
 * | answer of the client | flags 4 |
 * | option | `IHAVEOPT` 8, option 4, length 4, data |
 * | reply to an option | magic 8, option 4, type 4, length 4, data |
 * | request | magic 4, flags 2, type 2, cookie 8, offset 8, length 4, data of a write |
 * | simple reply | magic 4, error 4, cookie 8, data of a read |
 * | chunk of a structured reply | magic 4, flags 2, type 2, cookie 8, length 4, payload |
 *
 * @module
 */

/** `NBDMAGIC`, read as two numbers. */
export const GREETING_MAGIC: readonly [number, number] = [0x4e42444d, 0x41474943];
/** `IHAVEOPT`. */
export const OPTION_MAGIC: readonly [number, number] = [0x49484156, 0x454f5054];
/** Magic of replies to options. */
export const OPTION_REPLY_MAGIC: readonly [number, number] = [0x0003e889, 0x045565a9];
/** Magic of a request. */
export const REQUEST_MAGIC = 0x25609513;
/** Magic of a simple reply. */
export const SIMPLE_MAGIC = 0x67446698;
/** Magic of a chunk. */
export const CHUNK_MAGIC = 0x668e33ef;

/** Bytes of the greeting. */
export const GREETING_BYTES = 18;
/** Bytes of an option without its data. */
export const OPTION_BYTES = 16;
/** Bytes of the reply to an option without its data. */
export const OPTION_REPLY_BYTES = 20;
/** Bytes of a request without data. */
export const REQUEST_BYTES = 28;
/** Bytes of a simple reply without data. */
export const SIMPLE_BYTES = 16;
/** Bytes of a chunk without payload. */
export const CHUNK_BYTES = 20;

/** Handshake flags, both ways: fixed newstyle, no zeroes. */
export const HANDSHAKE_FLAGS = 0b11;
/** Handshake flag of the server without which options cannot be negotiated. */
export const FIXED_NEWSTYLE = 0b01;

/** Option: go on with an export. */
export const OPT_GO = 7;
/** Option: structured replies. */
export const OPT_STRUCTURED_REPLY = 8;

/** Reply to an option: done. */
export const REP_ACK = 1;
/** Reply to an option: information. */
export const REP_INFO = 3;
/** Bit of error replies. */
export const REP_ERROR = 0x80000000;
/** Error reply: no such export. */
export const REP_ERR_UNKNOWN = 0x80000006;

/** Information: size 8 and transmission flags 2. */
export const INFO_EXPORT = 0;

/** Transmission flag: the export cannot be written. */
export const FLAG_READ_ONLY = 2;

/** Requests. */
export const CMD_READ = 0;
/** See {@linkcode CMD_READ}. */
export const CMD_WRITE = 1;
/** The farewell; has no reply. */
export const CMD_DISC = 2;

/** Flag of a chunk: the last of its reply. */
export const CHUNK_DONE = 1;
/** Chunk without payload. */
export const CHUNK_NONE = 0;
/** Chunk: offset 8, data. */
export const CHUNK_DATA = 1;
/** Chunk: offset 8, length 4 of zeros. */
export const CHUNK_HOLE = 2;
/** Bit of chunks that report an error: error 4, length of the text 2, text. */
export const CHUNK_ERROR = 0x8000;

/** Largest reply to an option, and largest error chunk, that is taken; bytes. */
export const MAX_TEXT_BYTES = 8192;
