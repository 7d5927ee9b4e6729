import assert from "node:assert/strict";
import { SystemRunner } from "./command.ts";
import {
  contentOf,
  encryptedVolumeBytes,
  isLuks,
  LUKS_HEADER_BYTES,
  luksClose,
  LuksError,
  luksFormat,
  luksOpen,
  luksResize,
  luksStatus,
  luksTest,
  parseLuksStatus,
  PassphraseError,
  usableBytes,
} from "./luks.ts";
import { ScriptedRunner } from "./test_kit.ts";
import { peerTest, testUnless } from "../../tests/support/conditional.ts";
import { missing } from "../../tests/support/needs.ts";
import { run } from "../../tests/support/process.ts";
import { tempDir } from "../../tests/support/temp.ts";

const bytesOf = (text: string) => new TextEncoder().encode(text);
/** No line feed at the end, one in the middle, and bytes that are no ASCII: all of it counts. */
const PASSPHRASE = bytesOf("corréct\nhorse");
/** Cheap to derive: these tests are not about how slow that is. */
const QUICK = { cipher: "aes-xts-plain64", hash: "sha256", keyBits: 256, pbkdf: "pbkdf2", iterations: 1000 };

const ACTIVE = `/dev/mapper/vol is active and is in use.
  type:    LUKS2
  cipher:  aes-xts-plain64
  keysize: 256 bits
  device:  /dev/sdb
  sector size:  512
`;

Deno.test("a volume is larger by its header, and users see what they asked for", () => {
  assert.equal(usableBytes(encryptedVolumeBytes(2 ** 30)), 2 ** 30);
  assert.equal(encryptedVolumeBytes(2 ** 30) - 2 ** 30, LUKS_HEADER_BYTES);
  assert.throws(() => usableBytes(LUKS_HEADER_BYTES), RangeError);
});

Deno.test("what cryptsetup says about a mapped device is read", () => {
  assert.deepEqual(parseLuksStatus(ACTIVE), { device: "/dev/sdb", inUse: true });
  assert.deepEqual(parseLuksStatus("/dev/mapper/vol is active.\n  device:  (null)\n"), {
    device: "(null)",
    inUse: false,
  });
  assert.equal(parseLuksStatus("/dev/mapper/vol is inactive.\n"), undefined);
});

peerTest("the header of a real volume has the size of the rule; the passphrase counts to the byte", {
  needs: ["cryptsetup", "blkid"],
}, async () => {
  using directory = tempDir();
  const runner = new SystemRunner(), image = directory.join("image");
  Deno.writeTextFileSync(image, "");
  Deno.truncateSync(image, LUKS_HEADER_BYTES + 4 * 1024 * 1024);
  assert.equal(await contentOf(runner, image), "");
  await luksFormat(runner, image, PASSPHRASE, QUICK);
  assert.equal(await isLuks(runner, image), true);
  assert.equal(await contentOf(runner, image), "crypto_LUKS");
  const { stdout } = await run("cryptsetup", ["luksDump", "--dump-json-metadata", image]);
  assert.equal(JSON.parse(stdout).segments["0"].offset, String(LUKS_HEADER_BYTES));
  assert.equal(await luksTest(runner, image, PASSPHRASE), true);
  assert.equal(await luksTest(runner, image, bytesOf("corréct\nhorse\n")), false);
  assert.equal(await luksTest(runner, image, bytesOf("corréct")), false);
});

peerTest("a volume that has something on it is not encrypted over that", {
  needs: ["cryptsetup", "blkid", "mkfs.ext4"],
}, async () => {
  using directory = tempDir();
  const runner = new SystemRunner(), image = directory.join("image");
  Deno.writeTextFileSync(image, "");
  Deno.truncateSync(image, 32 * 1024 * 1024);
  await run("mkfs.ext4", ["-q", image]);
  await assert.rejects(luksFormat(runner, image, PASSPHRASE, QUICK), /is not empty \(ext4\)/);
  assert.equal(await contentOf(runner, image), "ext4");
  assert.equal(await isLuks(runner, image), false);
});

