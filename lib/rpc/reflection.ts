/**
 * Server reflection, v1 and v1alpha: lists the services of a server and hands out their descriptors, so that
 * grpcurl and its like need no .proto files.
 *
 * @module
 */

import { Code } from "./errors.ts";
import { DESCRIPTOR_FILES, type DescriptorFile } from "./gen/descriptors.ts";
import * as generated from "./gen/grpc.js";
import { defineService, implement, type Implementation } from "./service.ts";

const { v1, v1alpha } = generated.grpc.reflection;

type Request = InstanceType<typeof v1.ServerReflectionRequest>;
type Response = generated.grpc.reflection.v1.ServerReflectionResponse.$Properties;

const byName: ReadonlyMap<string, DescriptorFile> = new Map(
  DESCRIPTOR_FILES.map((file) => [file.name, file]),
);
const bySymbol: ReadonlyMap<string, DescriptorFile> = new Map(
  DESCRIPTOR_FILES.flatMap((file) => file.symbols.map((symbol) => [symbol, file] as const)),
);

/** A file and all it imports, directly or not: the file asked for comes first. */
function closure(file: DescriptorFile): Uint8Array[] {
  const seen = new Set<DescriptorFile>([file]);
  for (const known of seen) {
    for (const name of known.imports) {
      const imported = byName.get(name);
      if (imported) seen.add(imported);
    }
  }
  return [...seen].map((known) => Uint8Array.fromBase64(known.descriptor));
}

function files(found: DescriptorFile | undefined, asked: string): Response {
  if (found === undefined) return failure(Code.NOT_FOUND, `${asked}: not known to this server`);
  return { fileDescriptorResponse: { fileDescriptorProto: closure(found) } };
}

function failure(errorCode: Code, errorMessage: string): Response {
  return { errorResponse: { errorCode, errorMessage } };
}

function answer(services: readonly string[], request: Request): Response {
  switch (request.messageRequest) {
    case "listServices":
      return { listServicesResponse: { service: services.map((name) => ({ name })) } };
    case "fileByFilename":
      return files(byName.get(request.fileByFilename ?? ""), `file ${request.fileByFilename}`);
    case "fileContainingSymbol":
      return files(
        bySymbol.get(request.fileContainingSymbol ?? ""),
        `symbol ${request.fileContainingSymbol}`,
      );
    case "allExtensionNumbersOfType":
      return bySymbol.has(request.allExtensionNumbersOfType ?? "")
        ? { allExtensionNumbersResponse: { baseTypeName: request.allExtensionNumbersOfType ?? "" } }
        : failure(Code.NOT_FOUND, `type ${request.allExtensionNumbersOfType}: not known to this server`);
    case "fileContainingExtension":
      return failure(Code.NOT_FOUND, "there are no extensions in these files");
    default:
      return failure(Code.INVALID_ARGUMENT, "the request asks for nothing");
  }
}

/**
 * The reflection services of a server.
 *
 * @param names full names of its other services, without health
 */
export function reflectionServices(names: readonly string[]): Implementation[] {
  const services = [v1, v1alpha].map((space) => ({
    space,
    service: defineService(generated, v1, space.ServerReflection),
  }));
  const all = [...names, "grpc.health.v1.Health", ...services.map(({ service }) => service.name)].sort();
  return services.map(({ service }) =>
    implement(service, {
      async *serverReflectionInfo(requests: AsyncIterable<Request>) {
        for await (const request of requests) {
          yield { validHost: request.host, originalRequest: request, ...answer(all, request) };
        }
      },
    })
  );
}
