/**
 * What the services say about their version.
 *
 * @module
 */
import { VERSION } from "../engine/version.ts";
import { INSTANCE_API } from "./limits.ts";

/** A `VersionResponse`. */
export interface ManagerVersion {
  /** Version of Drover. */
  version: string;
  /** Not known to the sources. */
  gitCommit: string;
  /** Not known to the sources. */
  buildDate: string;
  /** Interface number, and so on. */
  instanceManagerAPIVersion: number;
  /** Oldest that is understood. */
  instanceManagerAPIMinVersion: number;
  /** Of the proxy. */
  instanceManagerProxyAPIVersion: number;
  /** Oldest that is understood. */
  instanceManagerProxyAPIMinVersion: number;
}

/** The version of the manager and its proxy. */
export function managerVersion(): ManagerVersion {
  return {
    version: VERSION,
    gitCommit: "",
    buildDate: "",
    instanceManagerAPIVersion: INSTANCE_API.manager,
    instanceManagerAPIMinVersion: INSTANCE_API.managerMin,
    instanceManagerProxyAPIVersion: INSTANCE_API.proxy,
    instanceManagerProxyAPIMinVersion: INSTANCE_API.proxyMin,
  };
}
