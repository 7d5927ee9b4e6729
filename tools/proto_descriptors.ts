/**
 * Makes google.protobuf.FileDescriptorProto of parsed .proto files, one per file and with the original names.
 * protobufjs can only describe a whole namespace as one invented file; reflection clients want the real files.
 *
 * Comments and options are left out, except `map_entry`, without which a map cannot be understood.
 *
 * @module
 */

import { readFileSync } from "node:fs";
import { isAbsolute, join, relative } from "node:path";
import protobuf from "protobufjs";
import descriptor from "protobufjs/ext/descriptor.js";

/** A .proto file: its encoded descriptor and what is needed to find it. */
export interface DescriptorFile {
  /** Name as other files import it. */
  name: string;
  /** Names of the files it imports. */
  imports: string[];
  /** Full names of the services, methods, messages and enums it declares. */
  symbols: string[];
  /** The encoded FileDescriptorProto in base64. */
  descriptor: string;
}

/** FieldDescriptorProto.Type by the name of the type in a .proto file. */
const FIELD_TYPE: Readonly<Record<string, number>> = {
  double: 1,
  float: 2,
  int64: 3,
  uint64: 4,
  int32: 5,
  fixed64: 6,
  fixed32: 7,
  bool: 8,
  string: 9,
  bytes: 12,
  uint32: 13,
  sfixed32: 15,
  sfixed64: 16,
  sint32: 17,
  sint64: 18,
};
const TYPE_MESSAGE = 11;
const TYPE_ENUM = 14;
const LABEL_OPTIONAL = 1;
const LABEL_REPEATED = 3;

/** Plain forms of the messages of google/protobuf/descriptor.proto, as far as they are filled here. */
interface FieldPlain {
  name: string;
  number: number;
  label: number;
  type: number;
  typeName?: string;
  jsonName: string;
  oneofIndex?: number;
}
interface MessagePlain {
  name: string;
  field: FieldPlain[];
  nestedType: MessagePlain[];
  enumType: EnumPlain[];
  oneofDecl: { name: string }[];
  options?: { mapEntry: boolean };
}
interface EnumPlain {
  name: string;
  value: { name: string; number: number }[];
}

/** protoc's rule for JSON names: drop each underscore and raise the letter after it. */
function jsonName(name: string): string {
  return name.replace(/_+(.?)/g, (_all, letter: string) => letter.toUpperCase());
}

/** protoc's rule for the entry type of a map field. */
function entryName(name: string): string {
  const camel = jsonName(name);
  return camel.charAt(0).toUpperCase() + camel.slice(1) + "Entry";
}

function typeOf(
  type: string,
  resolved: protobuf.ReflectionObject | null,
): { type: number; typeName?: string } {
  if (resolved instanceof protobuf.Enum) return { type: TYPE_ENUM, typeName: resolved.fullName };
  if (resolved !== null) return { type: TYPE_MESSAGE, typeName: resolved.fullName };
  const number = FIELD_TYPE[type];
  if (number === undefined) throw new Error(`proto_descriptors: unknown field type ${type}`);
  return { type: number };
}

function mapEntry(field: protobuf.MapField): MessagePlain {
  const plain = (name: string, number: number, type: { type: number; typeName?: string }): FieldPlain => ({
    name,
    number,
    label: LABEL_OPTIONAL,
    ...type,
    jsonName: name,
  });
  return {
    name: entryName(field.name),
    field: [
      plain("key", 1, typeOf(field.keyType, null)),
      plain("value", 2, typeOf(field.type, field.resolvedType)),
    ],
    nestedType: [],
    enumType: [],
    oneofDecl: [],
    options: { mapEntry: true },
  };
}

function fieldOf(type: protobuf.Type, field: protobuf.Field): FieldPlain {
  const base = { name: field.name, number: field.id, jsonName: jsonName(field.name) };
  if (field instanceof protobuf.MapField) {
    const typeName = `${type.fullName}.${entryName(field.name)}`;
    return { ...base, label: LABEL_REPEATED, type: TYPE_MESSAGE, typeName };
  }
  const label = field.repeated ? LABEL_REPEATED : LABEL_OPTIONAL;
  const plain: FieldPlain = { ...base, label, ...typeOf(field.type, field.resolvedType) };
  if (field.partOf) plain.oneofIndex = type.oneofsArray.indexOf(field.partOf);
  return plain;
}

function enumOf(object: protobuf.Enum): EnumPlain {
  return {
    name: object.name,
    value: Object.entries(object.values).map(([name, number]) => ({ name, number })),
  };
}

