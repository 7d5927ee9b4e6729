/**
 * Services: from the classes that protobufjs generates to typed handlers and clients.
 *
 * A generated service class carries, at run time and in its types, the path, the request and the response type of
 * every method. Everything here is derived from that: {@linkcode defineService} makes the run-time description,
 * {@linkcode MethodsOf} the types, {@linkcode implement} joins a description with handlers.
 *
 * @module
 */

/** How a method takes its requests and gives its responses. Client streaming alone is used by no service. */
export type MethodKind = "unary" | "serverStream" | "bidi";

/** The types of one method. `...Init` is what is accepted for sending: plain objects, all fields optional. */
export interface MethodTypes {
  /** How requests and responses go. */
  kind: MethodKind;
  /** What a client may send. */
  requestInit: unknown;
  /** What a handler is given. */
  request: unknown;
  /** What a handler may answer. */
  responseInit: unknown;
  /** What a client is given. */
  response: unknown;
}

/** What protobufjs attaches to the methods of a service class. */
export interface MethodMeta {
  /** Name as in the .proto file. */
  readonly name: string;
  /** `/package.Service/Method`. */
  readonly path: string;
  /** Name of the request type, as in the .proto file. */
  readonly requestType: string;
  /** Name of the response type, as in the .proto file. */
  readonly responseType: string;
  /** Whether the client streams. */
  readonly requestStream: true | undefined;
  /** Whether the server streams. */
  readonly responseStream: true | undefined;
}

/** The static side of a generated message class, as far as it is used. */
export interface Codec {
  /** Encodes a message. */
  encode(message: unknown): { finish(): Uint8Array };
  /** Decodes a message. */
  decode(bytes: Uint8Array): unknown;
}

/** A generated service class. */
export interface ServiceClass {
  /** Its methods carry {@linkcode MethodMeta}. */
  readonly prototype: object;
}

/** The type with a dotted name below a namespace; never if there is none. */
export type Lookup<Space, Name extends string> = Name extends keyof Space ? Space[Name]
  : Name extends `${infer Head}.${infer Rest}` ? Head extends keyof Space ? Lookup<Space[Head], Rest> : never
  : never;

/** As {@linkcode Lookup}, first in the namespace of the service and then from the top. */
export type Find<Root, Space, Name extends string> = [Lookup<Space, Name>] extends [never]
  ? Lookup<Root, Name>
  : Lookup<Space, Name>;

/** What a message class accepts for encoding. */
export type InitOf<Class> = Class extends { encode(message: infer Init): unknown } ? Init : never;

/** What a message class gives when decoding. */
export type MessageOf<Class> = Class extends { decode(bytes: Uint8Array): infer Message } ? Message : never;

/** The kind of a method. */
export type KindOf<Meta extends MethodMeta> = Meta["requestStream"] extends true ? "bidi"
  : Meta["responseStream"] extends true ? "serverStream"
  : "unary";

/** The methods of a service class by the name of their property. */
export type MethodsOf<Root, Space, Class extends ServiceClass> = {
  [Key in keyof Class["prototype"] as Class["prototype"][Key] extends MethodMeta ? Key & string : never]:
    Class["prototype"][Key] extends infer Meta extends MethodMeta ? {
        kind: KindOf<Meta>;
        requestInit: InitOf<Find<Root, Space, Meta["requestType"]>>;
        request: MessageOf<Find<Root, Space, Meta["requestType"]>>;
        responseInit: InitOf<Find<Root, Space, Meta["responseType"]>>;
        response: MessageOf<Find<Root, Space, Meta["responseType"]>>;
      }
      : never;
};

/** Any set of methods. */
export type Methods = Record<string, MethodTypes>;

/** One method at run time. */
export interface Method {
  /** Name as in the .proto file. */
  readonly name: string;
  /** `/package.Service/Method`. */
  readonly path: string;
  /** How requests and responses go. */
  readonly kind: MethodKind;
  /** Codec of requests. */
  readonly request: Codec;
  /** Codec of responses. */
  readonly response: Codec;
}

/** A service: its methods at run time, and their types. */
export interface Service<M> {
  /** Full name, `package.Service`. */
  readonly name: string;
  /** Methods by the name of their property (`replicaGet`). */
  readonly methods: ReadonlyMap<string, Method>;
  /** Carries the types of the methods; never present. */
  readonly types?: M;
}

