/**
 * The numbers by which engines, replicas and managers find out whether they can work together. Longhorn's own
 * numbers (pkg/meta/version.go of its engine), because Drover speaks the same interfaces.
 *
 * @module
 */
import type { ptypes } from "../rpc/mod.ts";
import { ALL_FEATURES } from "../wire/frame.ts";

/** Version of this software. */
export const VERSION = "0.1.0";

/** Interface numbers; `min` is the oldest that is still understood. */
export const API = {
  cli: 12,
  cliMin: 8,
  controller: 6,
  controllerMin: 4,
  dataFormat: 1,
  dataFormatMin: 1,
} as const;

/** What VersionDetailGet and `version` report. */
export function versionOutput(): ptypes.IVersionOutput {
  return {
    version: VERSION,
    gitCommit: "",
    buildDate: "",
    cliAPIVersion: API.cli,
    cliAPIMinVersion: API.cliMin,
    controllerAPIVersion: API.controller,
    controllerAPIMinVersion: API.controllerMin,
    dataFormatVersion: API.dataFormat,
    dataFormatMinVersion: API.dataFormatMin,
    droverFeatures: ALL_FEATURES,
  };
}
