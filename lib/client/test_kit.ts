/**
 * A volume that is not there, for tests of clients: an engine, replicas and sync agents that answer as told and
 * remember every call. They are served for real, on loopback.
 *
 * @module
 */
import {
  Code,
  type ControllerMethods,
  controllerService,
  type Handlers,
  type Identity,
  implement,
  ptypes,
  type ReplicaMethods,
  replicaService,
  RpcError,
  type RpcServer,
  serve,
  type Service,
  type SyncAgentMethods,
  syncAgentService,
} from "../rpc/mod.ts";

/** A request as it arrived: plain data. */
export interface SeenCall {
  /** `controller`, or the port of the replica. */
  readonly who: string;
  /** The method. */
  readonly method: string;
  /** The request. */
  readonly request: Record<string, unknown>;
}

/** One replica. */
export interface FakeReplica {
  /** `tcp://127.0.0.1:PORT`. */
  readonly address: string;
  /** Its port, as in {@linkcode SeenCall.who}. */
  readonly port: string;
  /** What the engine thinks of it. */
  mode: ptypes.ReplicaMode;
  /** What replicaGet answers. */
  state: ptypes.IReplica;
  /** Answers of its service, besides replicaGet; a missing one echoes the state. */
  replica: Partial<Handlers<ReplicaMethods>>;
  /** Answers of its sync agent; a missing one is an empty message. */
  agent: Partial<Handlers<SyncAgentMethods>>;
}

/** See the module text. */
export interface FakeVolume extends AsyncDisposable {
  /** Of the engine. */
  readonly address: string;
  /** The replicas that are served; the engine lists those in {@linkcode FakeVolume.listed}. */
  readonly all: FakeReplica[];
  /** What the engine lists. */
  readonly listed: FakeReplica[];
  /** What volumeGet answers. */
  volume: ptypes.IVolume;
  /** Answers of the engine besides volumeGet, replicaList and those that change the list. */
  controller: Partial<Handlers<ControllerMethods>>;
  /** Every call, in order of arrival. */
  readonly calls: SeenCall[];
  /** Methods called on one service, in order, without the reading ones. */
  changes(who?: string): string[];
}

/** Ports of a replica: control, data (nobody listens there), sync agent. */
const REPLICA_PORTS = 3;

/** Ports that a volume needs. */
export function portsFor(replicas: number): number {
  return 1 + replicas * REPLICA_PORTS;
}

/** Methods that change nothing. */
const READING =
  /^(volumeGet|replicaList|replicaGet|versionDetailGet|.*Status|.*LockState|.*LimitGet|droverSyncPrepare)$/;

/** Handlers for every method of a service, found when they are called. */
function handlersOf<M>(
  service: Service<M>,
  find: (method: string) => ((request: unknown) => unknown) | undefined,
  seen: (method: string, request: Record<string, unknown>) => void,
): Handlers<M> {
  const names = [...service.methods.keys()];
  return Object.fromEntries(names.map((method) => [method, (request: Record<string, unknown>) => {
    seen(method, JSON.parse(JSON.stringify(request)));
    const handler = find(method);
    return handler ? handler(request) : {};
  }])) as unknown as Handlers<M>;
}

async function serveReplica(
  one: FakeReplica,
  calls: SeenCall[],
  identity: Identity,
): Promise<RpcServer[]> {
  const seen = (method: string, request: Record<string, unknown>) =>
    calls.push({ who: one.port, method, request });
  const own = handlersOf(replicaService, (method) => {
    const chosen = one.replica[method as keyof typeof one.replica] as ((r: unknown) => unknown) | undefined;
    return chosen ?? (() => ({ replica: one.state }));
  }, seen);
  const agent = handlersOf(
    syncAgentService,
    (method) => one.agent[method as keyof typeof one.agent] as ((r: unknown) => unknown) | undefined,
    seen,
  );
  const role = { role: "replica", ...identity } as const, port = Number(one.port);
  return [
    await serve({
      address: `127.0.0.1:${port}`,
      services: [implement(replicaService, own)],
      identity: role,
    }),
    await serve({
      address: `127.0.0.1:${port + 2}`,
      services: [implement(syncAgentService, agent)],
      identity: role,
    }),
  ];
}

function fakeReplica(port: number): FakeReplica {
  return {
    address: `tcp://127.0.0.1:${port}`,
    port: String(port),
    mode: ptypes.ReplicaMode.RW,
    state: {
      state: "open",
      size: "1048576",
      head: "volume-head-000.img",
      chain: ["volume-head-000.img"],
      disks: { "volume-head-000.img": { name: "volume-head-000.img", size: "0" } },
    },
    replica: {},
    agent: {},
  };
}

/** What the engine does by itself. */
function engineHandlers(fake: FakeVolume): Partial<Handlers<ControllerMethods>> {
  const find = (address: string | undefined | null) => fake.listed.find((r) => r.address === address);
  return {
    volumeGet: () => ({ ...fake.volume, replicaCount: fake.listed.length }),
    replicaList: () => ({
      replicas: fake.listed.map(({ address, mode }) => ({ address: { address }, mode })),
    }),
    versionDetailGet: () => ({ version: { version: "fake", controllerAPIVersion: 6 } }),
    replicaRebuildConcurrentSyncLimitGet: () => ({ limit: 5 }),
    controllerReplicaCreate: ({ address, mode }) => {
      const one = fake.all.find((r) => r.address === address);
      if (!one) throw new RpcError(Code.UNKNOWN, `nobody at ${address}`);
      one.mode = mode;
      fake.listed.push(one);
      return { address: { address }, mode };
    },
    replicaVerifyRebuild: ({ address }) => {
      const one = find(address);
      if (one) one.mode = ptypes.ReplicaMode.RW;
      return { address: { address }, mode: ptypes.ReplicaMode.RW };
    },
    replicaDelete: ({ address }) => {
      const index = fake.listed.findIndex((r) => r.address === address);
      if (index >= 0) fake.listed.splice(index, 1);
      return {};
    },
  };
}

/**
 * Serves a volume.
 *
 * @param port the first of {@linkcode portsFor} free ones in a row
 * @param replicas number of replicas that are served
 * @param listed how many of them the engine lists at first; default all
 */
export async function fakeVolume(
  port: number,
  replicas: number,
  listed = replicas,
  identity: Identity = {},
): Promise<FakeVolume> {
  const all: FakeReplica[] = [];
  for (let i = 0; i < replicas; i++) all.push(fakeReplica(port + 1 + i * REPLICA_PORTS));
  const servers: RpcServer[] = [];
  const fake: FakeVolume = {
    address: `127.0.0.1:${port}`,
    all,
    listed: all.slice(0, listed),
    volume: { name: "vol", size: 1048576 },
    controller: {},
    calls: [],
    changes: (who) =>
      fake.calls.filter((call) => (who === undefined || call.who === who) && !READING.test(call.method))
        .map(({ method }) => method),
    [Symbol.asyncDispose]: async () => {
      await Promise.all(servers.map((server) => server.close()));
    },
  };
  const usual = engineHandlers(fake);
  const controller = handlersOf(
    controllerService,
    (method) => {
      const key = method as keyof typeof usual;
      return (fake.controller[key] ?? usual[key]) as ((request: unknown) => unknown) | undefined;
    },
    (method, request) => fake.calls.push({ who: "controller", method, request }),
  );
  servers.push(
    await serve({
      address: fake.address,
      services: [implement(controllerService, controller)],
      identity: { role: "controller", ...identity },
    }),
  );
  for (const one of all) servers.push(...await serveReplica(one, fake.calls, identity));
  return fake;
}
