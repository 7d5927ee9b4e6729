/**
 * A service for tests, with one method of each kind. It is described by hand, over a message that has a text, a
 * 64-bit number and nothing else that matters.
 *
 * @module
 */

import { ptypes } from "../gen/ptypes.js";
import type { Method, MethodKind, MethodTypes, Service } from "../service.ts";

/** What goes to and fro: `data` is a text, `length` a number. */
export interface EchoMessage {
  /** A text. */
  data: string;
  /** A 64-bit number. */
  length: number;
}

/** Types of a method of the service. */
export interface EchoMethod<Kind extends MethodKind> extends MethodTypes {
  /** How requests and responses go. */
  kind: Kind;
  /** What a client sends. */
  requestInit: Partial<EchoMessage>;
  /** What a handler is given. */
  request: EchoMessage;
  /** What a handler answers. */
  responseInit: Partial<EchoMessage>;
  /** What a client is given. */
  response: EchoMessage;
}

/** Methods of the service. */
export type EchoMethods = {
  /** One request, one response. */
  ask: EchoMethod<"unary">;
  /** One request, many responses. */
  count: EchoMethod<"serverStream">;
  /** Many requests, many responses. */
  chat: EchoMethod<"bidi">;
};

function method(name: string, kind: MethodKind): Method {
  const codec = ptypes.VolumeIORequest;
  return { name, path: `/test.Echo/${name}`, kind, request: codec, response: codec };
}

/** The service. */
export const echoService: Service<EchoMethods> = {
  name: "test.Echo",
  methods: new Map([
    ["ask", method("Ask", "unary")],
    ["count", method("Count", "serverStream")],
    ["chat", method("Chat", "bidi")],
  ]),
};
