/**
 * What has to be put right before gRPC is used: the crash of `node:http2` and the class of 64-bit numbers. A module
 * that imports `@grpc/grpc-js` imports this one first; modules are evaluated in the order of their imports.
 *
 * @module
 */

import "./http2_shim.ts";
import "./numbers.ts";
