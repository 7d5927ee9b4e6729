import assert from "node:assert/strict";
import fc from "fast-check";
import { libc } from "../../io/libc.ts";
import type { HostContext } from "../context.ts";
import { HostError } from "../retry.ts";
import { keptLog, ScriptedRunner } from "../test_kit.ts";
import { detachNbd, listNbdDevices, requireNbd } from "./device.ts";
import { connectNbd, encodeGo, readExport, readGreeting } from "./handshake.ts";
import {
  decodeAnswers,
  decodeAttributes,
  encodeAttributes,
  encodeMessage,
  familyOf,
  nbdAttributes,
} from "./netlink.ts";
import { peerTest, testUnless } from "../../../tests/support/conditional.ts";
import { spawnLogged } from "../../../tests/support/process.ts";
import { tempDir } from "../../../tests/support/temp.ts";
import { waitFor } from "../../../tests/support/wait.ts";

Deno.test("the kernel tells the number of a family, and that there is none", () => {
  assert.equal(familyOf("nlctrl"), 16);
  assert.equal(familyOf("drover-has-none"), undefined);
});

Deno.test("the attributes of a connection are laid out as the kernel reads them", () => {
  const bytes = encodeAttributes(nbdAttributes({
    index: 3,
    bytes: 2 ** 40,
    sockets: [7, 8],
    backend: "drover:v",
  }));
  const found = decodeAttributes(bytes);
  assert.deepEqual([...found.keys()], [1, 2, 7, 10]);
  assert.deepEqual(found.get(1), new Uint8Array([3, 0, 0, 0]));
  assert.deepEqual(found.get(2), new Uint8Array([0, 0, 0, 0, 0, 1, 0, 0]));
  assert.deepEqual(new TextDecoder().decode(found.get(10)), "drover:v\0");
  // Each item: length 12, type 1 nested; in it length 8, type 1, the descriptor.
  const item = (fd: number) => [12, 0, 1, 0x80, 8, 0, 1, 0, fd, 0, 0, 0];
  assert.deepEqual([...found.get(7) ?? []], [...item(7), ...item(8)]);
});

Deno.test("attributes come back as they were, whatever their length", () => {
  const attribute = fc.record({ type: fc.integer({ min: 1, max: 200 }), text: fc.string() });
  fc.assert(fc.property(fc.uniqueArray(attribute, { selector: ({ type }) => type }), (list) => {
    const bytes = encodeAttributes(list.map(({ type, text }) => ({ type, value: { text } })));
    assert.equal(bytes.length % 4, 0);
    const found = decodeAttributes(bytes);
    assert.equal(found.size, list.length);
    for (const { type, text } of list) {
      assert.equal(new TextDecoder("utf-8", { ignoreBOM: true }).decode(found.get(type)), `${text}\0`);
    }
  }));
});

Deno.test("answers of other requests are left out, and so is what is cut off", () => {
  const ours = encodeMessage(30, 1, 5, [{ type: 1, value: { u32: 4 } }]);
  const other = encodeMessage(30, 1, 4, [{ type: 1, value: { u32: 9 } }]);
  const error = new Uint8Array(36), view = new DataView(error.buffer);
  view.setUint32(0, 36, true);
  view.setUint16(4, 2, true);
  view.setUint32(8, 5, true);
  view.setInt32(16, -16, true);
  const all = new Uint8Array([...other, ...ours, ...error, 40, 0, 0, 0]);
  const answers = decodeAnswers(all, 5);
  assert.equal(answers.length, 2);
  assert.ok(answers[0] && "attributes" in answers[0]);
  assert.deepEqual(answers[0].attributes.get(1), new Uint8Array([4, 0, 0, 0]));
  assert.deepEqual(answers[1], { end: 16 });
});

Deno.test("bytes that are no answer do not throw", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
    decodeAttributes(bytes);
    assert.ok(Array.isArray(decodeAnswers(bytes, 1)));
  }));
});

/** Reads from bytes that a server has sent. */
function reader(bytes: Uint8Array): (count: number) => Uint8Array {
  let at = 0;
  return (count) => {
    if (at + count > bytes.length) throw new HostError("end");
    return bytes.slice(at, at += count);
  };
}

function reply(type: number, data: readonly number[]): number[] {
  const head = new DataView(new ArrayBuffer(20));
  head.setBigUint64(0, 0x0003e889045565a9n);
  head.setUint32(8, 7);
  head.setUint32(12, type);
  head.setUint32(16, data.length);
  return [...new Uint8Array(head.buffer), ...data];
}

