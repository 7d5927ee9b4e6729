/**
 * A replica host with its data server, for the tests of this room.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Io } from "../io/io.ts";
import { BufferPool } from "../io/pool.ts";
import { FrameType } from "../wire/frame.ts";
import { TestClient, until } from "../wire/test_kit.ts";
import type { ReplicaDescription } from "./description.ts";
import { ReplicaHost, type ReplicaOptions } from "./host.ts";

/** A replica host and its clients. */
export interface Setup extends Disposable {
  /** The host. */
  readonly host: ReplicaHost;
  /** Its replica directory. */
  readonly directory: string;
  /** What it reported. */
  readonly problems: string[];
  /** Makes a call and waits for the answer. */
  call(kind: string, body?: unknown): ReplicaDescription;
  /** Connects to the data server. */
  connect(): TestClient;
}

/** A host over a directory under `parent`. */
export function setUp(
  io: Io,
  parent: string,
  options: Partial<ReplicaOptions> = {},
  id = "made-up-id",
): Setup {
  const directory = `${parent}/r`, problems: string[] = [], clients: TestClient[] = [];
  const host = new ReplicaHost(
    io,
    new BufferPool(io, 4 * 1024 * 1024, 1024 * 1024),
    {
      directory,
      data: { kind: "tcp", host: "127.0.0.1", port: 0 },
      ioMode: "direct",
      revisionCounter: false,
      backingFile: "",
      unmapMarkChainRemoved: false,
      snapshotMaxCount: 250,
      encrypted: false,
      boot: "boot-1",
      streamSizes: { window: 64 * 1024, headers: 64 * 1024 },
      ...options,
    },
    () => id,
    (error) => problems.push(error.message),
  );
  const call = (kind: string, body: unknown = {}): ReplicaDescription => {
    let answer: { value?: ReplicaDescription; error?: unknown } | undefined;
    host.handlers()[kind](body, {
      ok: (value) => void (answer = { value: value as ReplicaDescription }),
      error: (error) => void (answer = { error }),
    });
    until(io, `the answer to ${kind}`, () => answer !== undefined);
    if (answer?.error !== undefined) throw answer.error;
    return answer?.value ?? {};
  };
  const connect = () => {
    const client = TestClient.connect(
      io,
      { kind: "tcp", host: "127.0.0.1", port: host.dataPort },
      1024 * 1024,
    );
    clients.push(client);
    return client;
  };
  const dispose = () => {
    let done = false;
    host.stop(() => done = true);
    until(io, "the host's end", () => done);
    for (const client of clients) client.end();
  };
  return { host, directory, problems, call, connect, [Symbol.dispose]: dispose };
}

const adoption = (generation: number, members = ["made-up-id"]) =>
  new TextEncoder().encode(JSON.stringify({ generation, revision: 1, members }));

/** Adopts the replica through a connection. */
export function adopt(client: TestClient, generation: number, members?: string[]): void {
  const payload = adoption(generation, members);
  assert.equal(client.ask(FrameType.ADOPT, 0, payload.length, payload).result, 0);
}
