/**
 * A thread of {@linkcode CodecPool}.
 *
 * @module
 */
import { type Bytes, decodeBlock, encodeBlock, owned } from "./codec.ts";
import type { CodecReply, CodecRequest } from "./codec_pool.ts";
import { loadLz4 } from "./lz4_frame.ts";
import { checksumOf } from "./names.ts";

interface Scope {
  onmessage: ((event: MessageEvent<CodecRequest>) => void) | null;
  postMessage(reply: CodecReply, transfer: Transferable[]): void;
}

function work(request: CodecRequest): { data: Bytes; checksum: string } {
  const { data } = request;
  switch (request.kind) {
    case "hash":
      return { data, checksum: checksumOf(data) };
    case "encode":
      return { data: encodeBlock(data, request.method), checksum: "" };
    case "decode": {
      const { method, checksum, maxBytes } = request;
      return { data: owned(decodeBlock(data, method, checksum, maxBytes)), checksum };
    }
  }
}

const scope = self as unknown as Scope;
const ready = loadLz4();
scope.onmessage = async ({ data: request }) => {
  try {
    await ready;
    const result = work(request);
    scope.postMessage({ id: request.id, ok: true, ...result }, [result.data.buffer]);
  } catch (error) {
    scope.postMessage({ id: request.id, ok: false, problem: (error as Error).message }, []);
  }
};
