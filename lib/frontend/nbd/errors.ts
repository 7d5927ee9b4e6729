/**
 * Errors as NBD knows them: the few numbers the protocol allows, the translation from what a device reports,
 * and the refusals that a server finds by itself, with a text for the person at the other end.
 *
 * @module
 */
import { Errno } from "../../io/errno.ts";

/** Error values of the protocol (`doc/proto.md`, "Error values"). They do not depend on the system. */
export const NbdError = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;

/** Translates a failed result of a device (`-errno`) into an error value of the protocol. */
export function fromDevice(result: number): number {
  switch (-result) {
    case Errno.EPERM:
    case Errno.EACCES:
    case Errno.EROFS:
      return NbdError.EPERM;
    case Errno.ENOMEM:
      return NbdError.ENOMEM;
    case Errno.EINVAL:
      return NbdError.EINVAL;
    // The protocol asks servers to fold these three into one.
    case Errno.ENOSPC:
    case Errno.EDQUOT:
    case Errno.EFBIG:
      return NbdError.ENOSPC;
    case Errno.ESHUTDOWN:
    case Errno.ECANCELED:
      return NbdError.ESHUTDOWN;
    default:
      return NbdError.EIO;
  }
}

/** Why a request is refused before it reaches the device. */
export interface Refusal {
  /** Error value of the protocol. */
  readonly error: number;
  /** Text for people, ASCII; structured replies carry it. */
  readonly text: Uint8Array;
}

function refusal(error: number, text: string): Refusal {
  return { error, text: new TextEncoder().encode(text) };
}

const NO_TEXT = new Uint8Array(0);

/** The refusals. Made once: answering nonsense costs no memory either. */
export const Refusals = {
  COMMAND: refusal(NbdError.EINVAL, "this command is not known here"),
  FLAGS: refusal(NbdError.EINVAL, "this command does not take these flags"),
  MISALIGNED: refusal(NbdError.EINVAL, "offset and length must be multiples of 512"),
  BEYOND_END: refusal(NbdError.EINVAL, "the range ends beyond the end of the volume"),
  NO_ROOM: refusal(NbdError.ENOSPC, "the range ends beyond the end of the volume"),
  TOO_LONG: refusal(NbdError.EINVAL, "longer than the maximum block size"),
  CANNOT_UNFRAGMENTED: refusal(NbdError.EOVERFLOW, "too long to be answered in one chunk"),
  NO_CONTEXT: refusal(NbdError.EINVAL, "no metadata context was selected"),
  EMPTY: refusal(NbdError.EINVAL, "the length is 0"),
  RANGE: refusal(NbdError.EINVAL, "a flush has neither offset nor length"),
  SLOW_ZERO: refusal(NbdError.ENOTSUP, "zeroing this range is no faster than writing it"),
  STOPPING: refusal(NbdError.ESHUTDOWN, "the server is stopping"),
} as const;

const FAILURES = new Map<number, Refusal>(
  Object.entries({
    EPERM: "the volume refused the operation",
    EIO: "the volume reports an input/output error",
    ENOMEM: "the server is out of memory",
    EINVAL: "the volume calls the request invalid",
    ENOSPC: "the volume is out of space",
    ESHUTDOWN: "the volume is stopping",
  }).map(([name, text]) => {
    const error = NbdError[name as keyof typeof NbdError];
    return [error, refusal(error, text)];
  }),
);

const UNNAMED: Refusal = { error: NbdError.EIO, text: NO_TEXT };

/** The refusal for a failed result of a device. */
export function deviceFailure(result: number): Refusal {
  return FAILURES.get(fromDevice(result)) ?? UNNAMED;
}
