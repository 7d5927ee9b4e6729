import assert from "node:assert/strict";
import fc from "fast-check";
import { formatAddress, parseAddress } from "./address.ts";
import { Code, RpcError } from "./errors.ts";

Deno.test("addresses are read in all their forms", () => {
  const tcp = (host: string, port: number) => ({ kind: "tcp", host, port });
  assert.deepEqual(parseAddress("tcp://10.0.0.1:9501"), tcp("10.0.0.1", 9501));
  assert.deepEqual(parseAddress("10.0.0.1:9501"), tcp("10.0.0.1", 9501));
  assert.deepEqual(parseAddress("node-1.example:0"), tcp("node-1.example", 0));
  assert.deepEqual(parseAddress("[fd00::1]:9501"), tcp("fd00::1", 9501));
  assert.deepEqual(parseAddress("tcp://[fe80::1%eth0]:65535"), tcp("fe80::1%eth0", 65535));
  assert.deepEqual(parseAddress(":8500"), tcp("", 8500));
  assert.deepEqual(parseAddress("unix:/run/x.sock"), { kind: "unix", path: "/run/x.sock" });
  assert.deepEqual(parseAddress("unix:///run/x.sock"), { kind: "unix", path: "/run/x.sock" });
  assert.deepEqual(parseAddress("unix:x.sock"), { kind: "unix", path: "x.sock" });
});

Deno.test("what is no address is refused with the text and the forms", () => {
  const bad = [
    "",
    "host",
    "host:",
    "host:65536",
    "host:123456",
    "host:x",
    "http://h:1",
    "tcp://",
    "fd00::1:9501",
  ];
  bad.push(
    "h:1/x",
    "a b:1",
    "unix:",
    "unix://",
    "unix://host/x",
    "unix:a\0b",
    "tcp://tcp://h:1",
    "h:-1",
    "[::1]",
  );
  for (const text of bad) {
    assert.throws(() => parseAddress(text), (error) => {
      assert.ok(error instanceof RpcError, text);
      assert.equal(error.code, Code.INVALID_ARGUMENT);
      assert.ok(
        error.message.includes(JSON.stringify(text).slice(1, 3)) || text === "" || text.includes("\0"),
      );
      assert.match(error.message, /write HOST:PORT, tcp:\/\/HOST:PORT or unix:\/PATH/);
      return true;
    });
  }
});

Deno.test("a formatted address is read as what it was", () => {
  const host = fc.oneof(fc.domain(), fc.ipV4(), fc.ipV6());
  const tcp = fc.tuple(host, fc.nat(65535)).map(([host, port]) => ({ kind: "tcp" as const, host, port }));
  const path = fc.stringMatching(/^\/[\w. -]{1,40}$/);
  const unix = path.map((path) => ({ kind: "unix" as const, path }));
  fc.assert(fc.property(fc.oneof(tcp, unix), (address) => {
    assert.deepEqual(parseAddress(formatAddress(address)), address);
  }));
});

Deno.test("no text makes the parser do anything but answer or refuse", () => {
  fc.assert(fc.property(fc.string(), (text) => {
    try {
      parseAddress(text);
    } catch (error) {
      assert.ok(error instanceof RpcError);
    }
  }));
});