Deno.test("passphrases go through standard input, and errors do not have them", async () => {
  const runner = new ScriptedRunner([
    ["blkid", { code: 2 }],
    ["cryptsetup luksFormat", ""],
    ["cryptsetup status", "/dev/mapper/vol is inactive."],
    ["cryptsetup open", { code: 2, stderr: "No key available with this passphrase." }],
    ["cryptsetup resize", { code: 1, stderr: "Device vol is not active." }],
  ]);
  const secret = bytesOf("open sesame");
  await luksFormat(runner, "/dev/longhorn/vol", secret);
  await assert.rejects(luksOpen(runner, "/dev/longhorn/vol", "vol", secret), (error) => {
    assert.ok(error instanceof PassphraseError);
    assert.doesNotMatch(error.message, /sesame/);
    return true;
  });
  await assert.rejects(
    luksResize(runner, "vol", secret),
    /growing \/dev\/mapper\/vol: Device vol is not active/,
  );
  assert.deepEqual(runner.inputs, ["open sesame", "open sesame", "open sesame"]);
  assert.doesNotMatch(runner.ran.join("\n"), /sesame/);
});

Deno.test("a volume that is open stays so; a mapped device of another volume, or of one that is gone, does not", async () => {
  let status = ACTIVE;
  const runner = new ScriptedRunner([
    ["cryptsetup status", () => status],
    ["cryptsetup close", () => {
      status = "/dev/mapper/vol is inactive.";
      return "";
    }],
    ["cryptsetup open", ""],
  ]);
  assert.equal(await luksOpen(runner, "/dev/sdb", "vol", PASSPHRASE), "/dev/mapper/vol");
  assert.equal(runner.count("cryptsetup open"), 0);
  await assert.rejects(luksOpen(runner, "/dev/sdc", "vol", PASSPHRASE), /open on another device, \/dev\/sdb/);
  status = "/dev/mapper/vol is active.\n  device:  (null)\n";
  await luksOpen(runner, "/dev/sdc", "vol", PASSPHRASE);
  assert.deepEqual([runner.count("cryptsetup close"), runner.count("cryptsetup open")], [1, 1]);
  await luksClose(runner, "vol");
  assert.equal(runner.count("cryptsetup close"), 1);
});

Deno.test("names that are no names and programs that are missing are told", async () => {
  const runner = new ScriptedRunner([["cryptsetup", "missing"]]);
  await assert.rejects(luksStatus(runner, "../vol"), /cannot name a mapped device/);
  await assert.rejects(luksStatus(runner, "vol"), (error) => {
    assert.ok(error instanceof LuksError);
    assert.match(error.message, /not installed; install cryptsetup/);
    return true;
  });
});

function whyNoDmCrypt(): string | null {
  const need = missing("root") ?? missing("loop") ?? missing("cryptsetup");
  if (need !== null) return need;
  // The device node proves nothing: libdevmapper makes one.
  const has = /\bdevice-mapper$/m.test(Deno.readTextFileSync("/proc/misc"));
  return has ? null : "the kernel has no device mapper (modprobe dm_mod)";
}

testUnless(whyNoDmCrypt(), "a volume is encrypted, opened, written, grown and closed", async () => {
  using directory = tempDir();
  const runner = new SystemRunner(), image = directory.join("image");
  const name = `t-${crypto.randomUUID().slice(0, 8)}`, usable = 8 * 1024 * 1024;
  Deno.writeTextFileSync(image, "");
  Deno.truncateSync(image, encryptedVolumeBytes(usable));
  const device = (await run("losetup", ["--find", "--show", image])).stdout.trim();
  const size = async (path: string) => Number((await run("blockdev", ["--getsize64", path])).stdout);
  try {
    await luksFormat(runner, device, PASSPHRASE, QUICK);
    const path = await luksOpen(runner, device, name, PASSPHRASE);
    assert.equal(await size(path), usable);
    await run("dd", ["if=/dev/zero", `of=${path}`, "bs=1M", "count=8", "conv=fsync", "status=none"]);
    Deno.truncateSync(image, encryptedVolumeBytes(2 * usable));
    await run("losetup", ["--set-capacity", device]);
    await luksResize(runner, name, PASSPHRASE);
    assert.equal(await size(path), 2 * usable);
    assert.equal((await luksStatus(runner, name))?.device, device);
  } finally {
    await luksClose(runner, name);
    await run("losetup", ["--detach", device]);
  }
});
