/**
 * Messages for tests: every message of the .proto files, with its generated class and a source of random contents.
 *
 * @module
 */

import fc from "fast-check";
import protobuf from "protobufjs";
import descriptor from "protobufjs/ext/descriptor.js";
import { DESCRIPTOR_FILES } from "../gen/descriptors.ts";
import * as grpcModule from "../gen/grpc.js";
import * as imrpcModule from "../gen/imrpc.js";
import * as profilerModule from "../gen/profilerrpc.js";
import * as ptypesModule from "../gen/ptypes.js";
import type { Codec } from "../service.ts";

/** A message under test. */
export interface TestMessage {
  /** Full name, `ptypes.Replica`. */
  readonly name: string;
  /** The file that declares it. */
  readonly file: string;
  /** Its generated class. */
  readonly codec: Codec;
  /** Calls a check with random contents, plain objects with the names of the generated code. */
  forAll(runs: number, check: (contents: Record<string, unknown>) => void): void;
  /** One random content, the same for the same seed. */
  sample(seed: number): Record<string, unknown>;
}

/** Deepest nesting of messages inside a random one. */
const MAX_DEPTH = 3;

const MODULES: Readonly<Record<string, object>> = {
  ptypes: ptypesModule,
  profilerrpc: profilerModule,
  grpc: grpcModule,
  imrpc: imrpcModule,
  google: ptypesModule,
};

/** The files as protobufjs reads them from our descriptors, so that the descriptors are tested along the way. */
function loadDescriptors(): protobuf.Root {
  const file = DESCRIPTOR_FILES.map(({ descriptor: text }) =>
    descriptor.FileDescriptorProto.decode(Uint8Array.fromBase64(text))
  );
  const set = descriptor.FileDescriptorSet.encode({ file }).finish();
  const root = protobuf.Root.fromDescriptor(set);
  root.resolveAll();
  return root;
}

function find(root: object, name: string): Codec {
  let at: unknown = root;
  for (const part of name.split(".")) at = (at as Record<string, unknown>)[part];
  return at as Codec;
}

/** No zeros, empty texts or false: proto3 does not send them, so they would be missing after decoding. */
function scalar(type: string, nearest: boolean): fc.Arbitrary<unknown> {
  switch (type) {
    case "string":
      return fc.string({ minLength: 1, maxLength: 20, unit: "grapheme" });
    case "bytes":
      return fc.uint8Array({ minLength: 1, maxLength: 20 });
    case "bool":
      return fc.constant(true);
    case "double":
      return fc.double({ noNaN: true }).filter((value) => value !== 0);
    case "int32":
      return fc.integer().filter((value) => value !== 0);
    case "uint32":
      return fc.nat().map((value) => value + 1);
    case "uint64":
      return fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
    case "int64":
      if (nearest) return fc.integer({ min: 1, max: 2 ** 43 }).map((value) => value * 2 ** 19);
      return fc.maxSafeInteger().filter((value) => value !== 0);
    default:
      throw new Error(`messages: no random ${type}`);
  }
}

function fieldContents(field: protobuf.Field, depth: number): fc.Arbitrary<unknown> {
  const one = (): fc.Arbitrary<unknown> => {
    if (field.resolvedType instanceof protobuf.Type) return contentsOf(field.resolvedType, depth + 1);
    if (field.resolvedType instanceof protobuf.Enum) {
      return fc.constantFrom(...Object.values(field.resolvedType.values).filter((value) => value !== 0));
    }
    return scalar(field.type, field.name === "lastModifyTime");
  };
  if (field instanceof protobuf.MapField) {
    const key = fc.string({ minLength: 1, maxLength: 12 }).filter((text) => text !== "__proto__");
    return fc.dictionary(key, one(), { minKeys: 1, maxKeys: 3, noNullPrototype: true });
  }
  return field.repeated ? fc.array(one(), { minLength: 1, maxLength: 3 }) : one();
}

function contentsOf(type: protobuf.Type, depth: number): fc.Arbitrary<Record<string, unknown>> {
  const fields = type.fieldsArray.filter((field) =>
    depth < MAX_DEPTH || !(field.resolvedType instanceof protobuf.Type)
  );
  const record = (chosen: protobuf.Field[]): fc.Arbitrary<Record<string, unknown>> =>
    fc.record(Object.fromEntries(chosen.map((field) => [field.name, fieldContents(field, depth)])), {
      requiredKeys: [],
      noNullPrototype: true,
    });
  const free = fields.filter((field) => !field.partOf);
  const choices = fields.filter((field) => field.partOf);
  return choices.length === 0 ? record(free) : fc.oneof(...choices.map((field) => record([...free, field])));
}

function* typesBelow(space: protobuf.NamespaceBase): Generator<protobuf.Type> {
  for (const object of space.nestedArray) {
    if (object instanceof protobuf.Type) yield object;
    if (object instanceof protobuf.Namespace) yield* typesBelow(object);
  }
}

/** All messages of all files. */
export function allMessages(): TestMessage[] {
  const files = new Map(
    DESCRIPTOR_FILES.flatMap(({ name, symbols }) => symbols.map((symbol) => [symbol, name])),
  );
  return [...typesBelow(loadDescriptors())].map((type) => {
    const name = type.fullName.slice(1);
    const module = MODULES[name.split(".")[0] ?? ""] ?? imrpcModule; // those without a package
    const contents = contentsOf(type, 0);
    return {
      name,
      file: files.get(name) ?? "",
      codec: find(module, name),
      forAll: (numRuns, check) => fc.assert(fc.property(contents, check), { numRuns }),
      sample: (seed) => fc.sample(contents, { seed, numRuns: 1 })[0] ?? {},
    };
  });
}
