/**
 * The services of engines and replicas.
 *
 * @module
 */

import * as profilerModule from "./gen/profilerrpc.js";
import * as ptypesModule from "./gen/ptypes.js";
import { defineService, type MethodsOf, type Service } from "./service.ts";

const ptypes = ptypesModule.ptypes;
const profilerrpc = profilerModule.profilerrpc;

/** Methods of ptypes.ControllerService. */
export type ControllerMethods = MethodsOf<
  typeof ptypesModule,
  typeof ptypesModule.ptypes,
  typeof ptypesModule.ptypes.ControllerService
>;

/** ptypes.ControllerService: the engine. */
export const controllerService: Service<ControllerMethods> = defineService(
  ptypesModule,
  ptypes,
  ptypes.ControllerService,
);

/** Methods of ptypes.ReplicaService. */
export type ReplicaMethods = MethodsOf<
  typeof ptypesModule,
  typeof ptypesModule.ptypes,
  typeof ptypesModule.ptypes.ReplicaService
>;

/** ptypes.ReplicaService: the replica. */
export const replicaService: Service<ReplicaMethods> = defineService(
  ptypesModule,
  ptypes,
  ptypes.ReplicaService,
);

/** Methods of ptypes.SyncAgentService. */
export type SyncAgentMethods = MethodsOf<
  typeof ptypesModule,
  typeof ptypesModule.ptypes,
  typeof ptypesModule.ptypes.SyncAgentService
>;

/** ptypes.SyncAgentService: long jobs beside the replica. */
export const syncAgentService: Service<SyncAgentMethods> = defineService(
  ptypesModule,
  ptypes,
  ptypes.SyncAgentService,
);

/** Methods of profilerrpc.Profiler. */
export type ProfilerMethods = MethodsOf<
  typeof profilerModule,
  typeof profilerModule.profilerrpc,
  typeof profilerModule.profilerrpc.Profiler
>;

/** profilerrpc.Profiler. */
export const profilerService: Service<ProfilerMethods> = defineService(
  profilerModule,
  profilerrpc,
  profilerrpc.Profiler,
);
