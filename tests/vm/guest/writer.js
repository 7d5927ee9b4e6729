/**
 * Writes records to files below a directory, each on stable storage before it is told to the host and before the next.
 * Runs in the machine, as plain JavaScript: deno run -A writer.js DIRECTORY FIRST PORT.
 *
 *   record % 5   what is done
 *   0, 1, 2      append to file a, fdatasync
 *   3            overwrite a place of file b, fsync
 *   4            a new file under a temporary name, fsync, rename, fsync of the directory
 *
 * With --verify LAST instead of a port it checks that all records from FIRST to LAST are there.
 */
import fs from "node:fs";

const [directory, first, target, last] = Deno.args;
const SLOT_BYTES = 8192, SLOTS = 4096;

/** Bytes of a record: its number, then numbers of a generator seeded by it. */
function contents(record) {
  const bytes = new Uint8Array(512 + (record * 2654435761 >>> 8) % 7000);
  let state = record * 2246822519 >>> 0 || 1;
  for (let at = 0; at < bytes.length; at++) {
    state ^= state << 13, state ^= state >>> 17, state ^= state << 5;
    bytes[at] = state;
  }
  new DataView(bytes.buffer).setUint32(0, record);
  return bytes;
}

const a = `${directory}/a`, b = `${directory}/b`;

function write(record) {
  const kind = record % 5, data = contents(record);
  if (kind === 4) {
    const name = `${directory}/new-${record}`, temporary = `${name}.tmp`;
    const file = fs.openSync(temporary, "w");
    fs.writeSync(file, data);
    fs.fsyncSync(file);
    fs.closeSync(file);
    fs.renameSync(temporary, name);
    const parent = fs.openSync(directory, "r");
    fs.fsyncSync(parent);
    fs.closeSync(parent);
    return;
  }
  const file = fs.openSync(kind === 3 ? b : a, fs.constants.O_RDWR | fs.constants.O_CREAT);
  fs.writeSync(file, data, 0, data.length, kind === 3 ? record % SLOTS * SLOT_BYTES : offsetInA(record));
  if (kind === 3) fs.fsyncSync(file);
  else fs.fdatasyncSync(file);
  fs.closeSync(file);
}

/** Appended records follow each other without gaps. */
let known = 0, offset = 0;
function offsetInA(record) {
  if (record < known) known = offset = 0;
  for (; known < record; known++) if (known % 5 < 3) offset += contents(known).length;
  return offset;
}

function read(record) {
  const kind = record % 5, data = new Uint8Array(contents(record).length);
  const file = fs.openSync(kind === 4 ? `${directory}/new-${record}` : kind === 3 ? b : a, "r");
  fs.readSync(
    file,
    data,
    0,
    data.length,
    kind === 4 ? 0 : kind === 3 ? record % SLOTS * SLOT_BYTES : offsetInA(record),
  );
  fs.closeSync(file);
  return data;
}

if (target === "--verify") {
  const wrong = [];
  for (let record = Number(first); record <= Number(last); record++) {
    try {
      const is = read(record), must = contents(record);
      const at = must.findIndex((byte, index) => is[index] !== byte);
      if (at >= 0) wrong.push(`record ${record} (kind ${record % 5}) differs from byte ${at} on`);
    } catch (error) {
      wrong.push(`record ${record} (kind ${record % 5}): ${error.message}`);
    }
  }
  console.log(wrong.length === 0 ? `records ${first} to ${last} are there` : wrong.slice(0, 20).join("\n"));
  Deno.exit(wrong.length === 0 ? 0 : 1);
}
const port = fs.openSync(target, "r+");
for (let record = Number(first);; record++) {
  write(record);
  fs.writeSync(port, `${record}\n`);
}
