/**
 * Installs the Debian packages of the peer programs where that is possible: as root on Debian.
 *
 * @module
 */
import { findProgram } from "../../tests/support/needs.ts";
import { PEERS } from "../peers.ts";

/** Seconds to wait for another package manager that is at work. */
const LOCK_SECONDS = 120;

async function apt(args: readonly string[]): Promise<{ success: boolean; said: string }> {
  const output = await new Deno.Command("apt-get", {
    args: ["-q", "-y", "-o", `DPkg::Lock::Timeout=${LOCK_SECONDS}`, ...args],
    env: { DEBIAN_FRONTEND: "noninteractive" },
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  return { success: output.success, said: decoder.decode(output.stdout) + decoder.decode(output.stderr) };
}

async function notInstalled(): Promise<string[]> {
  const output = await new Deno.Command("dpkg-query", {
    args: ["-W", "-f", "${Package} ${db:Status-Status}\n", ...PEERS.map((peer) => peer.package)],
    stdin: "null",
    stderr: "null",
  }).output();
  const installed = new Set(
    new TextDecoder().decode(output.stdout).split("\n").filter((line) => line.endsWith(" installed"))
      .map((line) => line.split(" ")[0]),
  );
  return PEERS.map((peer) => peer.package).filter((name) => !installed.has(name));
}

/** Installs what is missing. Never fails: tests that miss something are skipped and say so. */
export async function installPeers(say: (line: string) => void): Promise<void> {
  if (findProgram("dpkg-query") === null || findProgram("apt-get") === null) {
    return say("peers: not a Debian system; tests whose peers are missing are skipped");
  }
  const wanted = await notInstalled();
  if (wanted.length === 0) return say("peers: all installed");
  if (Deno.uid() !== 0) {
    return say(
      `peers: not root, so these are not installed and their tests are skipped: ${wanted.join(" ")}`,
    );
  }
  say(`peers: installing ${wanted.join(" ")}`);
  const install = ["install", "--no-install-recommends"];
  let result = await apt([...install, ...wanted]);
  if (!result.success && (await apt(["update"])).success) {
    result = await apt([...install, ...wanted]);
    // One package that this release does not have must not keep the others away.
    if (!result.success) { for (const name of wanted) await apt([...install, name]); }
  }
  const still = await notInstalled();
  if (still.length === 0) return;
  say(`peers: could not be installed, their tests are skipped: ${still.join(" ")}`);
  say(result.said.trimEnd().split("\n").slice(-3).map((line) => `peers: apt-get: ${line}`).join("\n"));
}
