/**
 * Loop devices and FUSE mounts whose engine is gone.
 *
 * @module
 */
import { cleanLeftovers, LoopAliveError } from "../../lib/frontend/loop/leftovers.ts";
import { listMountPoints } from "../../lib/frontend/loop/place.ts";
import { listLoopDevices } from "../../lib/host/loop_device.ts";
import type { Finding, NodeView } from "../../lib/host/node/mod.ts";
import { usersOfDevice } from "../../lib/host/in_use.ts";
import { LOOP_MAJOR } from "../../lib/host/loop_device.ts";
import { HostError } from "../../lib/host/retry.ts";

function volumesIn(directory: string): string[] {
  try {
    return [...Deno.readDirSync(directory)].map(({ name }) => name).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** Loop devices and mounts that an engine left. */
export function deadLoops(node: NodeView): Promise<Finding[]> {
  const { run, devices, context } = node;
  const findings = volumesIn(`${run}/loop`).filter((name) => !node.served().has(name)).map(
    (name): Finding => {
      const place = { run, name }, link = { path: `${devices}/${name}` };
      const attached = listLoopDevices().filter(({ backingFile }) =>
        backingFile.startsWith(`${run}/loop/${name}/`)
      );
      const users = attached.flatMap(({ path, minor }) =>
        usersOfDevice({ major: LOOP_MAJOR, minor }, [path, link.path], context)
      );
      const parts = [...attached.map(({ path }) => path), ...listMountPoints(place)].join(", ") ||
        "an empty directory";
      const what = `volume ${name}: ${parts}, whose engine is gone`, subject = "loop device";
      if (users.length > 0) {
        const todo = `it is in use (${users.join(", ")}): unmount or close that first`;
        return { severity: "broken", subject, what, todo };
      }
      const repair = async (): Promise<void> => {
        if (node.served().has(name)) throw new HostError("an engine serves the volume now");
        try {
          const { busy } = await cleanLeftovers(context.runner, place, { link });
          const [first] = busy;
          if (first) throw new HostError(`${first.device} is in use: ${first.users.join(", ")}`);
        } catch (error) {
          if (error instanceof LoopAliveError) throw new HostError(error.message, { cause: error });
          throw error;
        }
      };
      return { severity: "left-over", subject, what, todo: "drover node clean", repair };
    },
  );
  return Promise.resolve(findings);
}
