/**
 * Control calls between Drover's processes, and with Longhorn's: gRPC services, servers, clients.
 *
 * ```ts
 * import { connect, implement, ptypes, replicaService, serve } from "../rpc/mod.ts";
 *
 * const server = await serve({
 *   address: "0.0.0.0:9502",
 *   services: [implement(replicaService, handlers)],
 *   identity: { role: "replica", volumeName: "vol", instanceName: "vol-r-1" },
 * });
 *
 * const replica = connect(replicaService, "tcp://127.0.0.1:9502", { identity: { volumeName: "vol" } });
 * const { replica: info } = await replica.unary("replicaGet", {});
 * ```
 *
 * Nothing on the data path uses this: a call costs milliseconds.
 *
 * @module
 */

import "./setup.ts";

export { type Address, formatAddress, parseAddress, type TcpAddress, type UnixAddress } from "./address.ts";
export * from "./client.ts";
export * from "./errors.ts";
export { google, ptypes } from "./gen/ptypes.js";
export { profilerrpc } from "./gen/profilerrpc.js";
export {
  type HealthMethod,
  type HealthMethods,
  type HealthQuestion,
  healthService,
  type HealthStatus,
} from "./health.ts";
export type { Identity, ServerIdentity } from "./identity.ts";
export * from "./limits.ts";
export { UnsafeIntegerError } from "./numbers.ts";
export { type RpcServer, serve, type ServeOptions } from "./server.ts";
export * from "./service.ts";
export * from "./services.ts";
export type { TlsIdentity } from "./tls.ts";
