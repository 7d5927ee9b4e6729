import assert from "node:assert/strict";
import { libc } from "../io/libc.ts";
import { encodeAddress } from "../io/sockets.ts";
import { ownerInList, whyNotRoot } from "./peer_owner.ts";
import { peerTest } from "../../tests/support/conditional.ts";
import { spawnLogged } from "../../tests/support/process.ts";

const LIST =
  "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
  "   0: 0100007F:0CBC 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 41234 1 0 100 0 0 10 0\n" +
  "   1: 0100007F:8D22 0100007F:0CBC 01 00000000:00000000 00:00000000 00000000  1000        0 41235 1 0 20 4 30 10 -1\n" +
  "  12: 0100007F:0CBC 0100007F:8D22 01 00000000:00000000 00:00000000 00000000     0        0 41236 1 0 20 4 30 10 -1\n";
const host = [127, 0, 0, 1];

Deno.test("the owner of a connection is the one of its other end", () => {
  assert.equal(ownerInList(LIST, { host, port: 0x8d22 }, { host, port: 0x0cbc }), 1000);
  assert.equal(ownerInList(LIST, { host, port: 0x0cbc }, { host, port: 0x8d22 }), 0);
  assert.equal(ownerInList(LIST, { host, port: 1 }, { host, port: 0x0cbc }), undefined);
  assert.equal(ownerInList("garbage\n: : :\n", { host, port: 1 }, { host, port: 2 }), undefined);
});

/** A listener without the runtime, so that the descriptor of the accepted connection is at hand. */
function listen(): { readonly fd: number; readonly port: number } {
  const fd = libc.socket(2, 1, 0), address = encodeAddress({ kind: "tcp", host: "127.0.0.1", port: 0 });
  assert.equal(libc.bind(fd, address, address.length), 0);
  assert.equal(libc.listen(fd, 4), 0);
  const out = new Uint8Array(16), length = new Uint8Array(new Int32Array([16]).buffer);
  assert.equal(libc.getsockname(fd, out, length), 0);
  return { fd, port: new DataView(out.buffer).getUint16(2) };
}

peerTest(
  "root is let in, and another user of this machine is not",
  { needs: ["root", "setpriv"] },
  async () => {
    const { fd: listener, port } = listen();
    try {
      {
        using _mine = await Deno.connect({ hostname: "127.0.0.1", port });
        const fd = libc.accept4(listener, null, null, 0);
        assert.equal(whyNotRoot(fd), "");
        libc.close(fd);
      }
      const script = `exec 3<>/dev/tcp/127.0.0.1/${port}; echo there; sleep 60`;
      const as = ["--reuid=65534", "--regid=65534", "--clear-groups"];
      await using other = spawnLogged("setpriv", [...as, "bash", "-c", script]);
      await other.waitForOutput(/there/);
      const fd = libc.accept4(listener, null, null, 0);
      assert.match(whyNotRoot(fd), /user 65534 made the connection/);
      libc.close(fd);
      assert.match(whyNotRoot(listener), /over, or is none of IPv4/);
    } finally {
      libc.close(listener);
    }
  },
);