function messageOf(type: protobuf.Type): MessagePlain {
  const nested = type.nestedArray;
  return {
    name: type.name,
    field: type.fieldsArray.map((field) => fieldOf(type, field)),
    nestedType: [
      ...type.fieldsArray.filter((field) => field instanceof protobuf.MapField).map(mapEntry),
      ...nested.filter((object) => object instanceof protobuf.Type).map(messageOf),
    ],
    enumType: nested.filter((object) => object instanceof protobuf.Enum).map(enumOf),
    oneofDecl: type.oneofsArray.map((oneof) => ({ name: oneof.name })),
  };
}

function serviceOf(service: protobuf.Service): { name: string; method: Record<string, unknown>[] } {
  return {
    name: service.name,
    method: service.methodsArray.map((method) => ({
      name: method.name,
      inputType: method.resolvedRequestType?.fullName,
      outputType: method.resolvedResponseType?.fullName,
      ...(method.requestStream ? { clientStreaming: true } : {}),
      ...(method.responseStream ? { serverStreaming: true } : {}),
    })),
  };
}

/** Every message, enum and service at the top of a file, in the order of declaration. */
function* topLevel(space: protobuf.NamespaceBase): Generator<protobuf.ReflectionObject> {
  for (const object of space.nestedArray) {
    if (
      object instanceof protobuf.Type || object instanceof protobuf.Enum || object instanceof protobuf.Service
    ) yield object;
    else if (object instanceof protobuf.Namespace) yield* topLevel(object);
  }
}

/** Full names, without the leading dot, of an object and of all that it contains. */
function* symbolsOf(object: protobuf.ReflectionObject): Generator<string> {
  yield object.fullName.slice(1);
  if (object instanceof protobuf.Service) {
    for (const method of object.methodsArray) yield method.fullName.slice(1);
  }
  if (object instanceof protobuf.Type) { for (const nested of object.nestedArray) yield* symbolsOf(nested); }
}

/** The file that declares an object at the top. What comes with protobufjs knows no file name. */
function fileOf(object: protobuf.ReflectionObject, protoDir: string): string {
  if (object.filename) {
    return isAbsolute(object.filename) ? relative(protoDir, object.filename) : object.filename;
  }
  if (object.fullName === ".google.protobuf.Empty") return "google/protobuf/empty.proto";
  throw new Error(`proto_descriptors: ${object.fullName}: no file name; teach fileOf() where it is declared`);
}

/** The imports and the package of a file; protobufjs does not keep them per file. */
function headOf(file: string, protoDir: string): { imports: string[]; package: string | undefined } {
  // google/protobuf/* come with protobufjs and import nothing that is used here.
  if (file.startsWith("google/protobuf/")) return { imports: [], package: "google.protobuf" };
  const parsed = protobuf.parse(readFileSync(join(protoDir, file), "utf8"), new protobuf.Root());
  return { imports: parsed.imports ?? [], package: parsed.package };
}

/**
 * Describes all files of a root that was loaded with `keepCase` and resolved.
 *
 * @param root the parsed files
 * @param protoDir the directory that file names are relative to
 * @returns the files, each after those it imports
 */
export function describe(root: protobuf.Root, protoDir: string): DescriptorFile[] {
  const objects = new Map<string, protobuf.ReflectionObject[]>();
  for (const object of topLevel(root)) {
    const file = fileOf(object, protoDir);
    objects.set(file, [...objects.get(file) ?? [], object]);
  }
  const done = new Map<string, DescriptorFile>();
  const visit = (file: string): void => {
    if (done.has(file)) return;
    const head = headOf(file, protoDir);
    head.imports.forEach(visit);
    const own = objects.get(file) ?? [];
    const plain = {
      name: file,
      ...(head.package === undefined ? {} : { package: head.package }),
      dependency: head.imports,
      messageType: own.filter((object) => object instanceof protobuf.Type).map(messageOf),
      enumType: own.filter((object) => object instanceof protobuf.Enum).map(enumOf),
      service: own.filter((object) => object instanceof protobuf.Service).map(serviceOf),
      syntax: "proto3",
    };
    const bytes = descriptor.FileDescriptorProto.encode(plain).finish();
    done.set(file, {
      name: file,
      imports: head.imports,
      symbols: own.flatMap((object) => [...symbolsOf(object)]),
      descriptor: bytes.toBase64(),
    });
  };
  [...objects.keys()].sort().forEach(visit);
  return [...done.values()];
}
