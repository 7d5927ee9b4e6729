/**
 * The iSCSI target of a volume: a frontend that serves one disk as one logical unit to several initiators.
 *
 * Listens, keeps connections and sessions within bounds, replaces sessions whose initiator comes back, and says
 * good-bye when the volume is detached.
 *
 * @module
 */
import type { BlockDevice } from "../../block/device.ts";
import type { Completer, Io } from "../../io/io.ts";
import { Errno } from "../../io/errno.ts";
import { NO_TIMER } from "../../io/io.ts";
import type { BufferPool } from "../../io/pool.ts";
import { StreamMemory } from "../../io/stream.ts";
import type { Frontend, Parcel } from "../frontend.ts";
import { fromBase64, Standstill } from "../standstill.ts";
import { Connection, HEADER_RING_BYTES, WINDOW_BYTES } from "./connection.ts";
import type { CloseCode } from "./errors.ts";
import {
  checkOptions,
  DEFAULT_LUN,
  DEFAULT_TIMING,
  type IscsiEvent,
  type IscsiOptions,
  MAX_CONNECTIONS,
  type Timing,
} from "./options.ts";
import { comeToRest, type HandedTarget, restoreNexus, restoreParameters, stateOf } from "./handing.ts";
import type { LoginPolicy } from "./login.ts";
import { isWildcard, namesUnit, sendTargets } from "./names.ts";
import type { Parameters } from "./negotiation.ts";
import { BHS_BYTES } from "./pdu.ts";
import { Identity } from "./scsi/identity.ts";
import { Nexus } from "./scsi/nexus.ts";
import { DISK_COMMANDS } from "./scsi/opcodes.ts";
import { Asc } from "./scsi/sense.ts";
import { LogicalUnit } from "./scsi/unit.ts";
import type { Target } from "./role.ts";
import { Session } from "./session.ts";
import { SessionMemory } from "./session_memory.ts";

export {
  DEFAULT_LUN,
  DEFAULT_TIMING,
  type IscsiEvent,
  type IscsiOptions,
  MAX_CONNECTIONS,
  targetNameOf,
  type Timing,
} from "./options.ts";

/** Tags of completions: the accept and the farewell timer. */
const ACCEPTED = 0, FAREWELL = 1, RETRY = 2;
/** Pause after an accept that failed, as for want of descriptors, milliseconds. */
const ACCEPT_RETRY_MS = 200;

/** An iSCSI target; see the module text. */
export class IscsiFrontend implements Frontend, Target, Completer {
  readonly kind = "iscsi";
  readonly endpoint: string;
  /** The port it listens on. */
  readonly port: number;
  /** Time limits. */
  readonly timing: Timing;
  /** Who is let in, and to what. */
  readonly policy: LoginPolicy;
  /** Sessions that are open, or end. */
  readonly sessions: Session[] = [];
  /** The disk. */
  readonly unit: LogicalUnit;
  readonly #lun: number;
  readonly #portal: string | undefined;
  readonly #listener: number;
  readonly #maxConnections: number;
  readonly #connections: Connection[] = [];
  /** Sessions whose connection is gone while tasks of theirs are still with the disk. */
  #ending = 0;
  readonly #streamMemory: StreamMemory[] = [];
  readonly #sessionMemory: SessionMemory[] = [];
  readonly #headers: number[] = [];
  /** Logins that wait for the end of a session they replace. */
  readonly #logins: { readonly port: string; readonly go: () => void }[] = [];
  #lastId = 0;
  #lastTsih = 0;
  #accepting = false;
  #stopped: (() => void) | undefined;
  #farewell = NO_TIMER;
  #suspended: boolean;
  /** Sockets that were accepted while suspended. */
  #late: number[] = [];
  readonly #host: string;
  readonly #standstill: Standstill;

