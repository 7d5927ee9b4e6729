import assert from "node:assert/strict";
import { IoError } from "./errno.ts";
import { libc } from "./libc.ts";
import {
  acceptPassing,
  closeAll,
  connectForPassing,
  listenForPassing,
  MAX_MESSAGE_BYTES,
  MAX_PASSED,
  memoryOf,
  peerCredentials,
  readable,
  readMemory,
  receive,
  send,
} from "./passing.ts";

/** A connected pair, the connecting end first, and the listener. */
async function pair(directory: string): Promise<[number, number, number]> {
  const path = `${directory}/pass`;
  const listener = listenForPassing(path);
  const client = connectForPassing(path);
  assert(client !== undefined);
  assert.equal(await readable(listener, 5000), true);
  const server = acceptPassing(listener);
  assert(server !== undefined);
  return [client, server, listener];
}

async function inDirectory(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "drover-pass-" });
  try {
    await body(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("a message arrives with its descriptors, which lead to the same memory", () =>
  inDirectory(async (directory) => {
    const [client, server, listener] = await pair(directory);
    const content = new Uint8Array(200_000).map((_, i) => i % 251);
    const memory = memoryOf(content);
    const many = Array.from({ length: MAX_PASSED }, () => memory);
    send(client, new TextEncoder().encode("first"), [memory]);
    send(client, new Uint8Array(MAX_MESSAGE_BYTES).fill(7), many);
    send(client, new TextEncoder().encode("no descriptors"));
    closeAll([memory]);
    const first = receive(server), second = receive(server), third = receive(server);
    assert(first && second && third);
    assert.equal(new TextDecoder().decode(first.bytes), "first");
    assert.equal(first.descriptors.length, 1);
    assert.deepEqual(readMemory(first.descriptors[0]), content);
    assert.equal(second.bytes.length, MAX_MESSAGE_BYTES);
    assert.equal(second.descriptors.length, MAX_PASSED);
    assert.equal(new TextDecoder().decode(third.bytes), "no descriptors");
    assert.deepEqual(third.descriptors, []);
    closeAll([...first.descriptors, ...second.descriptors, client, server, listener]);
  }));

Deno.test("the end of the other process is told after what it had sent, and wakes who waits", () =>
  inDirectory(async (directory) => {
    const [client, server, listener] = await pair(directory);
    assert.equal(await readable(server, 0), false);
    const waits = readable(server, 10_000);
    send(client, Uint8Array.of(1));
    assert.equal(await waits, true);
    closeAll([client]);
    assert.deepEqual(receive(server)?.bytes, Uint8Array.of(1));
    assert.equal(await readable(server, 10_000), true);
    assert.equal(receive(server), undefined);
    assert.throws(() => send(server, Uint8Array.of(1)), /broken pipe/i);
    closeAll([server, listener]);
  }));

Deno.test("who is at the other end is told, and a place where nobody listens is no error", () =>
  inDirectory(async (directory) => {
    const [client, server, listener] = await pair(directory);
    assert.deepEqual(peerCredentials(server), { pid: Deno.pid, uid: Deno.uid() });
    closeAll([client, server, listener]);
    assert.equal(connectForPassing(`${directory}/pass`), undefined);
    assert.equal(connectForPassing(`${directory}/nothing`), undefined);
    assert.throws(() => listenForPassing(`${directory}/pass`), IoError);
  }));

Deno.test("a listener that is shut down wakes who waits for it", () =>
  inDirectory(async (directory) => {
    const listener = listenForPassing(`${directory}/pass`);
    assert.equal(acceptPassing(listener), undefined);
    const waits = readable(listener, 10_000);
    libc.shutdown(listener, 2);
    assert.equal(await waits, true);
    assert.equal(acceptPassing(listener), undefined);
    closeAll([listener]);
  }));

Deno.test("a message that is too long is refused before it is sent", () => {
  assert.throws(() => send(0, new Uint8Array(MAX_MESSAGE_BYTES + 1)), RangeError);
  assert.throws(() => send(0, new Uint8Array(0)), RangeError);
  assert.throws(() => send(0, Uint8Array.of(1), new Array(MAX_PASSED + 1).fill(0)), RangeError);
});
