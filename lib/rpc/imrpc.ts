/**
 * The services of the instance manager. Apart from `mod.ts`, so that engines and replicas do not load them.
 *
 * @module
 */

import * as imrpcModule from "./gen/imrpc.js";
import { defineService, type MethodsOf, type Service } from "./service.ts";

export * from "./gen/imrpc.js";

const imrpc = imrpcModule.imrpc;

/** Methods of ProcessManagerService. */
export type ProcessManagerMethods = MethodsOf<
  typeof imrpcModule,
  typeof imrpcModule,
  typeof imrpcModule.ProcessManagerService
>;

/** ProcessManagerService, which has no package: the processes of a node. */
export const processManagerService: Service<ProcessManagerMethods> = defineService(
  imrpcModule,
  imrpcModule,
  imrpcModule.ProcessManagerService,
);

/** Methods of imrpc.InstanceService. */
export type InstanceMethods = MethodsOf<
  typeof imrpcModule,
  typeof imrpcModule.imrpc,
  typeof imrpcModule.imrpc.InstanceService
>;

/** imrpc.InstanceService: engines and replicas of a node. */
export const instanceService: Service<InstanceMethods> = defineService(
  imrpcModule,
  imrpc,
  imrpc.InstanceService,
);

/** Methods of imrpc.ProxyEngineService. */
export type ProxyEngineMethods = MethodsOf<
  typeof imrpcModule,
  typeof imrpcModule.imrpc,
  typeof imrpcModule.imrpc.ProxyEngineService
>;

/** imrpc.ProxyEngineService: calls to the engines of a node. */
export const proxyEngineService: Service<ProxyEngineMethods> = defineService(
  imrpcModule,
  imrpc,
  imrpc.ProxyEngineService,
);

/** Methods of imrpc.DiskService. */
export type DiskMethods = MethodsOf<
  typeof imrpcModule,
  typeof imrpcModule.imrpc,
  typeof imrpcModule.imrpc.DiskService
>;

/** imrpc.DiskService: block disks of a node. */
export const diskService: Service<DiskMethods> = defineService(imrpcModule, imrpc, imrpc.DiskService);