/** What a handler can know about its call. */
export interface CallContext {
  /** Aborted when the client goes away or the deadline passes; also once the call has ended. */
  readonly signal: AbortSignal;
  /** The caller's address. */
  readonly peer: string;
  /** First value of a metadata key (small letters). */
  metadata(key: string): string | undefined;
}

/**
 * The handler of a method. Whatever it throws becomes the status (see `statusOf`). Streams are async iterables:
 * a message is asked for when the client can take it. A handler that waits must watch `call.signal`.
 */
export type Handler<T extends MethodTypes> = T["kind"] extends "unary"
  ? (request: T["request"], call: CallContext) => T["responseInit"] | Promise<T["responseInit"]>
  : T["kind"] extends "serverStream"
    ? (request: T["request"], call: CallContext) => AsyncIterable<T["responseInit"]>
  : (requests: AsyncIterable<T["request"]>, call: CallContext) => AsyncIterable<T["responseInit"]>;

/** A handler for every method of a service: a plain object or an instance of a class. */
export type Handlers<M> = { [Key in keyof M]: M[Key] extends MethodTypes ? Handler<M[Key]> : never };

/** A handler with its types forgotten: what {@linkcode Implementation} keeps. */
export type AnyHandler = (request: unknown, call: CallContext) => unknown;

/** A service together with its handlers. */
export interface Implementation {
  /** The service. */
  readonly service: Service<unknown>;
  /** Calls the handler of a method, as a method of the object it was given on. */
  readonly handler: (method: string) => AnyHandler;
}

function isMeta(value: unknown): value is MethodMeta {
  return typeof value === "function" && "path" in value && "requestType" in value && "responseType" in value;
}

function isCodec(value: unknown): value is Codec {
  return typeof value === "function" && "encode" in value && "decode" in value;
}

/** Finds a message class by its dotted name, first in the namespace of the service and then from the top. */
function findCodec(root: object, space: object, name: string): Codec {
  for (const start of [space, root]) {
    let at: unknown = start;
    for (const part of name.split(".")) {
      at = (typeof at === "object" || typeof at === "function") && at !== null
        ? (at as Record<string, unknown>)[part]
        : undefined;
    }
    if (isCodec(at)) return at;
  }
  throw new TypeError(`rpc: no message class ${name}; generate again with "deno task gen"`);
}

/**
 * Describes a generated service.
 *
 * @param root the generated module (`import * as root from "./gen/ptypes.js"`)
 * @param space the namespace of the service in it (the module itself for a service without a package)
 * @param serviceClass the generated service class
 * @throws TypeError when the class is none or a message class is missing
 */
export function defineService<Root extends object, Space extends object, Class extends ServiceClass>(
  root: Root,
  space: Space,
  serviceClass: Class,
): Service<MethodsOf<Root, Space, Class>> {
  const methods = new Map<string, Method>();
  let service = "";
  const members = serviceClass.prototype as Record<string, unknown>;
  for (const key of Object.getOwnPropertyNames(members)) {
    const meta = members[key];
    if (!isMeta(meta)) continue;
    if (meta.requestStream && !meta.responseStream) {
      throw new TypeError(`rpc: ${meta.path}: a client stream with one response is not supported`);
    }
    methods.set(key, {
      name: meta.name,
      path: meta.path,
      kind: meta.requestStream ? "bidi" : meta.responseStream ? "serverStream" : "unary",
      request: findCodec(root, space, meta.requestType),
      response: findCodec(root, space, meta.responseType),
    });
    service = meta.path.slice(1, meta.path.lastIndexOf("/"));
  }
  if (service === "") throw new TypeError("rpc: defineService: not a generated service class");
  return { name: service, methods };
}

/**
 * Joins a service with its handlers, to be passed to `serve`.
 *
 * @param handlers one function per method; `unimplemented` stands in for those that are not offered
 */
export function implement<M>(service: Service<M>, handlers: Handlers<M>): Implementation {
  const table = handlers as Record<string, AnyHandler | undefined>;
  return {
    service,
    handler: (method) => (request, call) => {
      const handler = table[method];
      if (handler === undefined) throw new TypeError(`rpc: ${service.name}: no handler for ${method}`);
      return handler.call(handlers, request, call);
    },
  };
}
