/**
 * The address under which the host reaches a process in a container.
 *
 * @module
 */
import { HostError } from "./retry.ts";

/** The interface that a second network for storage has by convention. */
const STORAGE_INTERFACE = "eth1";

/** An address of an interface. */
export interface InterfaceAddress {
  /** Name of the interface. */
  readonly name: string;
  /** The address. */
  readonly address: string;
}

/** True for an address that is good beyond this machine and this link. */
export function isGlobal(address: string): boolean {
  const text = address.toLowerCase();
  if (text.includes(":")) return !/^(?:::1?$|fe[89ab]|ff)/.test(text);
  const first = Number(text.split(".")[0]);
  return first !== 0 && first !== 127 && first < 224 && !text.startsWith("169.254.");
}

/**
 * The first global address of `eth1`, else of any interface.
 *
 * @throws {HostError} when there is none
 */
export function ownAddress(interfaces: readonly InterfaceAddress[] = Deno.networkInterfaces()): string {
  const good = interfaces.filter(({ address }) => isGlobal(address));
  const found = good.find(({ name }) => name === STORAGE_INTERFACE) ?? good[0];
  if (!found) throw new HostError("no network interface has an address that the host could connect to");
  return found.address;
}
