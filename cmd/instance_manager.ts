/**
 * `instance-manager`: starts and watches the engines and replicas of a node, with the command line of
 * `longhorn-instance-manager`.
 *
 * @module
 */
import "../lib/rpc/setup.ts";
import { VERSION } from "../lib/engine/version.ts";
import { daemonCommand } from "./instance/daemon.ts";
import { processCommand } from "./instance/process.ts";
import { main, pointToOwnHelp, program } from "./support/program.ts";

function commandLine() {
  const root = program("instance-manager", "Starts and watches the engines and replicas of a node.")
    .option("--url <address>", "the instance manager that client commands call", "tcp://localhost:8500")
    .option(
      "--tls-dir <path>",
      "directory with ca.crt, tls.crt and tls.key: mutual TLS (environment: TLS_DIR)",
      Deno.env.get("TLS_DIR") ?? "",
    )
    .option("--debug", "log everything", false);
  daemonCommand(root);
  processCommand(root);
  root.command("version").description("print the version").action(() => console.log(VERSION));
  pointToOwnHelp(root);
  return root;
}

if (import.meta.main) await main(commandLine());
