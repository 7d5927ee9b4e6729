/**
 * The product as a disk for the machine: what `deno task dist` makes, and the scripts of `guest/` beside it.
 *
 * @module
 */
import { join } from "node:path";
import { CommandError } from "../../lib/host/command.ts";
import { ROOT } from "../../tests/support/repository.ts";
import { existingPrograms, WORKERS } from "../programs.ts";
import { makeDist } from "../shipping/dist.ts";
import { diskFrom } from "./image.ts";
import { ensureTgtStore } from "./tgt_store.ts";

/** Bytes of the disk; the file is sparse. */
const PRODUCT_BYTES = 512 * 1024 ** 2;
/** Directories with what runs in the machine besides the product. */
const GUEST = ["tools/vm/guest", "tests/vm/guest"];

/** Name of what {@linkcode ensureTgtStore} makes, beside the guest's scripts. */
const TGT_STORE = "tgt-longhorn.so";

/** Makes the disk in `directory`, which is the caller's. @param say told what is missing @returns its path */
export async function makeProduct(directory: string, say: (line: string) => void): Promise<string> {
  const tree = join(directory, "product"), disk = join(directory, "product.img");
  await makeDist({ root: ROOT, programs: existingPrograms(ROOT), workers: WORKERS }, tree);
  Deno.mkdirSync(join(tree, "guest"));
  for (const from of GUEST.map((path) => join(ROOT, path))) {
    for (const { name } of Deno.readDirSync(from)) {
      Deno.copyFileSync(join(from, name), join(tree, "guest", name));
    }
  }
  Deno.chmodSync(join(tree, "guest", "init"), 0o755);
  try {
    Deno.copyFileSync(await ensureTgtStore(), join(tree, "guest", TGT_STORE));
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    say(`tgtd gets no backing store for volumes: ${error.message}`);
  }
  await diskFrom(tree, disk, PRODUCT_BYTES);
  Deno.removeSync(tree, { recursive: true });
  return disk;
}
