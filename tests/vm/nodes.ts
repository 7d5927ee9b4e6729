/**
 * Copies on other nodes, which are network namespaces: what happens when the network between them and the engine fails,
 * and when a new engine relieves the running one. The scenarios go on with the same volume; each sets it up when it
 * is the first, or when the one before failed.
 *
 * @module
 */
import type { Lab } from "../../tools/vm/lab.ts";
import type { Scenario } from "../../tools/vm/scenario.ts";
import { RecordWriter, verifyRecords } from "./records.ts";

/** Time limit of one step, milliseconds: the machine may be emulated on a busy host. */
const STEP_MS = 900_000;
/** Records to be seen after each event. */
const RECORDS = 20;
/** A silence that an engine sits out: shorter than the time after which it gives a silent copy up, seconds. */
const SHORT_SECONDS = 4;

/** The volume with its file system at /mnt, and a program that writes to it. */
async function withLoad(lab: Lab, work: (writer: RecordWriter) => Promise<void>): Promise<void> {
  await lab.sh("nodes_up far 200MiB; mark; rm -rf /mnt/[abn]*; sync", STEP_MS);
  const writer = await RecordWriter.start(lab, 1);
  await writer.more(RECORDS);
  await work(writer);
  await writer.more(RECORDS);
  await writer.stop();
  await verifyRecords(lab, writer.last);
  await lab.sh("fails kernel_errors");
}

/** Sets `$port` to that of the running engine. */
const PORT = "port=$(engine_port)";

/** See the module text. */
export const NODES: readonly Scenario[] = [
  {
    name: "copies on other nodes: the network is away for a short time, and requests wait",
    slow: true,
    run: async (lab) => {
      await withLoad(lab, async () => {
        await lab.sh(`
for n in 1 2 3; do ip link set to$n down; done
sleep ${SHORT_SECONDS}
for n in 1 2 3; do ip link set to$n up; done
`);
      });
      await lab.sh(`${PORT}; for n in 1 2 3; do [ "$(mode_of $n $port)" = RW ]; done`);
    },
  },
  {
    name: "copies on other nodes: one is cut off, the volume goes on, and it comes back",
    slow: true,
    run: async (lab) => {
      await withLoad(lab, async (writer) => {
        await lab.sh(`
${PORT}
ip link set to3 down
out() { [ "$(mode_of 3 $port)" = ERR ]; }
within 120 out
`);
        await writer.more(RECORDS);
        await lab.sh(
          `
${PORT}
ip link set to3 up
kill -9 $(cat /run/copy3.pid)
engine --url http://127.0.0.1:$port rm-replica tcp://10.9.0.13:10000
: >/run/copy3.out
start_copy 3 far 200MiB
within 300 grep -q 'replica ready' /run/copy3.out
engine --url http://127.0.0.1:$port add-replica tcp://10.9.0.13:10000 --size 209715200 --current-size 209715200
back() { [ "$(mode_of 3 $port)" = RW ]; }
within 300 back
`,
          STEP_MS,
        );
      });
    },
  },
  {
    name: "a new engine takes the volume over while it is written to",
    slow: true,
    run: async (lab) => {
      await withLoad(lab, async () => {
        await lab.sh(
          `
start_engine b far 200MiB 9502 --upgrade
within 300 grep -q 'engine ready' /run/engine-b.out
grep -q 'took the volume over' /run/engine-b.out || { cat /run/engine-b.out; exit 1; }
kill -HUP $(cat /run/engine-a.pid)
within 60 is_over engine-a
echo b >/run/engine.now
`,
          STEP_MS,
        );
      });
    },
  },
  {
    name: "copies on other nodes: all ends in order, nothing is left behind, the copies are equal",
    slow: true,
    run: async (lab) => {
      await lab.sh(
        `
nodes_up far 200MiB
umount /mnt
e2fsck -f -n /dev/longhorn/far >/run/check.out 2>&1 || { cat /run/check.out; exit 1; }
now=$(cat /run/engine.now)
kill -TERM $(cat /run/engine-$now.pid)
within 120 is_over engine-$now
for n in 1 2 3; do kill -TERM $(cat /run/copy$n.pid); done
for n in 1 2 3; do within 120 is_over copy$n; ip netns del node$n; done
ip link del nodes
rm /run/nodes.up
left_behind
same_copies far
rm -r /data1/far-r-1 /data2/far-r-2 /data3/far-r-3
`,
        STEP_MS,
      );
    },
  },
];
