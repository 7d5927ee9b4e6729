/**
 * `drover bench` as a program of its own, for the cells of the benchmark: one process per cell, so that none
 * inherits the compiled code and the garbage of another.
 *
 * @module
 */
import { benchCommand } from "../../cmd/bench/command.ts";
import { main, program } from "../../cmd/support/program.ts";

const load = program("load", "One cell of the benchmark.");
benchCommand(load);
await main(load);
