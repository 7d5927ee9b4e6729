/**
 * Sending one file to a receiver, in a thread of its own: to Drover's in batches (send_batches.ts), to Longhorn's as
 * it expects it (send_plain.ts).
 *
 * @module
 */
import { changeTimeText, CHECKSUM_METHOD } from "../../disk/checksum_record.ts";
import type { Files } from "../../io/files.ts";
import { loadSums, type SparseSource } from "./batches.ts";
import { changeTime, readChecksum } from "./checksums.ts";
import { FileSource } from "./file_source.ts";
import { HttpError } from "./http1.ts";
import { checkCancelled, type JobContext, pause } from "./job.ts";
import { isRecord } from "./names.ts";
import { sendBatches } from "./send_batches.ts";
import { sendPlain } from "./send_plain.ts";
import { accepted, SsyncClient } from "./ssync_client.ts";
import { useThreadQueue } from "./thread_queue.ts";

/** Longest time for a receiver to be there, and between tries, milliseconds; as Longhorn's. */
const OPEN_MS = 120_000, OPEN_PAUSE_MS = 1000;
/** Shortest and default time for an answer, milliseconds. A sync of a large file may take longer than Longhorn's 5 s. */
const ANSWER_MS = 5_000, DROVER_ANSWER_MS = 120_000;

/** Where something is sent to. */
export interface SendTarget {
  /** The receiver's host. */
  readonly host: string;
  /** And port. */
  readonly port: number;
  /** Time for an answer, seconds; 0 = the default. */
  readonly timeoutS: number;
  /** One of several senders: another one closes the file. */
  readonly shared: boolean;
}

/** What is sent. */
export interface SendParams extends SendTarget {
  /** The replica directory. */
  readonly directory: string;
  /** A checked file name. */
  readonly file: string;
  /** Send nothing when the checksums are equal. */
  readonly fastSync: boolean;
}

/** A checksum that holds for what is sent. */
export interface KnownChecksum {
  /** `crc64`. */
  readonly method: string;
  /** 16 hexadecimal digits. */
  readonly checksum: string;
}

/** How something is sent. */
export interface SendPlan {
  /** The data. */
  readonly source: SparseSource;
  /** The receiver bypasses its page cache; the size is in whole blocks then. */
  readonly direct: boolean;
  /** Its checksum, when there is one. */
  readonly checksum: KnownChecksum | undefined;
  /** Compare checksums first. */
  readonly fastSync: boolean;
}

/** Sends one file; see the module text. @throws {HttpError} {@linkcode IoError} {@linkcode RpcError} */
export async function sendFile(params: SendParams, context: JobContext): Promise<Record<string, never>> {
  const { directory, file } = params, record = isRecord(file);
  using use = useThreadQueue();
  using source = new FileSource(use.queue, `${directory}/${file}`);
  const { size, changedNs } = source;
  await send(params, {
    source: record ? recordSource(source) : source,
    direct: !record && size % 4096 === 0,
    checksum: record ? undefined : knownChecksum(use.queue.files, directory, file),
    fastSync: params.fastSync && !record,
  }, context.signal);
  if (source.changedNs !== changedNs && !record) {
    throw new Error(`${file} changed while it was sent (${changeTimeText(changedNs)}): send it again`);
  }
  return {};
}

/** The checksum of a file, as far as it holds. */
function knownChecksum(files: Files, directory: string, file: string): KnownChecksum | undefined {
  const known = readChecksum(files, directory, file);
  if (!known || known.silentlyCorrupted || known.method !== CHECKSUM_METHOD || known.checksum === "") return;
  if (known.changeTime !== changeTime(files, directory, file)) return undefined;
  return { method: known.method, checksum: known.checksum };
}

/** All of a record is data. */
function recordSource(source: FileSource): SparseSource {
  return {
    size: source.size,
    runs: (begin, end) => end > begin ? [{ offset: begin, length: end - begin }] : [],
    read: (into, offset) => source.read(into, offset),
  };
}

/** Sends something to a receiver. @throws {HttpError} */
export async function send(target: SendTarget, plan: SendPlan, signal: AbortSignal): Promise<void> {
  const { source, direct, checksum } = plan;
  await loadSums();
  const timeoutMs = Math.max(ANSWER_MS, target.timeoutS * 1000);
  const open = `open?begin=0&end=${source.size}&directIO=${direct}`;
  const { client, existed, extended } = await openReceiver(target, open, timeoutMs, signal);
  using connection = client;
  const same = plan.fastSync && existed && checksum !== undefined && await isSame(client, checksum);
  if (extended) {
    if (same) await connection.call("POST", "droverSame");
    else {
      using use = useThreadQueue();
      await sendBatches(client, source, use.queue, signal);
    }
  } else if (!same) {
    await sendPlain(target.host, target.port, timeoutMs, source, existed, signal);
  }
  const end = extended && target.shared ? "droverLeave" : "close";
  const { method = "", checksum: sum = "" } = checksum ?? {};
  await connection.call("POST", `${end}?checksumMethod=${method}&checksum=${sum}`);
}

async function openReceiver(
  { host, port }: SendTarget,
  open: string,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<{ client: SsyncClient; existed: boolean; extended: boolean }> {
  const deadline = performance.now() + OPEN_MS;
  for (;;) {
    checkCancelled(signal);
    let client: SsyncClient | undefined;
    try {
      client = await SsyncClient.connect(host, port, Math.max(timeoutMs, DROVER_ANSWER_MS));
      const reply = accepted(await client.send("GET", open).reply);
      return { client, existed: reply.text.trim() === "true", extended: reply.extended };
    } catch (error) {
      client?.[Symbol.dispose]();
      const refused = error instanceof HttpError && error.status >= 400 && error.status < 500;
      if (refused || performance.now() > deadline) throw error;
    }
    await pause(OPEN_PAUSE_MS, signal);
  }
}

/** Whether the receiver's file has this checksum, by a record that holds for it. */
async function isSame(client: SsyncClient, checksum: KnownChecksum): Promise<boolean> {
  const { status, text } = await client.send("GET", "getRecordedMetadata").reply;
  if (status !== 200) return false;
  try {
    const record = JSON.parse(text) as Record<string, unknown>;
    return record.method === checksum.method && record.checksum === checksum.checksum;
  } catch {
    return false;
  }
}
