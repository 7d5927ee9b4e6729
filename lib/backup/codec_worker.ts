/**
 * A thread of {@linkcode CodecPool}.
 *
 * @module
 */
import { type Bytes, decodeBlock, encodeBlock } from "./codec.ts";
import type { CodecReply, CodecRequest } from "./codec_pool.ts";
import { loadLz4 } from "./lz4_frame.ts";
import { checksumOf } from "./names.ts";

interface Scope {
  onmessage: ((event: MessageEvent<CodecRequest>) => void) | null;
  postMessage(reply: CodecReply, transfer: Transferable[]): void;
}

function work(request: CodecRequest): { data: Bytes; spare: Bytes; checksum: string } {
  const { data } = request;
  switch (request.kind) {
    case "hash":
      return { data, spare: data, checksum: checksumOf(data) };
    case "encode":
      return { data: encodeBlock(data, request.method, request.into), spare: data, checksum: "" };
    case "decode": {
      const { method, checksum, into } = request;
      return { data: decodeBlock(data, method, checksum, into), spare: data, checksum };
    }
  }
}

const scope = self as unknown as Scope;
const ready = loadLz4();
scope.onmessage = async ({ data: request }) => {
  try {
    await ready;
    const result = work(request);
    const memory = new Set([result.data.buffer, result.spare.buffer]);
    scope.postMessage({ id: request.id, ok: true, ...result }, [...memory]);
  } catch (error) {
    scope.postMessage({ id: request.id, ok: false, problem: (error as Error).message }, []);
  }
};
