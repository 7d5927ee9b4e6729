/**
 * What a volume's life may cost. Each goal is about one figure of life.ts.
 *
 * @module
 */
import { formatSize } from "../../cmd/support/sizes.ts";
import type { Verdict } from "./goals.ts";
import type { Life } from "./life.ts";
import { middleRound, type RegionCost, shareLeft } from "./life_regions.ts";

const MIB = 1024 * 1024;
/** MiB/s of data that a rebuild of data and holes of 4 KiB in turn reaches: ten times what Longhorn publishes. */
const ALTERNATING_MIB_S = 46;
/** A record of dirty regions leaves this share of the operations per second. */
const REGION_SHARE = 0.95;

function short(value: number): number {
  return Number(value.toPrecision(3));
}

function verdict(
  goal: string,
  found: number | null | undefined,
  sign: ">=" | "<=" | "<" | "",
  limit: number,
  unit = "",
): Verdict {
  const value = found === null || found === undefined ? null : short(found);
  const reached = (v: number) => sign === ">=" ? v >= limit : sign === "<=" ? v <= limit : v < limit;
  return {
    goal,
    wanted: sign === "" ? "" : `${sign} ${limit} ${unit}`.trim(),
    found: value,
    unit,
    ok: value === null || sign === "" ? null : reached(value),
  };
}

function speed(bytes: number | undefined, ms: number | undefined): number | null {
  return bytes === undefined || ms === undefined ? null : bytes / MIB / (ms / 1000);
}

function share(cost: RegionCost | undefined): number | null {
  return cost ? shareLeft(middleRound(cost)) : null;
}

/** The verdicts on the rows; all "not measured" for null. */
export function lifeVerdicts(life: Life | null): Verdict[] {
  const { snapshot, regions, recovery, outage, rebuild, users } = life ?? {};
  const { contiguous, alternating } = rebuild ?? {}, { near, allOver } = recovery ?? {};
  const seconds = (ms: number | undefined) => ms === undefined ? null : ms / 1000;
  const ratio = (a: number | undefined, b: number | undefined) => a === undefined || !b ? null : a / b;
  return [
    verdict(
      "snapshot under load: longest stop of hosts",
      snapshot ? Math.max(...snapshot.stoppedMs) : null,
      "<",
      50,
      "ms",
    ),
    verdict("dirty regions, volume in use: ops/s / without", share(regions?.inUse), ">=", REGION_SHARE),
    verdict(
      "dirty regions, first writes all over 100 GiB: ops/s / without",
      share(regions?.allOver),
      ">=",
      REGION_SHARE,
    ),
    verdict("engine of 100 GiB killed under load: until it serves", seconds(allOver?.readyMs), "<=", 10, "s"),
    verdict("the same: until equal, writes within 4 GiB", seconds(near?.equalMs), "<=", 10, "s"),
    verdict("the same: until equal, writes all over", seconds(allOver?.equalMs), "<=", 10, "s"),
    verdict("short outage: bytes moved / written", ratio(outage?.moved, outage?.written), "<=", 1.2),
    verdict("rebuild, contiguous: speed / cp", ratio(contiguous?.cpMs, contiguous?.rebuildMs), ">=", 0.6),
    verdict(
      "rebuild, contiguous: speed / cp and sync",
      ratio(contiguous?.cpSyncedMs, contiguous?.rebuildMs),
      "",
      0,
    ),
    verdict(
      "rebuild, 4 KiB data / 4 KiB hole",
      speed(alternating?.bytes, alternating?.rebuildMs),
      ">=",
      ALTERNATING_MIB_S,
      "MiB/s",
    ),
    verdict(
      "rebuild with a limit: p99 of hosts / idle",
      ratio(users?.rebuildP99Ms, users?.idleP99Ms),
      "<",
      3,
    ),
  ];
}

/** The rows for people, one line each. */
export function lifeText({ snapshot, regions, recovery, outage, rebuild, users }: Life): string[] {
  const lines: string[] = [], ms = (value: number) => `${short(value)} ms`;
  if (snapshot) {
    lines.push(
      `snapshots: hosts stopped ${snapshot.stoppedMs.join(", ")} ms beside ${
        snapshot.iops.toFixed(0)
      } ops/s; ` +
        `longest write ${ms(snapshot.longestMs)}`,
    );
  }
  for (const cost of regions ? [regions.inUse, regions.allOver] : []) {
    const { recorded, unrecorded } = middleRound(cost);
    const shares = cost.rounds.map((round) => shareLeft(round).toFixed(2));
    lines.push(
      `dirty regions, ${formatSize(cost.volumeBytes)}: ${recorded.toFixed(0)} ops/s, without ` +
        `${unrecorded.toFixed(0)}; of all rounds ${shares.join(", ")}`,
    );
  }
  for (const one of recovery ? [recovery.near, recovery.allOver] : []) {
    const { range, allocatedBytes, noticedMs, readyMs, equalMs, bytes, copied } = one;
    lines.push(
      `recovery: ${formatSize(allocatedBytes)} written within ${formatSize(range)}; noticed after ${
        ms(noticedMs)
      }, ` +
        `served after ${ms(readyMs)}, equal after ${ms(equalMs)}: ${formatSize(bytes)} of regions, ${
          formatSize(copied)
        } differed`,
    );
  }
  if (outage) {
    const { written, moved, backMs } = outage;
    lines.push(
      `short outage: ${formatSize(written)} written, ${formatSize(moved)} moved; back in ${ms(backMs)}`,
    );
  }
  for (const [kind, one] of Object.entries(rebuild ?? {})) {
    const rate = (took: number) => `${short(speed(one.bytes, took) ?? 0)} MiB/s`;
    lines.push(
      `rebuild, ${kind}, ${formatSize(one.bytes)}: ${rate(one.rebuildMs)}; cp ${rate(one.cpMs)}, ` +
        `and sync ${rate(one.cpSyncedMs)}`,
    );
  }
  if (users) {
    lines.push(
      `hosts beside a rebuild at ${formatSize(users.limit)}/s: p99 ${ms(users.rebuildP99Ms)} of ` +
        `${users.operations}, idle ${ms(users.idleP99Ms)}`,
    );
  }
  return lines;
}
