import assert from "node:assert/strict";
import { RpcError } from "../../rpc/errors.ts";
import { changeableName, readableName, receivableName, snapshotDisk } from "./names.ts";
import { lockDirectory } from "./node_lock.ts";

const CHECKS = { readableName, receivableName, changeableName } as const;

/** What is allowed: read, received, changed. */
const NAMES: Readonly<Record<string, readonly (keyof typeof CHECKS)[]>> = {
  "volume-snap-a.img": ["readableName", "receivableName", "changeableName"],
  "volume-snap-a.img.meta": ["readableName", "receivableName", "changeableName"],
  "volume-snap-a.img.checksum": ["readableName", "changeableName"],
  "volume-snap-a.img.snap_tmp": ["receivableName", "changeableName"],
  "volume-delta-b1.img": ["receivableName", "changeableName"],
  "volume-head-001.img.meta": ["readableName", "receivableName"],
  "volume-head-001.img": [],
  "volume.meta": [],
  "revision.counter": [],
  "drover.regions": [],
  "": [],
  "..": [],
  "../volume-snap-a.img": [],
  "volume-snap-../../etc/passwd.img": [],
  "volume-snap-a\0.img": [],
  "/etc/passwd": [],
  [`volume-snap-${"x".repeat(250)}.img`]: [],
};

Deno.test("only the files of snapshots and records leave, enter or change by name", () => {
  for (const [name, allowed] of Object.entries(NAMES)) {
    for (const [check, run] of Object.entries(CHECKS)) {
      const what = `${check} of ${JSON.stringify(name)}`;
      if (allowed.includes(check as keyof typeof CHECKS)) assert.equal(run(name), name, what);
      else assert.throws(() => run(name), RpcError, what);
    }
  }
});

Deno.test("a snapshot is named by itself or by its disk", () => {
  assert.equal(snapshotDisk("a"), "volume-snap-a.img");
  assert.equal(snapshotDisk("volume-snap-a.img"), "volume-snap-a.img");
  for (const name of ["", "a/b", "x".repeat(300)]) assert.throws(() => snapshotDisk(name), RpcError);
});

Deno.test("the node's locks lie where the control path says, if that is a place of its own", () => {
  assert.equal(lockDirectory("/c/", false), "/c/.lock");
  assert.equal(lockDirectory("/c", true), "/host/c/.lock");
  for (const odd of [undefined, "", "relative", "/", "/dev", "/dev/shm"]) {
    assert.equal(lockDirectory(odd, false), "/var/lib/longhorn/.lock");
  }
});
