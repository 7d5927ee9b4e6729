import assert from "node:assert/strict";
import { isIPv4, isIPv6 } from "node:net";
import fc from "fast-check";
import { Errno, IoError } from "./errno.ts";
import type { Address } from "./io.ts";
import { encodeAddress, parseIpv4, parseIpv6 } from "./sockets.ts";

function hex(bytes: Iterable<number> | undefined): string {
  return Array.from(bytes ?? [], (byte) => byte.toString(16).padStart(2, "0")).join("");
}

Deno.test("IP literals are read as the runtime reads them", () => {
  const near = fc.string({ unit: fc.constantFrom(..."0123456789abcF:.:%"), maxLength: 24 });
  fc.assert(fc.property(fc.oneof(fc.ipV4(), fc.ipV6(), near), (text) => {
    assert.equal(parseIpv4(text) !== undefined, isIPv4(text), text);
    assert.equal(parseIpv6(text) !== undefined, isIPv6(text) && !text.includes("%"), text);
    assert(text.includes(":") ? parseIpv4(text) === undefined : parseIpv6(text) === undefined);
  }));
  assert.equal(hex(parseIpv6("::")), "0".repeat(32));
  assert.equal(hex(parseIpv6("::1")), "0".repeat(31) + "1");
  assert.equal(hex(parseIpv6("fe80::1:2")), "fe800000000000000000000000010002");
  assert.equal(hex(parseIpv6("::ffff:10.1.2.3")), "00000000000000000000ffff0a010203");
  assert.equal(hex(parseIpv6("1:2:3:4:5:6:7:8")), "00010002000300040005000600070008");
});

Deno.test("addresses take the form of the kernel's structures", () => {
  assert.equal(
    hex(encodeAddress({ kind: "tcp", host: "10.0.0.1", port: 10000 })),
    "020027100a000001" + "00".repeat(8),
  );
  assert.equal(
    hex(encodeAddress({ kind: "tcp", host: "localhost", port: 80 })),
    "020000507f000001" + "00".repeat(8),
  );
  assert.equal(
    hex(encodeAddress({ kind: "tcp", host: "::1", port: 80 })),
    "0a00005000000000" + "0".repeat(31) + "1" + "00000000",
  );
  assert.equal(hex(encodeAddress({ kind: "unix", path: "/r" })), "01002f7200");
});

Deno.test("addresses that cannot be are refused with a reason", () => {
  const cases: [Address, RegExp][] = [
    [{ kind: "tcp", host: "replica-1", port: 1 }, /tcp:\/\/replica-1:1 .*IPv4 or IPv6 address or localhost/],
    [{ kind: "tcp", host: "", port: 1 }, /IPv4 or IPv6/],
    [{ kind: "tcp", host: "1.2.3", port: 1 }, /IPv4 or IPv6/],
    [{ kind: "tcp", host: "::1%eth0", port: 1 }, /IPv4 or IPv6/],
    [{ kind: "tcp", host: "1.2.3.4", port: 65536 }, /from 0 to 65535/],
    [{ kind: "tcp", host: "1.2.3.4", port: 1.5 }, /from 0 to 65535/],
    [{ kind: "unix", path: "" }, /1 to 107 bytes/],
    [{ kind: "unix", path: "/" + "é".repeat(54) }, /1 to 107 bytes/],
    [{ kind: "unix", path: "/a\0b" }, /\\u0000/],
  ];
  for (const [address, text] of cases) {
    assert.throws(() => encodeAddress(address), (error) => {
      assert(error instanceof IoError);
      assert.equal(error.errno, Errno.EINVAL);
      assert.match(error.message, text);
      return true;
    });
  }
  assert.equal(encodeAddress({ kind: "unix", path: "/" + "x".repeat(106) }).length, 110);
});
