/**
 * Who is at the other end of a connection from this machine. TCP itself does not tell, but the kernel lists its
 * sockets with their owners: that keeps users of the machine from a volume that is offered on the loopback address
 * for the host's initiator alone.
 *
 * A line of `/proc/net/tcp` (Linux Documentation/networking/proc_net_tcp.rst):
 *
 * | field | example | what |
 * | --- | --- | --- |
 * | number | `0:` | |
 * | local address | `0100007F:0CBC` | bytes in the machine's order; the port as it is |
 * | remote address | `0100007F:8D22` | likewise |
 * | state, queues, timers, retransmits | `01 00000000:00000000 00:00000000 00000000` | |
 * | user | `1000` | who made the socket |
 *
 * @module
 */
import { type Ipv4End, ipv4Ends } from "../io/sockets.ts";

/** The kernel's list of sockets. */
const PROC_TCP = "/proc/net/tcp";

function hex({ host, port }: Ipv4End): string {
  // Little-endian machines are the only ones that we run on.
  const bytes = [...host].reverse().map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${bytes}:${port.toString(16).padStart(4, "0")}`.toUpperCase();
}

/** The owner of the socket with this local and this remote end; undefined when it is not in the list. */
export function ownerInList(list: string, local: Ipv4End, remote: Ipv4End): number | undefined {
  const wanted = `${hex(local)} ${hex(remote)} `;
  for (const line of list.split("\n")) {
    const at = line.indexOf(": ");
    if (at < 0 || !line.startsWith(wanted, at + 2)) continue;
    const user = /^\S+ \S+ \S+ \S+ \S+ \S+\s+(\d+) /.exec(line.slice(at + 2))?.[1];
    return user === undefined ? undefined : Number(user);
  }
  return undefined;
}

/**
 * Why a connection is none that root on this machine has made; "" when it is one, or when the kernel has no list.
 *
 * @param fd an accepted IPv4 connection
 */
export function whyNotRoot(fd: number): string {
  const ends = ipv4Ends(fd);
  if (!ends) return "the connection is over, or is none of IPv4";
  let list: string;
  try {
    list = Deno.readTextFileSync(PROC_TCP);
  } catch {
    return "";
  }
  const owner = ownerInList(list, ends.peer, ends.own);
  if (owner === 0) return "";
  return owner === undefined
    ? "the volume is for this machine's initiator; the connection is from elsewhere, or over"
    : `the volume is for this machine's initiator; user ${owner} made the connection`;
}
