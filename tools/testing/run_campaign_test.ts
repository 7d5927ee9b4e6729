import assert from "node:assert/strict";
import { tempDir } from "../../tests/support/temp.ts";
import { runCampaign } from "./run_campaign.ts";
import type { JobResult } from "./run_file.ts";

async function campaign(text: string): Promise<JobResult> {
  using directory = tempDir();
  const path = directory.join("campaign.ts");
  Deno.writeTextFileSync(path, text);
  const place = { directory: "", mark: `${Deno.pid}-campaign/`, lane: 0 };
  return await runCampaign({ path, variant: "", env: {}, timeoutMs: 0 }, 7, place);
}

Deno.test("every seed of a campaign counts", async () => {
  const good = await campaign(`console.log("seed"); console.log(Deno.args[1] + " passed, 0 failed");`);
  assert.deepEqual([good.passed, good.failed, good.problems], [7, 0, []]);
  const bad = await campaign(
    `console.log("seed 3: lost write"); console.log("6 passed, 1 failed"); Deno.exit(1);`,
  );
  assert.deepEqual([bad.passed, bad.failed, bad.problems], [6, 1, []]);
  assert.match(bad.output, /lost write/);
});

Deno.test("a campaign that breaks off, or counts nothing, has failed", async () => {
  const broken = await campaign(`console.log("7 passed, 0 failed"); throw new Error("afterwards");`);
  assert.equal(broken.failed, 1);
  const silent = await campaign("");
  assert.deepEqual([silent.failed, silent.problems], [1, ["its last line is not `N passed, N failed`"]]);
});
