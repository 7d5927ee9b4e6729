/**
 * Generates `lib/rpc/gen/` from `proto/`: message and service code with its types (protobufjs static modules),
 * and the file descriptors that server reflection hands out. The result is committed, so that nothing has to be
 * generated before the first run; `gen/manifest.json` records what it was made from, and a test compares.
 *
 * Names: fields are camelCase in TypeScript whatever the .proto file says (`last_expansion_error` becomes
 * `lastExpansionError`, `isExpanding` stays), methods begin with a small letter (`replicaGet`). Descriptors keep
 * the names of the .proto files, as other implementations have them.
 *
 * 64-bit integers are numbers; what is beyond 2^53 - 1 is an error (see `lib/rpc/numbers.ts`) except in fields
 * marked `[jstype = JS_NUMBER]`, which take the nearest number.
 *
 * Usage: `deno task gen`
 *
 * @module
 */

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import protobuf from "protobufjs";
import pbjs from "protobufjs-cli/pbjs.js";
import cli from "protobufjs-cli/package.json" with { type: "json" };
import library from "protobufjs/package.json" with { type: "json" };
import { describe, type DescriptorFile } from "./proto_descriptors.ts";

const HERE = import.meta.dirname ?? ".";

/** Directory of the .proto files. */
export const PROTO_DIR: string = join(HERE, "..", "proto");

/** Directory of the generated files. */
export const GEN_DIR: string = join(HERE, "..", "lib", "rpc", "gen");

/** One generated module per group: its own protobufjs root, so that loading one does not load the others. */
const GROUPS: Readonly<Record<string, readonly string[]>> = {
  ptypes: [
    "ptypes/common.proto",
    "ptypes/controller.proto",
    "ptypes/replica.proto",
    "ptypes/syncagent.proto",
  ],
  profilerrpc: ["profilerrpc/profilerrpc.proto"],
  grpc: [
    "grpc/health/v1/health.proto",
    "grpc/reflection/v1/reflection.proto",
    "grpc/reflection/v1alpha/reflection.proto",
  ],
  imrpc: [
    "imrpc/common.proto",
    "imrpc/imrpc.proto",
    "imrpc/instance.proto",
    "imrpc/proxy.proto",
    "imrpc/disk.proto",
  ],
};

/** What the committed files were made from and what came out: SHA-256 of each file, in hexadecimal. */
export interface Manifest {
  /** Versions of the generators. */
  tools: Record<string, string>;
  /** Inputs by path, relative to the top of the repository. */
  inputs: Record<string, string>;
  /** Outputs by name. */
  outputs: Record<string, string>;
}

