/**
 * Devices without a volume: NBD devices whose engine is gone, and names in `/dev/longhorn` that lead nowhere.
 *
 * @module
 */
import { numberOfPath, stackOn } from "../block_stack.ts";
import { usersOfDevice } from "../in_use.ts";
import { detachNbd, listNbdDevices, type NbdDevice } from "../nbd/device.ts";
import { HostError } from "../retry.ts";
import { type Finding, isServed, type NodeView } from "./finding.ts";

/** NBD devices whose engine is gone. */
export function deadNbdDevices(node: NodeView): Promise<Finding[]> {
  const { context } = node, { sys } = context;
  const users = (device: NbdDevice) => usersOfDevice(device, [`/dev/${device.name}`], node.context);
  const findings = listNbdDevices(sys).filter(({ volume }) => !isServed(node, volume)).map(
    (device): Finding => {
      const { volume, name } = device, subject = "nbd device", now = users(device);
      const what = `/dev/${name} belongs to volume ${volume}, whose engine is gone`;
      if (now.length > 0) {
        const todo = `it is in use (${now.join(", ")}): start the volume again, or unmount or close that`;
        return { severity: "broken", subject, what, todo };
      }
      const repair = async (): Promise<void> => {
        if (isServed(node, volume)) throw new HostError("an engine serves the volume now");
        const later = users(device);
        if (later.length > 0) throw new HostError(`it is in use now: ${later.join(", ")}`);
        await detachNbd(context, device);
      };
      return { severity: "left-over", subject, what, todo: `nbd-client -d /dev/${name}`, repair };
    },
  );
  return Promise.resolve(findings);
}

function entries(directory: string): string[] {
  try {
    return [...Deno.readDirSync(directory)].map(({ name }) => name).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** Names of volumes' devices that lead to no device. */
export function deadNames(node: NodeView): Promise<Finding[]> {
  const { devices, context: { sys } } = node;
  const leadsNowhere = (path: string): boolean => {
    const number = numberOfPath(path, sys);
    return number === null || stackOn(number, sys).length === 0;
  };
  const isName = (path: string): boolean => {
    const stat = Deno.lstatSync(path);
    return stat.isSymlink || stat.isBlockDevice === true;
  };
  const findings = entries(devices).map((name) => ({ name, path: `${devices}/${name}` }))
    .filter(({ name, path }) => isName(path) && leadsNowhere(path) && !isServed(node, name))
    .map(({ name, path }): Finding => ({
      severity: "left-over",
      subject: "device name",
      what: `${path} leads to a device that is gone`,
      todo: `rm ${path}`,
      repair: () => {
        if (isServed(node, name) || !isName(path) || !leadsNowhere(path)) {
          return Promise.reject(new HostError("it leads to a device now"));
        }
        Deno.removeSync(path);
        return Promise.resolve();
      },
    }));
  return Promise.resolve(findings);
}
