/**
 * Other people's NBD clients against our server: what they see, and that every byte survives the way there and
 * back, over TCP and unix sockets.
 *
 * @module
 */
import assert from "node:assert/strict";
import { peerTest } from "./support/conditional.ts";
import { type LoggedProcess, run, runAnyway, spawnDeno, spawnLogged } from "./support/process.ts";
import { type TempDir, tempDir } from "./support/temp.ts";
import { waitFor } from "./support/wait.ts";

const MIB = 1024 * 1024;
const SIZE = 64 * MIB;

/** A server in a process of its own. */
class Server implements AsyncDisposable {
  constructor(readonly directory: TempDir, readonly process: LoggedProcess, readonly uri: string) {}

  /** What the server said of its state after the last event. */
  get state(): { buffers: number; slots: number; flushes: number } {
    const all = [...this.process.output.matchAll(/buffers out (\d+), slots free (\d+), flushes (\d+)/g)];
    const [, buffers, slots, flushes] = all.at(-1) ?? [];
    return { buffers: Number(buffers), slots: Number(slots), flushes: Number(flushes) };
  }

  /** Waits until no client is left, and asserts that nothing is held. */
  async assertClean(): Promise<void> {
    await waitFor(() => {
      const came = this.process.output.match(/event: client came/g)?.length ?? 0;
      const gone = this.process.output.match(/event: client (left|dropped)/g)?.length ?? 0;
      return came > 0 && came === gone;
    }, { what: "all clients to leave" });
    assert.deepEqual([this.state.buffers, this.state.slots], [0, 256], this.process.output);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process.stop();
    this.directory[Symbol.dispose]();
  }
}

async function serve(kind: "tcp" | "unix", size = SIZE): Promise<Server> {
  const directory = tempDir("nbd-");
  const where = kind === "tcp" ? "tcp" : directory.join("s");
  const process = spawnDeno("tests/nbd_runner.ts", [where, String(size), directory.join("stop")]);
  const [, uri] = await process.waitForOutput(/serving (\S+)/);
  assert.ok(uri);
  return new Server(directory, process, uri);
}

/** A file of data with holes in it. */
async function sourceFile(directory: TempDir, size = SIZE): Promise<string> {
  const path = directory.join("source");
  using file = await Deno.open(path, { write: true, create: true });
  await file.truncate(size);
  const block = new Uint8Array(65_536);
  for (let at = 0; at < size; at += 5 * block.length) {
    crypto.getRandomValues(block);
    await file.seek(at, Deno.SeekMode.Start);
    await file.write(block);
  }
  return path;
}

async function sameFiles(a: string, b: string): Promise<void> {
  await run("cmp", [a, b]);
}

