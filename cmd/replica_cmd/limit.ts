/**
 * `drover replica limit`: how much of disk and network the filling of copies may take.
 *
 * @module
 */
import { limitRebuilds } from "../../lib/client/rebuild.ts";
import { tellOutcome } from "../support/outcome.ts";
import { formatSize, parseRate } from "../support/sizes.ts";
import { rebuildSettings, withRebuild, writeRecord } from "../volume/record.ts";
import { openServed } from "../volume/served.ts";
import { checkOutput, findVolume, type ShowFlags } from "../volume/show.ts";
import { whoUses } from "../volume/use.ts";

function describeLimit(bytesPerSecond: number): string {
  return bytesPerSecond === 0 ? "no limit" : `${formatSize(bytesPerSecond)}/s`;
}

/**
 * `drover replica limit VOLUME [RATE]`. The limit is remembered in the volume's record, which the serving process
 * follows, and told to the copies that are being filled.
 */
export async function limitCopies(
  volume: string,
  rate: string | undefined,
  flags: ShowFlags,
): Promise<void> {
  checkOutput(flags);
  const record = findVolume(volume, flags), { bytesPerSecond: before } = rebuildSettings(record);
  const tell = (bytesPerSecond: number, goOn: readonly string[], ...lines: readonly string[]) =>
    tellOutcome(flags, { volume, bytesPerSecond, underWay: goOn }, ...lines);
  if (rate === undefined) return tell(before, [], `filling copies of ${volume}: ${describeLimit(before)}`);
  const bytesPerSecond = parseRate(rate);
  writeRecord(withRebuild(record, { bytesPerSecond }));
  const first = `filling copies of ${volume}: ${describeLimit(bytesPerSecond)} from now on`;
  if (typeof whoUses(record) !== "object") return tell(bytesPerSecond, [], first);
  using served = openServed(volume, flags);
  const copies = (await limitRebuilds(served.engine, bytesPerSecond)).map(served.nameOf);
  tell(
    bytesPerSecond,
    copies,
    first,
    ...copies.map((copy) => `copy ${copy} goes on with ${describeLimit(bytesPerSecond)}`),
  );
}
