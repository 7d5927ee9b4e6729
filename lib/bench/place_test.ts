import assert from "node:assert/strict";
import { parsePlace } from "./place.ts";
import { BenchError } from "./target.ts";

Deno.test("every form of a target is understood", () => {
  const tcp = (host: string, port: number) => ({ kind: "tcp", host, port });
  const cases: [string, unknown][] = [
    ["unix:/run/v.sock", { kind: "frames", address: { kind: "unix", path: "/run/v.sock" } }],
    ["unix:///run/v.sock", { kind: "frames", address: { kind: "unix", path: "/run/v.sock" } }],
    ["tcp:10.0.0.1:9503", { kind: "frames", address: tcp("10.0.0.1", 9503) }],
    ["tcp://[::1]:9503", { kind: "frames", address: tcp("::1", 9503) }],
    ["nbd://127.0.0.1/v", {
      kind: "nbd",
      address: tcp("127.0.0.1", 10809),
      exportName: "v",
      structured: true,
    }],
    ["nbd://[::1]:7/a%20b?replies=simple", {
      kind: "nbd",
      address: tcp("::1", 7),
      exportName: "a b",
      structured: false,
    }],
    ["nbd+unix:///v?socket=/run/n.sock", {
      kind: "nbd",
      address: { kind: "unix", path: "/run/n.sock" },
      exportName: "v",
      structured: true,
    }],
    ["nbd+unix://?socket=/run/n.sock", {
      kind: "nbd",
      address: { kind: "unix", path: "/run/n.sock" },
      exportName: "",
      structured: true,
    }],
    ["iscsi://h/iqn.2019-10.io.longhorn:v/1", {
      kind: "iscsi",
      address: tcp("h", 3260),
      targetName: "iqn.2019-10.io.longhorn:v",
      lun: 1,
    }],
    ["iscsi://127.0.0.1:3261/iqn.a:b", {
      kind: "iscsi",
      address: tcp("127.0.0.1", 3261),
      targetName: "iqn.a:b",
      lun: 0,
    }],
    ["file:/dev/sda", { kind: "file", path: "/dev/sda" }],
  ];
  for (const [text, expected] of cases) assert.deepEqual(parsePlace(text), expected, text);
});

Deno.test("what is no target is refused by name, with the forms there are", () => {
  const texts = ["", "vol", "unix:relative", "file:", "tcp:host", "tcp:h:99999", "nbd:/x", "nbd+unix:///v"];
  texts.push(
    "nbd+unix:///v?socket=x",
    "iscsi://h",
    "iscsi://h/iqn/999",
    "http://x/y",
    "nbd://[::/x",
    "tcp:h:0",
  );
  for (const text of texts) {
    assert.throws(
      () => parsePlace(text),
      (error) =>
        error instanceof BenchError && error.message.includes(`"${text}"`) &&
        error.message.includes("iscsi://"),
      text,
    );
  }
});
