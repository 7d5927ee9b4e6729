/**
 * Whether a process is ready: it listens on its first port and says SERVING there (gRPC health checking protocol).
 *
 * @module
 */
import { connect, healthService } from "../rpc/mod.ts";
import { PROBE_TIMEOUT_MS } from "./limits.ts";

/** HealthCheckResponse.ServingStatus (grpc/health/v1/health.proto). */
const SERVING = 1;

/** Asks processes whether they are ready. */
export interface Prober {
  /** One look. Never rejects. */
  healthy(port: number, signal: AbortSignal): Promise<boolean>;
}

/** Asks over the loopback interface. */
export const systemProber: Prober = {
  async healthy(port, signal) {
    // A bare connection first: it is refused at once, and costs far less than an HTTP/2 session.
    try {
      (await Deno.connect({ hostname: "localhost", port })).close();
    } catch {
      return false;
    }
    const client = connect(healthService, `localhost:${port}`, { timeoutMs: PROBE_TIMEOUT_MS });
    try {
      return (await client.unary("check", {}, { signal })).status === SERVING;
    } catch {
      return false;
    } finally {
      client.close();
    }
  },
};
