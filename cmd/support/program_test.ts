import assert from "node:assert/strict";
import { plainMessage } from "./program.ts";

Deno.test("errors of the runtime about files name the file first, in plain words", () => {
  const said = (text: string) => plainMessage(new Error(text));
  assert.equal(
    said("Permission denied (os error 13): mkdir '/srv/x'"),
    "mkdir /srv/x: permission denied; name another place, or be a user who may do that",
  );
  assert.equal(
    said("No such file or directory (os error 2): open 'a/b'"),
    "open a/b: no such file or directory",
  );
  assert.equal(said("Connection refused (os error 111)"), "connection refused");
  assert.equal(said("volume x is in use"), "volume x is in use");
});
