/**
 * What calls of the proxy have in common: which engine they mean, and a client of it.
 *
 * Failures of the engine and its replicas go to the caller as they came, with their code and their text: callers
 * know the texts.
 *
 * @module
 */
import { EngineClient } from "../../client/engine.ts";
import { imrpc } from "../../rpc/imrpc.ts";
import { Code, RpcError } from "../../rpc/mod.ts";

/** The part of a request that says which engine is meant. */
export type EngineChoice = imrpc.IProxyEngineRequest | null | undefined;

/** Where an engine is, and who it has to be. */
interface EngineAddress {
  readonly address: string;
  readonly volumeName: string;
  readonly instanceName: string;
}

/** Reads which engine is meant. @throws RpcError with INVALID_ARGUMENT, UNIMPLEMENTED for another data engine */
function engineAddress(choice: EngineChoice): EngineAddress {
  if (!choice?.address) {
    throw new RpcError(Code.INVALID_ARGUMENT, "missing required argument: the address of the engine");
  }
  checkDataEngine(choice);
  return {
    address: choice.address,
    volumeName: choice.volumeName ?? "",
    instanceName: choice.engineName ?? "",
  };
}

/** @throws RpcError with UNIMPLEMENTED for any data engine but the first */
function checkDataEngine({ dataEngine, backendStoreDriver }: imrpc.IProxyEngineRequest): void {
  const second = backendStoreDriver === imrpc.BackendStoreDriver.v2;
  if (!second && (dataEngine ?? imrpc.DataEngine.DATA_ENGINE_V1) === imrpc.DataEngine.DATA_ENGINE_V1) return;
  throw new RpcError(Code.UNIMPLEMENTED, "unsupported data engine: only v1 is here");
}

/** Does something with a client of the engine that is meant, and ends its connections. */
export async function withEngine<T>(
  choice: EngineChoice,
  work: (engine: EngineClient) => Promise<T>,
): Promise<T> {
  const { address, volumeName, instanceName } = engineAddress(choice);
  using engine = new EngineClient(address, { volumeName, instanceName });
  return await work(engine);
}

/** A part of a request that has to be there. @throws RpcError with INVALID_ARGUMENT */
export function required<T>(part: T | null | undefined, name: string): T {
  if (part !== null && part !== undefined && part !== "") return part;
  throw new RpcError(Code.INVALID_ARGUMENT, `missing required argument: ${name}`);
}
