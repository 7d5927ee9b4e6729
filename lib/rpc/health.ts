/**
 * The gRPC health service: SERVING from the moment the server listens until it closes. It speaks of the process
 * being reachable, not of the volume.
 *
 * @module
 */

import { Code, RpcError } from "./errors.ts";
import * as generated from "./gen/grpc.js";
import {
  type CallContext,
  defineService,
  type Handlers,
  type MethodKind,
  type MethodTypes,
  type Service,
} from "./service.ts";

const { HealthCheckResponse } = generated.grpc.health.v1;
const { SERVING, NOT_SERVING, SERVICE_UNKNOWN } = HealthCheckResponse.ServingStatus;

/** A question to the health service. */
export interface HealthQuestion {
  /** Full name of a service; empty = the server as a whole. */
  service: string;
}

/** A health answer. */
export interface HealthStatus {
  /** A number of `HealthCheckResponse.ServingStatus`: 1 = SERVING, 2 = NOT_SERVING, 3 = SERVICE_UNKNOWN. */
  status: number;
}

/** Methods of grpc.health.v1.Health. */
export type HealthMethods = {
  /** Answers at once. */
  check: HealthMethod<"unary">;
  /** Answers at once and with every change. */
  watch: HealthMethod<"serverStream">;
};

/** The types of both methods. */
export interface HealthMethod<Kind extends MethodKind> extends MethodTypes {
  /** How responses go. */
  kind: Kind;
  /** What a client sends. */
  requestInit: { service?: string | null };
  /** What a handler is given. */
  request: HealthQuestion;
  /** What a handler answers. */
  responseInit: { status?: number | null };
  /** What a client is given. */
  response: HealthStatus;
}

/** grpc.health.v1.Health. */
export const healthService: Service<HealthMethods> = defineService(
  generated,
  generated.grpc.health.v1,
  generated.grpc.health.v1.Health,
);

/** Handlers of the health service of one server. */
export class HealthService implements Handlers<HealthMethods> {
  readonly #services: ReadonlySet<string>;
  readonly #stopped = new AbortController();

  /**
   * Begins as SERVING.
   *
   * @param services full names of the services that are served
   */
  constructor(services: readonly string[]) {
    this.#services = new Set(["", ...services]);
  }

  /** The server closes: everything is NOT_SERVING, and watches end. */
  stop(): void {
    this.#stopped.abort();
  }

  /** Answers at once; NOT_FOUND for a service that is not here. */
  check(request: HealthQuestion): HealthStatus {
    if (!this.#services.has(request.service)) {
      throw new RpcError(Code.NOT_FOUND, `unknown service ${request.service}`);
    }
    return { status: this.#stopped.signal.aborted ? NOT_SERVING : SERVING };
  }

  /** Sends the status, and a change of it. */
  async *watch(request: HealthQuestion, call: CallContext): AsyncGenerator<HealthStatus> {
    const known = this.#services.has(request.service);
    const stopped = this.#stopped.signal;
    yield { status: !known ? SERVICE_UNKNOWN : stopped.aborted ? NOT_SERVING : SERVING };
    const end = AbortSignal.any([call.signal, stopped]);
    if (!end.aborted) {
      await new Promise<void>((resolve) => end.addEventListener("abort", () => resolve(), { once: true }));
    }
    if (known && !call.signal.aborted) yield { status: NOT_SERVING };
  }
}
