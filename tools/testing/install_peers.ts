/**
 * Installs the Debian packages of the peer programs where that is possible: as root on Debian. Those that are no
 * packages are built where Go is there.
 *
 * @module
 */
import { findProgram } from "../../tests/support/needs.ts";
import { GO_PEERS, type Peer, PEER_DIRECTORY, PEERS } from "../peers.ts";

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

async function notInstalled(peers: readonly Peer[]): Promise<string[]> {
  const output = await new Deno.Command("dpkg-query", {
    args: ["-W", "-f", "${Package} ${db:Status-Status}\n", ...peers.map((peer) => peer.package)],
    stdin: "null",
    stderr: "null",
  }).output();
  const installed = new Set(
    new TextDecoder().decode(output.stdout).split("\n").filter((line) => line.endsWith(" installed"))
      .map((line) => line.split(" ")[0]),
  );
  return peers.map((peer) => peer.package).filter((name) => !installed.has(name));
}

/** Time limit of one build, milliseconds. */
const BUILD_MS = 10 * 60_000;

/** Builds what is missing of the peers that are Go programs. */
async function buildPeers(say: (line: string) => void): Promise<void> {
  const go = findProgram("go") ?? ["/usr/local/go/bin/go"].find((path) => {
    try {
      return Deno.statSync(path).isFile;
    } catch {
      return false;
    }
  });
  for (const { module, program } of GO_PEERS.filter((peer) => findProgram(peer.program) === null)) {
    if (go === undefined) {
      say(`peers: Go is not there, so tests that need ${program} are skipped`);
      continue;
    }
    say(`peers: building ${module}`);
    await Deno.mkdir(PEER_DIRECTORY, { recursive: true });
    const output = await new Deno.Command(go, {
      args: ["install", module],
      env: { GOBIN: PEER_DIRECTORY, GOFLAGS: "-buildvcs=false" },
      stdin: "null",
      signal: AbortSignal.timeout(BUILD_MS),
    }).output();
    if (output.success) continue;
    const said = new TextDecoder().decode(output.stderr).trimEnd().split("\n").slice(-3).join("; ");
    say(`peers: ${program} could not be built, its tests are skipped: ${said}`);
  }
}

/** Installs what is missing. Never fails: tests that miss something are skipped and say so. */
export async function installPeers(say: (line: string) => void): Promise<void> {
  await installPackages(say, PEERS);
  await buildPeers(say);
}

/** Installs Debian packages, where that is possible. Never fails; says what is missing still. */
export async function installPackages(say: (line: string) => void, peers: readonly Peer[]): Promise<void> {
  if (findProgram("dpkg-query") === null || findProgram("apt-get") === null) {
    return say("peers: not a Debian system; tests whose peers are missing are skipped");
  }
  const wanted = await notInstalled(peers);
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
  const still = await notInstalled(peers);
  if (still.length === 0) return;
  say(`peers: could not be installed, their tests are skipped: ${still.join(" ")}`);
  say(result.said.trimEnd().split("\n").slice(-3).map((line) => `peers: apt-get: ${line}`).join("\n"));
}