for (const kind of ["tcp", "unix"] as const) {
  peerTest(`nbdinfo over ${kind} sees the export and all it can do`, { needs: ["nbdinfo"] }, async () => {
    await using server = await serve(kind);
    const { exports, structured } = JSON.parse((await run("nbdinfo", ["--json", server.uri])).stdout);
    assert.equal(structured, true);
    const { uri, ...seen } = exports[0];
    assert.ok(uri);
    assert.deepEqual({ ...seen, "export-size-str": undefined, content: undefined }, {
      "export-name": "vol-1",
      description: "Drover volume vol-1",
      content: undefined,
      contexts: ["base:allocation"],
      is_rotational: false,
      is_read_only: false,
      can_cache: true,
      can_df: true,
      can_fast_zero: true,
      can_flush: true,
      can_fua: true,
      can_multi_conn: true,
      can_trim: true,
      can_zero: true,
      block_size_minimum: 512,
      block_size_preferred: 4096,
      block_size_maximum: 4 * MIB,
      "export-size": SIZE,
      "export-size-str": undefined,
    });
    const list = JSON.parse((await run("nbdinfo", ["--json", "--list", server.uri])).stdout);
    assert.deepEqual(list.exports.map((entry: Record<string, unknown>) => entry["export-name"]), ["vol-1"]);
    const map = JSON.parse((await run("nbdinfo", ["--json", "--map", server.uri])).stdout);
    assert.deepEqual(map.map((e: Record<string, unknown>) => [e.offset, e.length, e.type]), [[0, SIZE, 0]]);
    assert.notEqual((await runAnyway("nbdinfo", [server.uri.replace("vol-1", "vol-2")])).code, 0);
    assert.equal(
      (await run("nbdinfo", ["--size", server.uri.replace("vol-1", "")])).stdout.trim(),
      String(SIZE),
    );
    await server.assertClean();
  });

  peerTest(`nbdcopy over ${kind} brings the same bytes back`, { needs: ["nbdcopy", "cmp"] }, async () => {
    await using server = await serve(kind);
    const source = await sourceFile(server.directory), back = server.directory.join("back");
    await run("nbdcopy", ["--flush", source, server.uri]);
    await run("nbdcopy", [server.uri, back]);
    await sameFiles(source, back);
    await Deno.remove(back);
    await run("nbdcopy", ["--request-size=33554432", "--requests=4", server.uri, back]);
    await sameFiles(source, back);
    await server.assertClean();
    assert.ok(server.state.flushes > 0);
  });

  peerTest(`qemu-img over ${kind} converts and compares`, { needs: ["qemu-img", "cmp"] }, async () => {
    await using server = await serve(kind);
    const source = await sourceFile(server.directory), back = server.directory.join("back");
    const info = JSON.parse((await run("qemu-img", ["info", "--output=json", server.uri])).stdout);
    assert.deepEqual([info["virtual-size"], info.format], [SIZE, "raw"]);
    await run("qemu-img", ["convert", "-n", "-f", "raw", "-O", "raw", "-W", source, server.uri]);
    assert.match(
      (await run("qemu-img", ["compare", "-f", "raw", "-F", "raw", source, server.uri])).stdout,
      /identical/,
    );
    await run("qemu-img", ["convert", "-f", "raw", "-O", "raw", server.uri, back]);
    await sameFiles(source, back);
    const bench = ["bench", "-f", "raw", "-c", "2000", "-d", "32", "-s", "4096", server.uri];
    assert.match((await run("qemu-img", bench)).stdout, /completed in/);
    await run("qemu-img", ["bench", "-f", "raw", "-w", "--flush-interval=100", "-c", "500", server.uri]);
    await server.assertClean();
  });

  peerTest(
    `qemu-io over ${kind}: writes, zeroes, discards, flushes, FUA`,
    { needs: ["qemu-io"] },
    async () => {
      await using server = await serve(kind);
      const commands = [
        "write -P 7 1M 64k",
        "read -P 7 1M 64k",
        "write -z 1M 32k",
        "read -P 0 1M 32k",
        "write -z -u 1081856 8k",
        "read -P 0 1081856 8k",
        "read -P 7 1081344 512",
        "read -P 7 1090048 16k",
        "discard 1M 64k",
        "read -P 0 1M 64k",
        "flush",
        "write -f -P 3 512 512",
        "read -P 3 512 512",
        "write -f -z 512 512",
        "read -P 0 0 4k",
        "write -P 9 8M 20M",
        "read -P 9 8M 20M",
        "aio_write -P 1 0 3M",
        "aio_write -P 2 3M 3M",
        "aio_flush",
        "read -P 1 0 3M",
        "read -P 2 3M 3M",
      ];
      const { stdout } = await run("qemu-io", [
        "-f",
        "raw",
        ...commands.flatMap((c) => ["-c", c]),
        server.uri,
      ]);
      assert.doesNotMatch(stdout, /failed|error/i);
      await server.assertClean();
      assert.ok(server.state.flushes >= 3);
    },
  );

  peerTest(`fio over ${kind} verifies what it wrote`, { needs: ["fio"] }, async () => {
    await using server = await serve(kind);
    const common = [
      "--ioengine=nbd",
      `--uri=${server.uri}`,
      "--verify=crc32c",
      "--verify_fatal=1",
      "--iodepth=32",
      "--output-format=json",
    ];
    for (
      const extra of [
        ["--name=a", "--rw=randwrite", "--bs=4k", "--size=16m", "--numjobs=3", "--offset_increment=16m"],
        ["--name=b", "--rw=randrw", "--bsrange=512-128k", "--bs_unaligned=0", "--size=48m", "--fsync=64"],
        ["--name=c", "--rw=randtrimwrite", "--bs=64k", "--size=32m", "--verify=0"],
        ["--name=d", "--rw=write", "--bs=4m", "--size=64m", "--iodepth=4"],
      ]
    ) {
      const { stdout } = await run("fio", [...common, ...extra], { cwd: server.directory.path });
      const report = JSON.parse(stdout.slice(stdout.indexOf("{")));
      assert.ok(report.jobs.every((job: { error: number }) => job.error === 0), stdout);
      const read = report.jobs.reduce(
        (sum: number, job: { read: { io_bytes: number } }) => sum + job.read.io_bytes,
        0,
      );
      assert.ok(read > 0 || extra.includes("--verify=0"), "nothing was read back");
    }
    await server.assertClean();
  });
}

