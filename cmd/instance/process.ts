/**
 * `instance-manager process create|delete|get|list|replace`: a client of the process manager. Answers are JSON on
 * standard output.
 *
 * @module
 */
import type { Command } from "commander";
import { connect, type RpcClient } from "../../lib/rpc/mod.ts";
import {
  type ProcessManagerMethods,
  processManagerService,
  type ProcessResponse,
} from "../../lib/rpc/imrpc.ts";
import { TlsIdentity } from "../../lib/rpc/tls.ts";
import { UsageError } from "../support/program.ts";

interface GlobalFlags {
  readonly url: string;
  readonly tlsDir: string;
}

interface SpecFlags {
  readonly name: string;
  readonly binary: string;
  readonly portCount: string;
  readonly portArgs: readonly string[];
}

const collect = (value: string, list: readonly string[]) => [...list, value];

/**
 * Adds the commands.
 * @internal
 */
export function processCommand(root: Command): void {
  const group = root.command("process").description("processes of a running instance manager");
  const spec = (command: Command): Command =>
    command
      .requiredOption("--name <name>", "name of the process")
      .requiredOption("--binary <path>", "its program: a path, engine or replica")
      .option("--port-count <n>", "ports it needs", "0")
      .option(
        "--port-args <text>",
        "argument that gets a port appended, such as --listen,localhost:",
        collect,
        [],
      )
      .argument("[args...]", "its arguments, after --");
  spec(group.command("create").description("start a process"))
    .action((args: string[], flags: SpecFlags, command: Command) =>
      call(command, (client) => client.unary("processCreate", { spec: specOf(flags, args) }))
    );
  spec(group.command("replace").description("put a process with another program into the place of one"))
    .option("--terminate-signal <signal>", "SIGHUP is the only one", "SIGHUP")
    .action((args: string[], flags: SpecFlags & { terminateSignal: string }, command: Command) => {
      const { terminateSignal } = flags;
      return call(
        command,
        (client) => client.unary("processReplace", { spec: specOf(flags, args), terminateSignal }),
      );
    });
  group.command("delete").description("make a process end")
    .requiredOption("--name <name>", "name of the process")
    .option("--uuid <uuid>", "only if it has this identity", "")
    .action((flags: { name: string; uuid: string }, command: Command) =>
      call(command, (client) => client.unary("processDelete", flags))
    );
  group.command("get").description("describe a process")
    .requiredOption("--name <name>", "name of the process")
    .action((flags: { name: string }, command: Command) =>
      call(command, (client) => client.unary("processGet", flags))
    );
  group.command("list").alias("ls").description("describe all processes")
    .action((_flags: unknown, command: Command) => call(command, list));
}

function specOf({ name, binary, portCount, portArgs }: SpecFlags, args: readonly string[]) {
  const count = Number(portCount);
  if (!Number.isInteger(count) || count < 0) {
    throw new UsageError(`--port-count ${portCount}: expected a number`);
  }
  return { name, binary, args: [...args], portCount: count, portArgs: [...portArgs] };
}

type Client = RpcClient<ProcessManagerMethods>;

async function list(client: Client): Promise<unknown> {
  const { processes } = await client.unary("processList", {});
  return Object.fromEntries(Object.entries(processes).map(([name, one]) => [name, plain(one)]));
}

/** The answer with Longhorn's keys. */
function plain({ spec, status, deleted }: Pick<ProcessResponse, "spec" | "status" | "deleted">): unknown {
  return {
    name: spec?.name,
    binary: spec?.binary,
    args: spec?.args,
    portCount: spec?.portCount,
    portArgs: spec?.portArgs,
    uuid: status?.uuid,
    deleted,
    processStatus: {
      state: status?.state,
      errorMsg: status?.errorMsg,
      portStart: status?.portStart,
      portEnd: status?.portEnd,
      conditions: status?.conditions,
    },
  };
}

function isProcess(answer: unknown): answer is ProcessResponse {
  return typeof answer === "object" && answer !== null && "spec" in answer && "status" in answer;
}

async function call(command: Command, work: (client: Client) => Promise<unknown>): Promise<void> {
  const { url, tlsDir } = command.optsWithGlobals<GlobalFlags>();
  using tls = tlsDir === "" ? undefined : await TlsIdentity.load(tlsDir);
  const client = connect(processManagerService, url, tls ? { tls } : {});
  try {
    const answer = await work(client);
    console.log(JSON.stringify(isProcess(answer) ? plain(answer) : answer, null, 2));
  } finally {
    client.close();
  }
}
