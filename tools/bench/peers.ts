/**
 * What Drover is compared with: the bare file system, tgt and qemu-nbd.
 *
 * @module
 */
import { freePorts } from "../../tests/support/ports.ts";
import { type LoggedProcess, run, spawnLogged } from "../../tests/support/process.ts";
import { waitFor } from "../../tests/support/wait.ts";
import type { Subject, SubjectMaker, Tool } from "./subject.ts";

const MIB = 1024 * 1024;
/** Name of tgt's target. */
const IQN = "iqn.2019-10.io.longhorn:bench";

/** A file of so many random bytes. */
export async function filledFile(path: string, bytes: number): Promise<void> {
  using file = await Deno.open(path, { write: true, create: true });
  const block = new Uint8Array(MIB);
  for (let at = 0; at < block.length; at += 65536) crypto.getRandomValues(block.subarray(at, at + 65536));
  for (let left = bytes; left > 0; left -= MIB) await file.write(block.subarray(0, Math.min(left, MIB)));
  await file.syncData();
}

function subject(
  name: string,
  tool: Tool,
  target: string,
  servers: readonly LoggedProcess[],
  more: Partial<Subject> = {},
): Subject {
  return {
    name,
    tool,
    target,
    pids: servers.length === 0 ? {} : { server: servers.map((server) => server.pid) },
    maxBlockBytes: Infinity,
    isFilled: true,
    [Symbol.asyncDispose]: async () => {
      // Backwards: who was started last depends on the others.
      for (const server of [...servers].reverse()) await server.stop();
    },
    ...more,
  };
}

/** The file system without anything in between, measured by fio or by our own driver. */
export function rawFile(tool: "fio" | "drover", mode: "direct"): SubjectMaker {
  const name = `file/${mode}/${tool}`;
  return {
    name,
    needs: tool === "fio" ? ["fio"] : [],
    start: async (directory, bytes) => {
      const path = `${directory}/file`;
      await filledFile(path, bytes);
      return subject(name, tool, tool === "fio" ? `--filename=${path}` : `file:${path}`, []);
    },
  };
}

/** tgt's target on a file, through the page cache as it is by default. */
export function tgt(tool: "drover" | "iscsi-perf"): SubjectMaker {
  const name = `tgtd/cached/${tool}`;
  return {
    name,
    needs: ["root", "tgtd", "tgtadm", ...(tool === "iscsi-perf" ? ["iscsi-perf"] : [])],
    start: async (directory, bytes) => {
      const path = `${directory}/file`;
      await filledFile(path, bytes);
      const [port = 0] = freePorts(1), control = String(port);
      const server = spawnLogged("tgtd", ["-f", "-C", control, "--iscsi", `portal=127.0.0.1:${port}`]);
      try {
        const admin = (...args: string[]) =>
          run("tgtadm", ["-C", control, "--lld", "iscsi", "--op", ...args]);
        await waitFor(() => admin("show", "--mode", "sys"), { what: "tgtd" });
        await admin("new", "--mode", "target", "--tid", "1", "-T", IQN);
        await admin("new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", path);
        await admin("bind", "--mode", "target", "--tid", "1", "-I", "ALL");
      } catch (error) {
        await server.stop();
        throw error;
      }
      return subject(name, tool, `iscsi://127.0.0.1:${port}/${IQN}/1`, [server]);
    },
  };
}

/** qemu-nbd on a file, through the page cache. */
export function qemuNbd(tool: "drover" | "fio"): SubjectMaker {
  const name = `qemu-nbd/cached/${tool}`;
  return {
    name,
    needs: ["qemu-nbd", ...(tool === "fio" ? ["fio"] : [])],
    start: async (directory, bytes) => {
      const path = `${directory}/file`, socket = `${directory}/socket`;
      await filledFile(path, bytes);
      const args = ["-k", socket, "-f", "raw", "-t", "-e", "8", "--cache=writeback", "--aio=io_uring", path];
      const server = spawnLogged("qemu-nbd", args);
      try {
        await waitFor(() => Deno.statSync(socket).isSocket === true, { what: "the socket of qemu-nbd" });
      } catch (error) {
        await server.stop();
        throw error;
      }
      const uri = `nbd+unix:///?socket=${socket}`;
      return subject(name, tool, tool === "fio" ? `--uri=${uri}` : uri, [server]);
    },
  };
}
