/**
 * What has to be put right before gRPC is used: the crash of `node:http2`, the class of 64-bit numbers, and the
 * library's own lines on stderr (every failure reaches the caller as an error; `GRPC_VERBOSITY` turns them on).
 * A module that imports `@grpc/grpc-js` imports this one first; modules are evaluated in the order of imports.
 *
 * @module
 */

import "./http2_shim.ts";
import "./numbers.ts";
import * as grpc from "@grpc/grpc-js";
import process from "node:process";

if (process.env["GRPC_VERBOSITY"] === undefined) grpc.setLogVerbosity(grpc.logVerbosity.NONE);
