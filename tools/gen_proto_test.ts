import assert from "node:assert/strict";
import descriptor from "protobufjs/ext/descriptor.js";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { peerTest } from "../tests/support/conditional.ts";
import { run } from "../tests/support/process.ts";
import { tempDir } from "../tests/support/temp.ts";
import { DESCRIPTOR_FILES } from "../lib/rpc/gen/descriptors.ts";
import { GEN_DIR, generate, type Manifest, manifestOf, PROTO_DIR } from "./gen_proto.ts";

const STALE = 'lib/rpc/gen/ is not what proto/ and tools/ give; run "deno task gen" and commit the result';

function committed(name: string): string {
  return readFileSync(join(GEN_DIR, name), "utf8");
}

Deno.test("the manifest belongs to the present .proto files, tools and generated files", () => {
  const manifest = JSON.parse(committed("manifest.json")) as Manifest;
  const outputs = new Map(Object.keys(manifest.outputs).map((name) => [name, committed(name)]));
  assert.deepEqual(manifest, manifestOf(outputs), STALE);
});

Deno.test("generating again gives the committed files", async () => {
  for (const [name, text] of await generate()) assert.ok(text === committed(name), `${name}: ${STALE}`);
});

/** A descriptor as a plain object, without options (only protoc keeps all of them), its lists in one order. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain).sort((a, b) => nameOf(a) < nameOf(b) ? -1 : 1);
  if (typeof value !== "object" || value === null) return value;
  const fields = Object.entries(value).map(([key, inner]) => [key, plain(inner)] as const);
  return Object.fromEntries(
    fields.filter(([key, inner]) =>
      (key !== "options" || "mapEntry" in (inner as object)) && !isEmpty(inner)
    ),
  );
}

function nameOf(value: unknown): string {
  return typeof value === "object" && value !== null && "name" in value ? String(value.name) : String(value);
}

function isEmpty(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0;
}

peerTest("the descriptors for reflection say what protoc says", { needs: ["protoc"] }, async () => {
  using directory = tempDir();
  const path = directory.join("set");
  const names = DESCRIPTOR_FILES.map(({ name }) => name);
  await run("protoc", [
    `--proto_path=${PROTO_DIR}`,
    "--include_imports",
    `--descriptor_set_out=${path}`,
    ...names,
  ]);
  const theirs = descriptor.FileDescriptorSet.decode(Deno.readFileSync(path)).file;
  const ours = DESCRIPTOR_FILES.map(({ descriptor: text }) =>
    descriptor.FileDescriptorProto.decode(Uint8Array.fromBase64(text))
  );
  assert.equal(ours.length, names.length);
  assert.deepEqual(plain(ours), plain(theirs));
});