peerTest(
  "nbdkit's proxy carries a volume on to its own clients",
  { needs: ["nbdkit", "nbdcopy", "cmp"] },
  async () => {
    await using server = await serve("unix");
    const source = await sourceFile(server.directory), back = server.directory.join("back");
    const socket = server.directory.join("proxy");
    await using proxy = spawnLogged("nbdkit", [
      "-f",
      "-U",
      socket,
      "nbd",
      `uri=${server.uri}`,
      "shared=true",
    ]);
    await waitFor(() => Deno.statSync(socket).isSocket, { what: "nbdkit" });
    await run("nbdcopy", ["--flush", source, `nbd+unix:///?socket=${socket}`]);
    await run("nbdcopy", [server.uri, back]);
    await sameFiles(source, back);
    await proxy.stop();
    await server.assertClean();
  },
);

peerTest("a client killed in the middle takes nothing with it", { needs: ["fio", "nbdinfo"] }, async () => {
  await using server = await serve("tcp");
  for (const bs of ["4k", "1m"]) {
    const fio = spawnLogged("fio", [
      "--name=k",
      "--ioengine=nbd",
      `--uri=${server.uri}`,
      "--rw=randwrite",
      `--bs=${bs}`,
      "--iodepth=64",
      "--size=64m",
      "--time_based",
      "--runtime=60",
      "--thread",
    ], { cwd: server.directory.path });
    const came = () => server.process.output.match(/event: client came/g)?.length ?? 0;
    const before = came();
    await waitFor(() => came() > before, { what: "fio to connect" });
    await new Promise((resolve) => setTimeout(resolve, 500));
    fio.signal("SIGKILL");
    await fio.status;
    assert.equal((await run("nbdinfo", ["--size", server.uri])).stdout.trim(), String(SIZE));
    await server.assertClean();
  }
});

peerTest("two clients at once write to their own halves", { needs: ["qemu-io", "nbdcopy"] }, async () => {
  await using server = await serve("unix");
  const half = (at: number, pattern: number) =>
    run("qemu-io", ["-f", "raw", "-c", `write -P ${pattern} ${at}M 32M`, "-c", "flush", server.uri]);
  await Promise.all([half(0, 1), half(32, 2)]);
  const check = ["-f", "raw", "-c", "read -P 1 0 32M", "-c", "read -P 2 32M 32M", server.uri];
  assert.doesNotMatch((await run("qemu-io", check)).stdout, /failed/);
  await server.assertClean();
});

peerTest("an orderly stop under load answers what is under way and ends", { needs: ["fio"] }, async () => {
  await using server = await serve("unix");
  const fio = spawnLogged("fio", [
    "--name=k",
    "--ioengine=nbd",
    `--uri=${server.uri}`,
    "--rw=randrw",
    "--bs=16k",
    "--iodepth=32",
    "--size=64m",
    "--time_based",
    "--runtime=60",
    "--thread",
  ], { cwd: server.directory.path });
  await server.process.waitForOutput(/event: client came/);
  await new Promise((resolve) => setTimeout(resolve, 500));
  Deno.writeTextFileSync(server.directory.join("stop"), "");
  await server.process.waitForOutput(/^stopped$/m);
  assert.equal((await server.process.status).code, 0);
  assert.notEqual((await fio.status).code, 0);
  await server.assertClean();
  assert.throws(() => Deno.lstatSync(server.directory.join("s")), Deno.errors.NotFound);
});
