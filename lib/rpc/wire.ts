/**
 * Services in the form that the gRPC library takes.
 *
 * @module
 */

import type * as grpc from "@grpc/grpc-js";
import { Buffer } from "node:buffer";
import type { Codec, Method, Service } from "./service.ts";

function serializer(codec: Codec): (message: unknown) => Buffer {
  return (message) => {
    const bytes = codec.encode(message).finish();
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };
}

/** One method. */
export function methodDefinition(method: Method): grpc.MethodDefinition<unknown, unknown> {
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

/** A whole service. */
export function definitionOf(service: Service<unknown>): grpc.ServiceDefinition {
  return Object.fromEntries([...service.methods].map(([key, method]) => [key, methodDefinition(method)]));
}
