import assert from "node:assert/strict";
import { openersOf, usersOfDevice } from "./in_use.ts";
import { splitDeviceNumber } from "./block_stack.ts";
import { isGlobal, ownAddress } from "./own_address.ts";
import {
  listDeviceRecords,
  readDeviceRecord,
  removeDeviceRecord,
  writeDeviceRecord,
} from "./device_record.ts";
import { retry } from "./retry.ts";
import { keptLog } from "./test_kit.ts";
import { peerTest } from "../../tests/support/conditional.ts";
import { loopImage } from "../../tests/support/loop_image.ts";
import { tempDir } from "../../tests/support/temp.ts";

Deno.test("a process that has a file open is found", () => {
  using directory = tempDir();
  const path = directory.join("file");
  Deno.writeTextFileSync(path, "");
  assert.deepEqual(openersOf([path]), []);
  using _file = Deno.openSync(path);
  assert.deepEqual(openersOf(["/other", path]), [Deno.pid]);
});

peerTest("a mounted device has users", { needs: ["root", "loop", "mkfs.ext4"] }, async () => {
  await using fs = await loopImage({ bytes: 16 * 1024 * 1024 });
  const number = splitDeviceNumber(Deno.lstatSync(fs.device).rdev ?? 0);
  assert.deepEqual(usersOfDevice(number, [fs.device]).slice(0, 1), [`mounted at ${fs.path}`]);
});

Deno.test("an address that the host can reach is chosen, of the storage network first", () => {
  const at = (name: string, address: string) => ({ name, address });
  const plain = [
    at("lo", "127.0.0.1"),
    at("eth0", "fe80::1"),
    at("eth0", "10.42.0.7"),
    at("eth0", "fd00::7"),
  ];
  assert.equal(ownAddress(plain), "10.42.0.7");
  assert.equal(ownAddress([...plain, at("eth1", "172.16.0.2")]), "172.16.0.2");
  assert.throws(() => ownAddress([at("lo", "127.0.0.1"), at("lo", "::1")]), /no network interface/);
  assert.equal(isGlobal("169.254.3.4"), false);
  assert.equal(isGlobal("239.1.2.3"), false);
  assert.equal(isGlobal("2001:db8::1"), true);
});

Deno.test("a record is read as it was written; what makes no sense is none", () => {
  using directory = tempDir();
  const record = { volume: "v1", carrier: "nbd", generation: 3, attachment: { a: 1 } };
  assert.equal(readDeviceRecord(directory.path, "v1"), undefined);
  assert.deepEqual(listDeviceRecords(directory.path), []);
  writeDeviceRecord(directory.path, record);
  writeDeviceRecord(directory.path, { ...record, volume: "v0" });
  assert.deepEqual(readDeviceRecord(directory.path, "v1"), record);
  assert.deepEqual(listDeviceRecords(directory.path), ["v0", "v1"]);
  for (
    const text of ["", "[]", "3", '{"version":9,"volume":"v1","carrier":"nbd"}', '{"version":1,"volume":"x"}']
  ) {
    Deno.writeTextFileSync(directory.join("devices/v1.json"), text);
    assert.equal(readDeviceRecord(directory.path, "v1"), undefined, text);
  }
  removeDeviceRecord(directory.path, "v1");
  removeDeviceRecord(directory.path, "v1");
  assert.throws(() => readDeviceRecord(directory.path, "../v1"), /cannot name a file/);
});

Deno.test("every attempt that failed is told with its reason, and the last one is in the error", async () => {
  const { log, lines } = keptLog(), pauses: number[] = [];
  const sleep = (ms: number) => Promise.resolve(void pauses.push(ms));
  const rule = { attempts: 3, pauseMs: 7 };
  const attempt = (n: number) => n < 3 ? Promise.reject(new Error(`no ${n}`)) : Promise.resolve(n);
  assert.equal(await retry("it", rule, { log, sleep }, attempt), 3);
  assert.deepEqual(pauses, [7, 7]);
  assert.match(lines.join(""), /no 1[^]*no 2/);
  await assert.rejects(
    retry("it", rule, { log, sleep }, (n) => Promise.reject(new Error(`no ${n}`))),
    /^HostError: it failed after 3 attempts: no 3$/,
  );
});