/** The part of pbjs that turns a parsed root into a module; its type declarations only show the command line. */
interface Generator {
  generate(
    root: protobuf.Root,
    options: Record<string, unknown>,
    done: (error: Error | null, code?: string, types?: string) => void,
  ): void;
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** Loads .proto files of {@linkcode PROTO_DIR} with everything they import. */
function load(files: readonly string[], keepCase: boolean): protobuf.Root {
  const root = new protobuf.Root();
  root.resolvePath = (_origin, target) => {
    const own = join(PROTO_DIR, target);
    return existsSync(own) ? own : target; // google/protobuf/* come with protobufjs
  };
  root.loadSync([...files], { keepCase, alternateCommentMode: true });
  root.resolveAll();
  return root;
}

function runGenerator(root: protobuf.Root, options: Record<string, unknown>): Promise<[string, string]> {
  return new Promise((resolve, reject) =>
    (pbjs as unknown as Generator).generate(
      root,
      options,
      (error, code, types) => error ? reject(error) : resolve([code ?? "", types ?? ""]),
    )
  );
}

/** Fields that take the nearest number, by their name in TypeScript. */
function nearestFields(space: protobuf.NamespaceBase, into: Set<string>): Set<string> {
  for (const object of space.nestedArray) {
    if (object instanceof protobuf.Type) {
      for (const field of object.fieldsArray) {
        if (field.options?.["jstype"] === "JS_NUMBER") into.add(field.name);
      }
    }
    if (object instanceof protobuf.Namespace) nearestFields(object, into);
  }
  return into;
}

/**
 * Lets the fields marked `[jstype = JS_NUMBER]` use the reader and writer methods that round. A field is found
 * by its name, which must therefore be unlike that of every other 64-bit field of the group.
 */
function roundFields(code: string, names: Iterable<string>): string {
  let result = code;
  for (const name of names) {
    const write = new RegExp(`\\.int64\\(message\\.${name}\\)`, "g");
    const read = new RegExp(`reader\\.int64\\(\\)(?=[^\\n]*\\n\\s*message\\.${name} = value)`, "g");
    if (result.match(write)?.length !== 1 || result.match(read)?.length !== 1) {
      throw new Error(
        `gen_proto: field ${name} has jstype but is not exactly one int64 field; rename or unmark it`,
      );
    }
    result = result.replace(write, `.int64Nearest(message.${name})`).replace(read, "reader.int64Nearest()");
  }
  return result;
}

/**
 * Makes the types say what a decoded message really is: message fields and elements are messages, with all their
 * defaults, not plain objects in which everything may be absent.
 */
function sharpenTypes(types: string): string {
  let inClass = false;
  return types.split("\n").map((line) => {
    const start = /^\s*(?:export )?(class|interface|namespace|enum|type) /.exec(line);
    if (start !== null) inClass = start[1] === "class";
    if (/^\s+static decode\(/.test(line)) return line.replace(/\): ([\w.]+) & \1\.\$Shape;/, "): $1;");
    return inClass && /^\s+\w+\??: /.test(line) ? line.replaceAll(".$Properties", "") : line;
  }).join("\n");
}

/**
 * Prepares the types for the documentation check: a comment where pbjs leaves none, and no base class of
 * protobufjs behind the service classes, whose methods are never called.
 */
function documentTypes(types: string): string {
  let documented = false;
  return types.replaceAll(" extends $protobuf.rpc.Service {", " {").split("\n").map((line) => {
    const match = /^(\s*)(?:export )?(static|namespace) (\w+)/.exec(line);
    const missing = match !== null && !documented;
    if (line.trim() !== "") documented = line.trimEnd().endsWith("*/");
    if (!missing) return line;
    const text = match[2] === "static"
      ? "The same, with some of the properties."
      : `What belongs to ${match[3]}.`;
    return `${match[1]}/** ${text} */\n${line}`;
  }).join("\n");
}

/**
 * The code and the types of one group. The code is generated without comments (a third of the size to load),
 * the types with the comments of the .proto files.
 */
async function generateGroup(name: string, files: readonly string[]): Promise<[string, string]> {
  const root = load(files, false);
  const options = {
    target: "static-module",
    wrap: "esm",
    root: name,
    "force-number": true,
    verify: false,
    delimited: false,
    typeurl: false,
    convert: false,
  };
  const [, types] = await runGenerator(root, { ...options, dts: true });
  const [code] = await runGenerator(root, { ...options, comments: false });
  const head = "// Generated by tools/gen_proto.ts from proto/. Do not edit.\n";
  return [
    `${head}// @ts-self-types="./${name}.d.ts"\nimport "../numbers.ts";\n` +
    roundFields(code, nearestFields(root, new Set())),
    head + documentTypes(sharpenTypes(types)),
  ];
}

/** The module with the descriptors of all .proto files, for server reflection. */
function descriptorModule(): string {
  const root = load(Object.values(GROUPS).flat(), true);
  const files: DescriptorFile[] = describe(root, PROTO_DIR);
  return [
    "// Generated by tools/gen_proto.ts from proto/. Do not edit.",
    "",
    "/** A .proto file: its encoded google.protobuf.FileDescriptorProto and what is needed to find it. */",
    "export interface DescriptorFile {",
    "  /** Name as other files import it. */",
    "  readonly name: string;",
    "  /** Names of the files it imports. */",
    "  readonly imports: readonly string[];",
    "  /** Full names of the services, methods, messages and enums it declares. */",
    "  readonly symbols: readonly string[];",
    "  /** The encoded FileDescriptorProto in base64. */",
    "  readonly descriptor: string;",
    "}",
    "",
    "/** All files, each after those it imports. */",
    `export const DESCRIPTOR_FILES: readonly DescriptorFile[] = ${JSON.stringify(files, null, 2)};`,
    "",
  ].join("\n");
}

function protoInputs(): string[] {
  return readdirSync(PROTO_DIR, { recursive: true, encoding: "utf8" }).filter((f) => f.endsWith(".proto"))
    .sort();
}

/** The manifest that belongs to the present .proto files, this tool and the given outputs. */
export function manifestOf(outputs: ReadonlyMap<string, string>): Manifest {
  const inputs: Record<string, string> = {};
  for (const file of protoInputs()) {
    inputs[`proto/${file}`] = sha256(readFileSync(join(PROTO_DIR, file), "utf8"));
  }
  for (const file of ["gen_proto.ts", "proto_descriptors.ts"]) {
    inputs[`tools/${file}`] = sha256(readFileSync(join(HERE, file), "utf8"));
  }
  return {
    tools: { "protobufjs-cli": cli.version, protobufjs: library.version },
    inputs,
    outputs: Object.fromEntries([...outputs].map(([name, text]) => [name, sha256(text)])),
  };
}

/** Generates everything but the manifest: file name to content. */
export async function generate(): Promise<Map<string, string>> {
  const known = new Set(Object.values(GROUPS).flat());
  const stray = protoInputs().filter((file) => !known.has(file));
  if (stray.length > 0) {
    throw new Error(`gen_proto: ${stray.join(", ")}: in no group of tools/gen_proto.ts; add it`);
  }
  const outputs = new Map<string, string>();
  for (const [name, files] of Object.entries(GROUPS)) {
    const [code, types] = await generateGroup(name, files);
    outputs.set(`${name}.js`, code).set(`${name}.d.ts`, types);
  }
  return outputs.set("descriptors.ts", descriptorModule());
}

/** Generates into {@linkcode GEN_DIR} and removes what is not generated any more. */
async function main(): Promise<void> {
  const outputs = await generate();
  mkdirSync(GEN_DIR, { recursive: true });
  for (const file of readdirSync(GEN_DIR)) {
    if (!outputs.has(file)) rmSync(join(GEN_DIR, file));
  }
  for (const [name, text] of outputs) writeFileSync(join(GEN_DIR, name), text);
  writeFileSync(join(GEN_DIR, "manifest.json"), JSON.stringify(manifestOf(outputs), null, 2) + "\n");
}

if (import.meta.main) await main();