Deno.test("an export is read, whatever other information comes with it", () => {
  const info = [0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 0x6d];
  const bytes = [...reply(3, [0, 3, 1, 2]), ...reply(3, info), ...reply(1, [])];
  assert.deepEqual(readExport(reader(new Uint8Array(bytes))), { bytes: 0x40000000, flags: 0x16d });
});

Deno.test("a server that refuses, or makes no sense, is an error", () => {
  const refused = reply(0x80000006, [...new TextEncoder().encode("no such export")]);
  assert.throws(() => readExport(reader(new Uint8Array(refused))), /error 6 no such export/);
  assert.throws(() => readExport(reader(new Uint8Array(reply(1, [])))), /did not say how large/);
  assert.throws(() => readGreeting(reader(new Uint8Array(18))), /no NBD server/);
  fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
    assert.throws(() => readExport(reader(bytes)), HostError);
  }));
});

Deno.test("the option names the export", () => {
  const bytes = encodeGo("vol"), view = new DataView(bytes.buffer);
  assert.equal(view.getUint32(0), 3);
  assert.equal(view.getUint32(12), 7);
  assert.equal(view.getUint32(16), bytes.length - 20);
  assert.equal(new TextDecoder().decode(bytes.subarray(24, 27)), "vol");
});

peerTest("the handshake goes with a server of other people's", { needs: ["qemu-nbd"] }, async () => {
  using directory = tempDir();
  const socket = directory.join("s"), image = directory.join("image");
  Deno.writeFileSync(image, new Uint8Array(0));
  Deno.truncateSync(image, 1024 * 1024);
  await using server = spawnLogged("qemu-nbd", [
    "-t",
    "-f",
    "raw",
    "-x",
    "vol",
    "-e",
    "4",
    "-k",
    socket,
    image,
  ]);
  const found = await waitFor(() => {
    try {
      return connectNbd(socket, "vol");
    } catch (error) {
      if (error instanceof HostError) throw error;
      return undefined;
    }
  }, { what: "the server" });
  assert.ok(found);
  assert.equal(found.bytes, 1024 * 1024);
  assert.ok(found.flags & 1);
  libc.close(found.fd);
  assert.throws(() => connectNbd(socket, "other"), /refuses the export/);
  await server.stop();
});

function fakeContext(sys: string): HostContext {
  const runner = new ScriptedRunner([["modprobe nbd", { code: 1 }]]);
  const host = { run: runner.run.bind(runner), sharesNetwork: true, root: "" };
  return { runner, host, log: keptLog().log, sys, proc: "/proc", sleep: () => Promise.resolve() };
}

Deno.test("devices are found by their owner's name, those of others and old ones are not", () => {
  using directory = tempDir();
  const add = (name: string, number: string, attributes: Record<string, string>): void => {
    Deno.mkdirSync(directory.join("block", name), { recursive: true });
    Deno.mkdirSync(directory.join("class/block", name), { recursive: true });
    Deno.writeTextFileSync(directory.join("class/block", name, "dev"), `${number}\n`);
    for (const [key, value] of Object.entries(attributes)) {
      Deno.writeTextFileSync(directory.join("block", name, key), `${value}\n`);
    }
  };
  add("nbd0", "43:0", { pid: "12" });
  add("nbd1", "43:32", { pid: "12", backend: "drover:v" });
  add("nbd2", "43:64", { backend: "drover:v" });
  add("nbd10", "43:320", { pid: "13", backend: "drover:w" });
  add("sda", "8:0", {});
  const found = listNbdDevices(directory.path);
  assert.deepEqual(found.map(({ name, volume, minor }) => [name, volume, minor]), [
    ["nbd1", "v", 32],
    ["nbd10", "w", 320],
  ]);
  assert.deepEqual(listNbdDevices(directory.path, "w").map(({ index }) => index), [10]);
});

const hasNbd = familyOf("nbd") !== undefined ? "this kernel has an NBD client" : null;

testUnless(hasNbd, "a kernel without an NBD client is told with what it needs", async () => {
  using directory = tempDir();
  await assert.rejects(requireNbd(fakeContext(directory.path)), /modprobe nbd.*host's network/);
  await assert.rejects(detachNbd(fakeContext(directory.path), { index: 0, name: "nbd0" }), HostError);
});
