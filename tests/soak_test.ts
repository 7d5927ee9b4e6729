/** A minute of everything at once; `deno task soak` takes longer. */
import assert from "node:assert/strict";
import { soak } from "../tools/soak.ts";
import { peerTest } from "./support/conditional.ts";
import { tempDir } from "./support/temp.ts";

peerTest(
  "fio verifies what it wrote while copies are killed and rebuilt, snapshots taken, removed and purged",
  { needs: ["fio"] },
  async () => {
    using directory = tempDir("sk-");
    const said: string[] = [];
    const { done, problems } = await soak({
      seconds: 60,
      frontend: "nbd",
      seed: 7,
      directory: directory.path,
      say: (text) => said.push(text),
    });
    assert.deepEqual(problems, [], said.join("\n"));
    assert.ok(done.kill > 0 && done.snapshot > 0, JSON.stringify(done));
  },
);
