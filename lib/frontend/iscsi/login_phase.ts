/**
 * The login phase of a connection: PDUs in and out, around {@linkcode Login}, and the rules for session handles
 * (RFC 7143 sections 6.3.5 and 11.12.6: a session is initiator name, ISID and portal group).
 *
 * @module
 */
import type { Connection } from "./connection.ts";
import { Login, LoginStatus, Stage } from "./login.ts";
import { CONTINUE, Field, FINAL, IMMEDIATE } from "./pdu.ts";
import type { Session } from "./session.ts";
import { formatHex } from "./text.ts";

/** Handles Login Requests until the full feature phase. */
export class LoginPhase {
  readonly #c: Connection;
  readonly #login: Login;
  #first = true;
  #waiting = false;

  /**
   * Waits for the first request.
   *
   * @param connection whose login this is
   */
  constructor(connection: Connection) {
    this.#c = connection;
    this.#login = new Login(connection.target.policy);
  }

  /** Handles the request in `connection.bhs` with its text at `at`. */
  handle(at: number, length: number): void {
    const c = this.#c, { bhs, sender } = c, { u8, view } = c.io.arena;
    if (this.#waiting) return c.close("protocol", "login request before the answer to the last one");
    const flags = u8[bhs + Field.FLAGS];
    const tag = view.getUint32(bhs + Field.TASK_TAG);
    const tsih = view.getUint16(bhs + Field.TSIH);
    const isImmediate = (u8[bhs] & IMMEDIATE) !== 0;
    c.loginWindow.expCmdSN = view.getUint32(bhs + Field.CMD_SN);
    if (this.#first) {
      this.#first = false;
      c.cid = view.getUint16(bhs + Field.CID);
      if (!isImmediate) {
        return this.#refuse(tag, LoginStatus.INVALID_REQUEST, "login request is not immediate");
      }
      if (tsih !== 0) {
        const known = c.target.sessions.some((s) => s.tsih === tsih);
        return this.#refuse(
          tag,
          known ? LoginStatus.TOO_MANY_CONNECTIONS : LoginStatus.NO_SESSION,
          known ? "a second connection to a session" : `no session ${tsih}`,
        );
      }
    }
    const response = this.#login.receive({
      transit: (flags & FINAL) !== 0,
      goesOn: (flags & CONTINUE) !== 0,
      currentStage: (flags >> 2) & 3,
      nextStage: flags & 3,
      versionMin: u8[bhs + Field.STATUS],
      text: u8.subarray(at, at + length),
    });
    if (response.status !== LoginStatus.SUCCESS) return this.#refuse(tag, response.status, response.reason);
    const answer = (transit: boolean, session: number): void => {
      const stages = (response.currentStage << 2) | (transit ? response.nextStage : 0);
      sender.login(
        tag,
        (transit ? FINAL : 0) | stages,
        LoginStatus.SUCCESS,
        bhs + Field.ISID,
        session,
        response.text,
      );
    };
    if (response.nextStage !== Stage.FULL_FEATURE) return answer(response.transit, 0);
    // A session this one replaces must be gone before the first command.
    this.#waiting = true;
    const isid = formatHex(u8.subarray(bhs + Field.ISID, bhs + Field.ISID + 6)).slice(2);
    c.target.openSession(c, this.#login.parameters, isid, (session) => {
      if (c.closing) return;
      if (!session) return this.#refuse(tag, LoginStatus.OUT_OF_RESOURCES, "no memory for one more session");
      session.expCmdSN = c.loginWindow.expCmdSN;
      sender.window = session; // the last response shows the whole window
      answer(true, session.tsih);
      this.#begin(session);
    });
  }

  #begin(session: Session): void {
    this.#c.sender.agree(session.parameters);
    this.#c.loggedIn(session);
  }

  #refuse(tag: number, status: number, reason: string): void {
    const c = this.#c, { bhs } = c;
    const stages = c.io.arena.u8[bhs + Field.FLAGS] & 0x0c;
    c.sender.login(tag, stages, status, bhs + Field.ISID, 0, new Uint8Array(0));
    c.finish("login", `login refused with 0x${status.toString(16).padStart(4, "0")}: ${reason}`);
  }
}
