/**
 * A live upgrade of a frontend within one process, for unit tests.
 *
 * @module
 */
import assert from "node:assert/strict";
import { check, libc } from "../io/libc.ts";
import type { Frontend, Parcel } from "./frontend.ts";

const F_DUPFD_CLOEXEC = 1030;

/** As another process receives a parcel: JSON, and descriptors of its own of the same files. */
export function received({ state, descriptors }: Parcel): Parcel {
  return {
    state: JSON.parse(JSON.stringify(state)),
    descriptors: descriptors.map((fd) => check(libc.fcntl(fd, F_DUPFD_CLOEXEC, 0), "fcntl")),
  };
}

/** Suspends a frontend. @param until runs the loop until something is true @returns the problem, or "" */
export function suspend(
  frontend: Frontend,
  until: (condition: () => boolean) => void,
  graceMs = 5000,
): string {
  let problem: string | undefined;
  frontend.suspend(graceMs, (text) => problem = text);
  until(() => problem !== undefined);
  return problem ?? "";
}

/** Suspends a frontend, makes the next one of what it hands over, lets the first one go and the next one begin. */
export function move<Kind extends Frontend>(
  old: Kind,
  until: (condition: () => boolean) => void,
  make: (handed: Parcel) => Kind,
): Kind {
  assert.equal(suspend(old, until), "");
  const next = make(received(old.parcel()));
  old.leave();
  next.resume();
  return next;
}
