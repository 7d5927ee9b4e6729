/**
 * Methods in the form that the gRPC library takes (its `MethodDefinition`).
 *
 * @module
 */

import { Buffer } from "node:buffer";
import type { Codec, Method } from "./service.ts";

/** One method, as the gRPC library takes it. */
export interface WireMethod {
  /** `/package.Service/Method`. */
  path: string;
  /** Name as in the .proto file. */
  originalName: string;
  /** Whether the client streams. */
  requestStream: boolean;
  /** Whether the server streams. */
  responseStream: boolean;
  /** Encodes a request. */
  requestSerialize: (message: unknown) => Buffer;
  /** Decodes a request. */
  requestDeserialize: (bytes: Uint8Array) => unknown;
  /** Encodes a response. */
  responseSerialize: (message: unknown) => Buffer;
  /** Decodes a response. */
  responseDeserialize: (bytes: Uint8Array) => unknown;
}

function serializer(codec: Codec): (message: unknown) => Buffer {
  return (message) => {
    const bytes = codec.encode(message).finish();
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };
}

/** One method. */
export function wireMethod(method: Method): WireMethod {
  return {
    path: method.path,
    originalName: method.name,
    requestStream: method.kind === "bidi",
    responseStream: method.kind !== "unary",
    requestSerialize: serializer(method.request),
    requestDeserialize: (bytes) => method.request.decode(bytes),
    responseSerialize: serializer(method.response),
    responseDeserialize: (bytes) => method.response.decode(bytes),
  };
}
