/**
 * Error numbers of Linux (asm-generic/errno*.h, the same on x86-64 and arm64) and the error class that
 * carries one. Completions report failures as a negative error number; everything synchronous throws.
 *
 * @module
 */

/** Error numbers that Drover names. Values from Linux `asm-generic/errno-base.h` and `errno.h`. */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EPIPE: 32,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ENODATA: 61,
  ETIME: 62,
  EPROTO: 71,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  ECONNABORTED: 103,
  ECONNRESET: 104,
  ENOBUFS: 105,
  ENOTCONN: 107,
  ESHUTDOWN: 108,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
  EHOSTUNREACH: 113,
  EALREADY: 114,
  EINPROGRESS: 115,
  EDQUOT: 122,
  ECANCELED: 125,
} as const;

/** The names of the error numbers in {@linkcode Errno}. */
export type ErrnoName = keyof typeof Errno;

const TEXT: Partial<Record<ErrnoName, string>> = {
  EPERM: "operation not permitted",
  ENOENT: "no such file or directory",
  EIO: "input/output error",
  EAGAIN: "resource temporarily unavailable",
  ENOMEM: "cannot allocate memory",
  EACCES: "permission denied",
  EBUSY: "device or resource busy",
  EEXIST: "file exists",
  ENODEV: "no such device",
  ENOTDIR: "not a directory",
  EINVAL: "invalid argument",
  EFBIG: "file too large",
  // The exact text is part of the contract between engine and replica: peers match on it.
  ENOSPC: "no space left on device",
  EROFS: "read-only file system",
  EPIPE: "broken pipe",
  ENOSYS: "function not implemented",
  ENOTEMPTY: "directory not empty",
  EOPNOTSUPP: "operation not supported",
  EADDRINUSE: "address already in use",
  ECONNRESET: "connection reset by peer",
  ENOTCONN: "transport endpoint is not connected",
  ETIMEDOUT: "connection timed out",
  ECONNREFUSED: "connection refused",
  EHOSTUNREACH: "no route to host",
  ECANCELED: "operation canceled",
  EDQUOT: "disk quota exceeded",
};

const NAMES = new Map<number, ErrnoName>(
  (Object.keys(Errno) as ErrnoName[]).map((name) => [Errno[name], name]),
);

/** The symbolic name of an error number (positive or negative), such as `ENOSPC`; `errno 77` if unnamed. */
export function errnoName(errno: number): string {
  return NAMES.get(Math.abs(errno)) ?? `errno ${Math.abs(errno)}`;
}

/** A short English text for an error number (positive or negative). */
export function errnoText(errno: number): string {
  const name = NAMES.get(Math.abs(errno));
  return (name && TEXT[name]) ?? errnoName(errno);
}

/** A failed system operation: what was tried, on what, and the error number. */
export class IoError extends Error {
  /** The class, for logs. */
  override readonly name = "IoError";
  /** The positive error number, see {@linkcode Errno}. */
  readonly errno: number;

  /**
   * Names what failed.
   *
   * @param operation what was tried, such as `open`
   * @param subject the path or address it was tried on; may be empty
   * @param errno the error number, positive or negative
   */
  constructor(readonly operation: string, readonly subject: string, errno: number, options?: ErrorOptions) {
    super(`${operation}${subject ? ` ${subject}` : ""}: ${errnoText(errno)} (${errnoName(errno)})`, options);
    this.errno = Math.abs(errno);
  }
}
