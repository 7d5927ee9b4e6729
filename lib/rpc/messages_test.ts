import assert from "node:assert/strict";
import fc from "fast-check";
import { fileURLToPath } from "node:url";
import { peerTest } from "../../tests/support/conditional.ts";
import { ptypes } from "./mod.ts";
import { allMessages, type TestMessage } from "./testing/messages.ts";

const PROTO_DIR = fileURLToPath(new URL("../../proto", import.meta.url));

const messages = allMessages();

function message(name: string): TestMessage {
  const found = messages.find((candidate) => candidate.name === name);
  assert.ok(found, name);
  return found;
}

/** Own fields only, all the way down, without empty lists and maps: what is on the wire. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return [...value];
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  const fields = Object.entries(value).map(([key, inner]) => [key, plain(inner)] as const);
  return Object.fromEntries(fields.filter(([, inner]) => !isEmpty(inner)));
}

/** An empty message field is on the wire and an empty list is not, but here both are left out. */
function isEmpty(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).length === 0;
}

async function protoc(args: string[], input: Uint8Array): Promise<Uint8Array> {
  const child = new Deno.Command("protoc", {
    args: [`--proto_path=${PROTO_DIR}`, ...args],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(input);
  await writer.close();
  const { success, stdout, stderr } = await child.output();
  assert.ok(success, new TextDecoder().decode(stderr));
  return stdout;
}

Deno.test("every message of every file is decoded as what was encoded", () => {
  assert.ok(messages.length > 150);
  for (const { name, codec, forAll } of messages) {
    forAll(20, (contents) => {
      const decoded = codec.decode(codec.encode(contents).finish());
      assert.deepEqual(plain(decoded), plain(contents), name);
    });
  }
});

Deno.test("no bytes make a decoder do anything but answer or refuse", () => {
  const some = ["ptypes.Replica", "ptypes.FilesSyncRequest", "imrpc.InstanceSpec"].map(message);
  for (const { codec } of some) {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        assert.equal(typeof codec.decode(bytes), "object");
      } catch (error) {
        assert.ok(error instanceof Error);
      }
    }));
  }
});

Deno.test("a length that a message only claims is refused and nothing is allocated for it", () => {
  // Field 9 (chain, repeated string) of Replica with a length of 2^31 - 1, and nothing behind it.
  const bytes = new Uint8Array([9 << 3 | 2, 255, 255, 255, 255, 7]);
  assert.throws(() => ptypes.Replica.decode(bytes), RangeError);
});

peerTest(
  "protoc reads and writes every message as the generated code does",
  { needs: ["protoc"] },
  async () => {
    const one = async ({ name, file, codec, sample }: TestMessage): Promise<void> => {
      const value = sample(42);
      const bytes = codec.encode(value).finish();
      const text = await protoc([`--decode=${name}`, file], bytes);
      assert.doesNotMatch(
        new TextDecoder().decode(text),
        /^\s*\d+:/m,
        `${name}: protoc does not know a field`,
      );
      const back = codec.decode(await protoc([`--encode=${name}`, file], text));
      assert.deepEqual(plain(back), plain(value), name);
    };
    const waiting = [...messages].filter(({ file }) => !file.startsWith("google/"));
    const lane = async (): Promise<void> => {
      for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) await one(next);
    };
    await Promise.all([lane(), lane()]);
  },
);

peerTest("fields have the numbers and types that Longhorn gives them", { needs: ["protoc"] }, async () => {
  const bytes = ptypes.Replica.encode({
    dirty: true,
    head: "volume-head-002.img",
    size: "1073741824",
    sectorSize: 512,
    chain: ["volume-head-002.img", "volume-snap-a.img"],
    disks: { "volume-snap-a.img": { name: "volume-snap-a.img", children: { "volume-head-002.img": true } } },
    lastModifyTime: 1_763_771_234_567_891_200,
    snapshotCountTotal: 3,
    droverFeatures: 1,
    drover: { id: "r1", generation: 7, members: ["r1", "r2"] },
  }).finish();
  assert.equal(
    new TextDecoder().decode(await protoc(["--decode_raw"], bytes)),
    `1: 1
3: "volume-head-002.img"
5: "1073741824"
6: 512
9: "volume-head-002.img"
9: "volume-snap-a.img"
10 {
  1: "volume-snap-a.img"
  2 {
    1: "volume-snap-a.img"
    3 {
      1: "volume-head-002.img"
      2: 1
    }
  }
}
13: 1763771234567891200
19: 3
1000: 1
1001 {
  1: "r1"
  2: 7
  3: "r1"
  3: "r2"
}
`,
  );
});

Deno.test("a peer that does not know our fields skips them", () => {
  const bytes = ptypes.ReplicaOpenRequest.encode({
    isUpgrade: true,
    droverCopies: ["a"],
  })
    .finish();
  // google.protobuf.Empty is what the oldest peers take: it knows no field at all.
  assert.deepEqual(plain(message("google.protobuf.Empty").codec.decode(bytes)), {});
  const record = ptypes.Replica.encode({ size: "7", droverFeatures: 3, drover: { id: "r1", generation: 5 } })
    .finish();
  const known = ptypes.Replica.encode({ size: "7" }).finish();
  assert.deepEqual([...record.subarray(0, known.length)], [...known], "our fields come last");
});