  /**
   * Starts to listen.
   * @throws {SettingError} for options that cannot work
   * @throws {IoError} when the address is taken or not ours
   * @throws {RangeError} when arena or pool are too small
   */
  constructor(
    readonly io: Io,
    readonly pool: BufferPool,
    readonly device: BlockDevice,
    readonly options: IscsiOptions,
  ) {
    const { address, targetName } = options;
    this.#lun = options.lun ?? DEFAULT_LUN;
    checkOptions(options, this.#lun);
    this.timing = { ...DEFAULT_TIMING, ...options.timing };
    this.policy = { targetName, targetAlias: device.name, chap: options.chap };
    this.#maxConnections = options.maxConnections ?? MAX_CONNECTIONS;
    const identity = new Identity(device.name, targetName, this.#lun, options.revision ?? "0001");
    this.unit = new LogicalUnit(device, pool, DISK_COMMANDS, identity, this.#maxConnections);
    this.unit.abortTasksOf = (nexus) => {
      for (const session of this.sessions) {
        if (session.nexus === nexus) { for (const task of session.tasks) session.abort(task); }
      }
    };
    this.#standstill = new Standstill(io);
    const { handed } = options, before = handed?.state as HandedTarget | undefined;
    const [listener, ...sockets] = handed?.descriptors ?? [];
    this.#suspended = handed !== undefined;
    this.#host = before?.host ?? address.host;
    try {
      this.#listener = listener ?? io.listen(address);
    } catch (error) {
      this.unit.dispose();
      throw error;
    }
    this.port = io.boundPort(this.#listener);
    const host = options.portalHost ?? (isWildcard(this.#host) ? undefined : this.#host);
    this.#portal = host && `${host.includes(":") ? `[${host}]` : host}:${this.port}`;
    this.endpoint = `iscsi://${this.#portal ?? `127.0.0.1:${this.port}`}/${targetName}/${this.#lun}`;
    this.#event("listening", undefined, "", this.endpoint);
    if (before) this.#takeOver(before, sockets);
    this.#accept();
  }

  #event(
    kind: IscsiEvent["kind"],
    connection: Connection | undefined,
    code: CloseCode | "",
    message: string,
  ): void {
    const initiator = connection?.session?.nexus.initiatorName ?? "";
    this.options.onEvent?.({ kind, connection: connection?.id ?? 0, initiator, code, message });
  }

  // ---- connections -------------------------------------------------------------------------------------------

  #accept(): void {
    if (this.#accepting || this.#stopped || this.#suspended) return;
    this.#accepting = true;
    this.io.accept(this.#listener, this, ACCEPTED);
  }

  /** See {@linkcode Completer}. */
  complete(tag: number, result: number): void {
    if (tag === FAREWELL) {
      this.#farewell = NO_TIMER;
      return this.closeAll("stopping", "the target stops");
    }
    if (tag === RETRY) return this.#accept();
    this.#accepting = false;
    if (this.#suspended && !this.#stopped) return void (result >= 0 && this.#late.push(result));
    if (result >= 0) this.#connected(result);
    if (this.#stopped) {
      this.io.close(this.#listener);
      this.#checkStopped();
    } else if (result >= 0 || result === -Errno.ECANCELED) this.#accept();
    else this.io.timer(ACCEPT_RETRY_MS, this, RETRY);
  }

  #connected(fd: number, unread?: Uint8Array): Connection | undefined {
    const full = this.#stopped !== undefined || this.#connections.length >= this.#maxConnections;
    const stranger = full || unread ? "" : this.options.admit?.(fd) ?? "";
    if (full || stranger !== "") {
      this.io.close(fd);
      const why = stranger || `already ${this.#connections.length} connections`;
      this.#event("refused", undefined, full ? "resources" : "login", why);
      return undefined;
    }
    let memory: StreamMemory, header: number;
    try {
      memory = this.#streamMemory.pop() ??
        new StreamMemory(this.io, { window: WINDOW_BYTES, headers: HEADER_RING_BYTES });
      header = this.#headers.pop() ?? this.io.arena.reserve(BHS_BYTES);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.io.close(fd);
      this.#event("refused", undefined, "resources", error.message);
      return undefined;
    }
    const connection = new Connection(this.io, this.pool, this, ++this.#lastId, fd, memory, header, unread);
    this.#connections.push(connection);
    if (!unread) this.#event("connected", connection, "", "");
    return connection;
  }

  /** See {@linkcode Target}. */
  connectionClosed(connection: Connection): void {
    this.#connections.splice(this.#connections.indexOf(connection), 1);
    this.#streamMemory.push(connection.memory);
    this.#headers.push(connection.bhs);
    this.#event("closed", connection, connection.reason?.code ?? "socket", connection.reason?.message ?? "");
    const { session } = connection;
    if (session) {
      this.#ending++;
      session.close((gone) => this.#sessionGone(gone));
    }
    this.#checkStopped();
  }

  #sessionGone(session: Session): void {
    this.#ending--;
    this.sessions.splice(this.sessions.indexOf(session), 1);
    this.unit.removeNexus(session.nexus);
    this.#sessionMemory.push(session.memory);
    // The first of them gets its session, the next one replaces it in turn.
    const waiting = this.#logins.filter((login) => login.port === session.nexus.port);
    for (const login of waiting) this.#logins.splice(this.#logins.indexOf(login), 1);
    for (const login of waiting) login.go();
    this.#checkStopped();
  }

  /** See {@linkcode Target}. */
  closeAll(code: CloseCode, message: string): void {
    for (const connection of this.#connections) connection.finish(code, message);
  }

  // ---- sessions ----------------------------------------------------------------------------------------------

  /** See {@linkcode Target}. */
  openSession(
    connection: Connection,
    parameters: Parameters,
    isid: string,
    done: (session: Session | undefined) => void,
  ): void {
    const nexus = new Nexus(parameters.initiatorName, isid);
    nexus.attend(Asc.POWER_ON);
    this.#open(connection, parameters, nexus, done);
  }

  /** Creates the session, or waits for the end of the one that the same initiator port still has. */
  #open(
    connection: Connection,
    parameters: Parameters,
    nexus: Nexus,
    done: (session: Session | undefined) => void,
  ): void {
    if (connection.closing) return;
    const old = parameters.discovery
      ? undefined
      : this.sessions.find((s) => !s.parameters.discovery && s.nexus.port === nexus.port);
    if (!old) return done(this.#createSession(connection, parameters, nexus));
    nexus.attentions = 0;
    nexus.attend(Asc.NEXUS_LOSS);
    this.#logins.push({ port: nexus.port, go: () => this.#open(connection, parameters, nexus, done) });
    for (const other of this.#connections) {
      if (other.session === old) other.close("reinstated", `${nexus.initiatorName} logged in again`);
    }
  }

  #createSession(connection: Connection, parameters: Parameters, nexus: Nexus): Session | undefined {
    try {
      const memory = this.#sessionMemory.pop() ?? new SessionMemory(this.io);
      const session = new Session(
        this.#nextTsih(),
        parameters,
        nexus,
        this.unit,
        this.pool,
        memory,
        connection,
      );
      this.sessions.push(session);
      if (!parameters.discovery) this.unit.addNexus(nexus);
      this.options.onEvent?.({
        kind: this.#suspended ? "adopted" : "login",
        connection: connection.id,
        initiator: nexus.initiatorName,
        code: "",
        message: parameters.discovery ? "discovery" : "normal",
      });
      return session;
    } catch (error) {
      if (error instanceof RangeError) return undefined;
      throw error;
    }
  }

  #nextTsih(): number {
    do this.#lastTsih = (this.#lastTsih % 0xffff) + 1; while (
      this.sessions.some((s) => s.tsih === this.#lastTsih)
    );
    return this.#lastTsih;
  }

  /** See {@linkcode Target}. */
  isOurs(lunHigh: number, lunLow: number): boolean {
    return namesUnit(this.#lun, lunHigh, lunLow);
  }

  /** See {@linkcode Target}. */
  sendTargets(wanted: string, parameters: Parameters): [string, string][] {
    return sendTargets(this.policy.targetName, this.#portal, wanted, parameters);
  }

  // ---- from one process to the next ------------------------------------------------------------------------

  /** See {@linkcode Frontend.suspend}. Who does not come to rest is closed: initiators log in again and repeat. */
  suspend(graceMs: number, done: (problem: string) => void): void {
    this.#suspended = true;
    this.io.interrupt(this.#listener);
    const quiet = () => !this.#accepting && this.#ending === 0;
    comeToRest(this.#standstill, this.#connections, quiet, graceMs, done);
  }

  /** See {@linkcode Frontend.parcel}. */
  parcel(): Parcel {
    const state = stateOf(this.#host, this.unit, this.#connections, this.#late.length);
    const sockets = this.#connections.map(({ stream }) => stream.fd);
    return { state, descriptors: [this.#listener, ...sockets, ...this.#late] };
  }

  #takeOver(before: HandedTarget, sockets: readonly number[]): void {
    this.unit.mode.restore(before.modePages);
    before.connections.forEach((one, i) => this.#adopt(sockets[i] as number, one));
    this.unit.reservations.restore(before.reservations);
  }

  #adopt(socket: number, one: HandedTarget["connections"][number]): void {
    const connection = this.#connected(socket, fromBase64(one.unread)), given = one.session;
    if (!connection) {
      throw new RangeError("iscsi: there is no room for all connections that were handed over");
    }
    if (!given) return;
    const parameters = restoreParameters(given.parameters), nexus = restoreNexus(given, parameters);
    this.#lastTsih = given.tsih - 1;
    const session = this.#createSession(connection, parameters, nexus);
    if (!session) throw new RangeError("iscsi: there is no memory for all sessions that were handed over");
    session.expCmdSN = given.expCmdSN;
    connection.adopt(session, one);
  }

  /** See {@linkcode Frontend.resume}. */
  resume(): void {
    this.#standstill.cancel();
    this.#suspended = false;
    this.io.adoptListener(this.#listener);
    for (const connection of this.#connections) connection.resume();
    for (const fd of this.#late.splice(0)) this.#connected(fd);
    this.#accept();
  }

  /** See {@linkcode Frontend.leave}. */
  leave(): void {
    for (const { stream } of this.#connections) stream.leave();
    for (const fd of [...this.#late, this.#listener]) this.io.close(fd);
    this.unit.dispose();
  }

  // ---- the end -----------------------------------------------------------------------------------------------

  /** See {@linkcode Frontend.stop}: asks initiators to log out, and closes what is left after a while. */
  stop(done: () => void): void {
    this.#stopped = done;
    this.io.shutdown(this.#listener);
    for (const connection of [...this.#connections]) {
      if (!connection.session || connection.session.parameters.discovery) {
        connection.close("stopping", "the target stops");
      } else connection.requestLogout(Math.ceil(this.timing.farewellMs / 1000));
    }
    if (this.#connections.length > 0) this.#farewell = this.io.timer(this.timing.farewellMs, this, FAREWELL);
    this.#checkStopped();
  }

  #checkStopped(): void {
    const done = this.#stopped;
    if (!done || this.#accepting || this.#connections.length > 0 || this.#ending > 0) return;
    this.#stopped = undefined;
    this.io.cancel(this.#farewell);
    this.unit.dispose();
    done();
  }
}
