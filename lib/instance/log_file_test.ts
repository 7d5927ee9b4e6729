import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { tempDir } from "../../tests/support/temp.ts";
import { waitFor } from "../../tests/support/wait.ts";
import { FilesLibc } from "../io/files_libc.ts";
import { libc } from "../io/libc.ts";
import { systemClock } from "./clock.ts";
import { LOG_KEEP_MS, LOG_LINE_BYTES } from "./limits.ts";
import { LogEcho } from "./log_echo.ts";
import { LogDirectory } from "./log_file.ts";

const MIB = 1024 * 1024;
const files = new FilesLibc();

/** Appends as a process does: through a descriptor that it got once. */
function append(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  assert.equal(libc.write(fd, bytes, bytes.length), bytes.length);
}

Deno.test("a log that is too long is cut at the front, and no line is lost to a process that goes on writing", () => {
  using directory = tempDir();
  const logs = new LogDirectory(files, directory.path, 4 * MIB);
  const fd = logs.openForProcess("a");
  const line = (number: number): string => `line ${number} ${"x".repeat(80)}`;
  let number = 0;
  const write = (bytes: number): void => {
    for (let done = 0; done < bytes;) {
      let text = "";
      for (let i = 0; i < 1000; i++) text += `${line(number++)}\n`;
      append(fd, text);
      done += text.length;
    }
  };
  write(3 * MIB);
  assert.equal(logs.trim("a"), false);
  write(2 * MIB);
  assert.equal(logs.trim("a"), true);
  assert.ok(Deno.statSync(logs.path("a")).size <= 2 * MIB);
  write(MIB);
  assert.deepEqual([...logs.lines("a")].slice(0, 2), [line(0), line(1)], "the older part is there still");
  assert.equal([...logs.lines("a")].length, number);
  write(3 * MIB);
  assert.equal(logs.trim("a"), true);
  const lines = [...logs.lines("a")];
  assert.equal(lines.at(-1), line(number - 1));
  for (const [index, text] of lines.entries()) {
    if (index > 0) assert.equal(text, line(number - lines.length + index));
  }
  assert.ok(lines.length > 30_000);
  libc.close(fd);
});

Deno.test("a reader goes on where it was when the log is cut under it", () => {
  using directory = tempDir();
  const logs = new LogDirectory(files, directory.path, 2 * MIB);
  const fd = logs.openForProcess("a");
  for (let i = 0; i < 300; i++) append(fd, `${String(i).padStart(10_000, "0")}\n`);
  const reading = logs.lines("a");
  for (let i = 0; i < 50; i++) assert.equal(Number(reading.next().value), i);
  assert.equal(logs.trim("a"), true);
  append(fd, "after the reading began\n");
  const rest = [...reading].map(Number);
  assert.deepEqual(rest, Array.from({ length: 250 }, (_, index) => index + 50));
  libc.close(fd);
});

Deno.test("bytes that are no text, lines without an end, and very long lines are streamed", () => {
  using directory = tempDir();
  const logs = new LogDirectory(files, directory.path);
  assert.deepEqual([...logs.lines("none")], []);
  const long = "y".repeat(LOG_LINE_BYTES * 2 + 5);
  Deno.writeFileSync(
    logs.path("a"),
    Buffer.concat([
      Buffer.from("ü first\n\n"),
      Buffer.from([0xff, 0xfe, 10]),
      Buffer.from(`${long}\nlast`),
    ]),
  );
  assert.deepEqual([...logs.lines("a")], [
    "ü first",
    "",
    "\ufffd\ufffd",
    "y".repeat(LOG_LINE_BYTES),
    "y".repeat(LOG_LINE_BYTES),
    "yyyyy",
    "last",
  ]);
});

Deno.test("a link in the place of a log is not followed", () => {
  using directory = tempDir();
  const logs = new LogDirectory(files, directory.join("logs"));
  Deno.writeTextFileSync(directory.join("target"), "precious");
  Deno.symlinkSync(directory.join("target"), logs.path("a"));
  assert.throws(() => logs.openForProcess("a"), /ELOOP|errno 40/);
});

Deno.test("old logs of processes that are gone are removed, nothing else", () => {
  using directory = tempDir();
  const logs = new LogDirectory(files, directory.path);
  for (const name of ["gone.log", "gone.log.1", "here.log", "fresh.log", "notes.txt", ".hidden.log"]) {
    Deno.writeTextFileSync(directory.join(name), "");
    if (name !== "fresh.log") Deno.utimeSync(directory.join(name), 1000, 1000);
  }
  assert.equal(logs.removeOld((name) => name === "here", Date.now()), 2);
  const left = [...Deno.readDirSync(directory.path)].map(({ name }) => name).sort();
  assert.deepEqual(left, [".hidden.log", "fresh.log", "here.log", "notes.txt"]);
  assert.equal(logs.removeOld(() => false, Date.now() + LOG_KEEP_MS + 60_000), 2);
});

Deno.test("the older part of a log that an earlier manager cut is streamed, too", () => {
  using directory = tempDir();
  Deno.writeTextFileSync(directory.join("a.log.1"), "one\ntw");
  Deno.writeTextFileSync(directory.join("a.log"), "o\nthree\n");
  assert.deepEqual([...new LogDirectory(files, directory.path).lines("a")], ["one", "two", "three"]);
});

Deno.test("what processes write from now on is repeated with their names, in whole lines, also across a cut", () => {
  using directory = tempDir();
  const logs = new LogDirectory(files, directory.path, 2 * MIB), said: string[] = [];
  const first = logs.openForProcess("a");
  append(first, "before\n");
  const echo = new LogEcho(logs, (text) => said.push(text));
  const round = (...names: string[]): string => {
    for (const name of names) echo.note(logs.path(name));
    echo.round();
    return said.splice(0).join("");
  };
  append(first, "one\ntw");
  assert.equal(round("a"), "[a] one\n");
  const second = logs.openForProcess("b");
  append(second, "other \xff\n");
  append(first, "o\n");
  assert.equal(round("a", "b"), "[a] two\n[b] other \xff\n");
  assert.equal(round("a", "../x", "none"), "");
  for (let i = 0; i < 300; i++) append(first, `${String(i).padStart(10_000, "0")}\n`);
  logs.trim("a");
  append(first, "end\n");
  const lines = round("a").split("\n");
  assert.deepEqual([lines.length, lines[0]?.length, lines.at(-2)], [302, 10_004, "[a] end"]);
  Deno.removeSync(logs.path("b"));
  assert.equal(round("b"), "");
  libc.close(second);
  const third = logs.openForProcess("b");
  append(third, "new\n");
  assert.equal(round("b"), "[b] new\n");
  for (const fd of [first, third]) libc.close(fd);
});

Deno.test("the kernel tells which logs changed", async () => {
  using directory = tempDir();
  const logs = new LogDirectory(files, directory.path), over = new AbortController();
  let said = "";
  const running = new LogEcho(logs, (text) => said += text).run(systemClock, over.signal);
  const fd = logs.openForProcess("a");
  append(fd, "one\n");
  await waitFor(() => said === "[a] one\n", { what: "the first line" });
  append(fd, "two\n");
  await waitFor(() => said === "[a] one\n[a] two\n", { what: "the second line" });
  libc.close(fd);
  over.abort();
  await running;
});
