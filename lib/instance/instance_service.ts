/**
 * InstanceService: engines and replicas as instances. An instance of the first data engine, the only one here, is a
 * process; the calls are those of the process manager with other messages.
 *
 * @module
 */
import { levelName, logLevel, parseLevel, setLogLevel } from "../log/log.ts";
import { Code, type Handlers, RpcError, unimplemented } from "../rpc/mod.ts";
import { imrpc, type InstanceMethods } from "../rpc/imrpc.ts";
import type { LogDirectory } from "./log_file.ts";
import { volumeOfEngine } from "./names.ts";
import { logMessages, processMessage, watchMessages } from "./process_service.ts";
import type { ProcessSpec } from "./record.ts";
import type { ProcessTable, ProcessView } from "./table.ts";
import { managerVersion } from "./version.ts";

const { DATA_ENGINE_V1, DATA_ENGINE_V2 } = imrpc.DataEngine;

/** By which a caller says which data engine it means; older ones send only the first. */
interface EngineChoice {
  readonly backendStoreDriver?: imrpc.BackendStoreDriver | null;
  readonly dataEngine?: imrpc.DataEngine | null;
}

/** @throws RpcError with UNIMPLEMENTED for any but the first data engine */
function checkEngine({ backendStoreDriver, dataEngine }: EngineChoice): void {
  const known = dataEngine === undefined || dataEngine === null || dataEngine === DATA_ENGINE_V1;
  const second = dataEngine === DATA_ENGINE_V2 || backendStoreDriver === imrpc.BackendStoreDriver.v2;
  if (known && !second) return;
  const engine = second ? "v2" : String(dataEngine);
  throw new RpcError(Code.UNIMPLEMENTED, `unsupported data engine ${engine}: only v1 is here`);
}

function specOf(spec: imrpc.IInstanceSpec | null | undefined): ProcessSpec {
  if (!spec) throw new RpcError(Code.INVALID_ARGUMENT, "missing required argument: spec");
  checkEngine(spec);
  if (!spec.processInstanceSpec) {
    throw new RpcError(Code.INVALID_ARGUMENT, "missing required argument: process_instance_spec");
  }
  return {
    name: spec.name ?? "",
    binary: spec.processInstanceSpec.binary ?? "",
    args: [...spec.processInstanceSpec.args ?? []],
    portCount: spec.portCount ?? 0,
    portArgs: [...spec.portArgs ?? []],
  };
}

/** A process as an `InstanceResponse`. @param type as the caller called it; guessed from the name without one */
export function instanceMessage(view: ProcessView, type?: string): imrpc.IInstanceResponse {
  const { spec, status, deleted } = processMessage(view);
  return {
    spec: {
      name: spec.name,
      type: type || (volumeOfEngine(spec.name) === undefined ? "replica" : "engine"),
      backendStoreDriver: imrpc.BackendStoreDriver.v1,
      dataEngine: DATA_ENGINE_V1,
      portCount: spec.portCount,
      portArgs: spec.portArgs,
      processInstanceSpec: { binary: spec.binary, args: spec.args },
    },
    status,
    deleted,
  };
}

/** The handlers. */
export function instanceHandlers(table: ProcessTable, logs: LogDirectory): Handlers<InstanceMethods> {
  return {
    instanceCreate: ({ spec, dataLayoutType }) => {
      if (dataLayoutType === imrpc.DataLayoutType.DATA_LAYOUT_TYPE_SHARDED) {
        throw new RpcError(Code.INVALID_ARGUMENT, "a sharded layout is not supported by data engine v1");
      }
      return instanceMessage(table.create(specOf(spec)), spec?.type ?? "");
    },
    instanceDelete: (request) => {
      checkEngine(request);
      return instanceMessage(table.delete(request.name, request.uuid), request.type);
    },
    instanceGet: (request) => {
      checkEngine(request);
      return instanceMessage(table.view(table.get(request.name)), request.type);
    },
    instanceList: () => ({
      instances: Object.fromEntries(
        [...table.all()].map((one) => [one.record.name, instanceMessage(table.view(one))]),
      ),
    }),
    instanceLog: (request) => {
      checkEngine(request);
      return logMessages(table, logs, request.name);
    },
    instanceWatch: (_request, call) =>
      watchMessages(table.changes.watch(call.signal), (view) => instanceMessage(view)),
    instanceReplace: async ({ spec, terminateSignal }) =>
      instanceMessage(table.view(await replaced(table, specOf(spec), terminateSignal)), spec?.type ?? ""),
    instanceSuspend: unimplemented,
    instanceResume: unimplemented,
    instanceSwitchOverTarget: unimplemented,
    instanceDeleteTarget: unimplemented,
    ...logHandlers,
    versionGet: () => managerVersion(),
  };
}

async function replaced(table: ProcessTable, spec: ProcessSpec, signal: string) {
  await table.replace(spec, signal);
  return table.get(spec.name);
}

type LogMethods = "logSetLevel" | "logGetLevel" | "logSetFlags" | "logGetFlags";

/** The log of the instance manager itself; flags are for the other data engine. */
const logHandlers: Pick<Handlers<InstanceMethods>, LogMethods> = {
  logSetLevel: (request) => {
    checkEngine(request);
    const level = parseLevel(request.level);
    if (level === undefined) {
      throw new RpcError(
        Code.INVALID_ARGUMENT,
        `log level ${JSON.stringify(request.level)}: use debug, info, warn or error`,
      );
    }
    setLogLevel(level);
    return {};
  },
  logGetLevel: (request) => {
    checkEngine(request);
    return { level: levelName(logLevel()) };
  },
  logSetFlags: (request) => {
    checkEngine(request);
    return {};
  },
  logGetFlags: (request) => {
    checkEngine(request);
    return { flags: "" };
  },
};
