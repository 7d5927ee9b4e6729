/**
 * Drover's programs and the Worker files they start: what `deno task build` compiles and `deno task dist` bundles.
 *
 * A Worker is always named as `new URL("./NAME_worker.ts", import.meta.url)`, with the path as a literal. That form
 * works from source; bundling finds it in its output and points it at the bundled Worker, which lies beside the
 * program. So Worker files end in `_worker.ts`, have names that are unique in the repository, and are listed here (a
 * test compares).
 *
 * @module
 */

/** One program. */
export interface Program {
  /** Name of the binary. */
  readonly name: string;
  /** Entry file, relative to the top directory. */
  readonly entry: string;
  /** One line for people. */
  readonly purpose: string;
  /** Permission flags of Deno. A program that calls the C library can do everything, so `-A` is the honest flag. */
  readonly permissions: readonly string[];
  /** Flags for V8. */
  readonly v8: readonly string[];
}

/** For programs that talk and start others, but never call the C library themselves. */
const WITHOUT_FFI = [
  "--allow-net",
  "--allow-env",
  "--allow-read",
  "--allow-write",
  "--allow-run",
  "--allow-sys",
];

/**
 * The data path allocates nothing after warm-up, so a small young generation costs no speed there; it holds down
 * what a node with a hundred replicas pays. MiB per semi-space. The middle compiler's code would be replaced by the
 * optimising one's on the data path anyhow; without it an idle replica has 1.5 MiB less of its own.
 */
const SMALL_YOUNG_GENERATION = ["--max-semi-space-size=1", "--no-maglev"];

/** A node has several replicas per volume: another 2 MiB less each, at no cost on a path of a few hot functions. */
const SMALLEST = [...SMALL_YOUNG_GENERATION, "--no-sparkplug", "--optimize-for-size"];

/** All programs. Those without an entry file yet are left out of builds. */
export const PROGRAMS: readonly Program[] = [
  {
    name: "drover",
    entry: "cmd/drover.ts",
    purpose: "the user's command line",
    permissions: ["-A"],
    v8: [],
  },
  {
    name: "engine",
    entry: "cmd/engine.ts",
    purpose: "one attached volume",
    permissions: ["-A"],
    v8: SMALL_YOUNG_GENERATION,
  },
  {
    name: "replica",
    entry: "cmd/replica.ts",
    purpose: "one copy of a volume",
    permissions: ["-A"],
    v8: SMALLEST,
  },
  {
    name: "longhorn",
    entry: "cmd/longhorn.ts",
    purpose: "client commands under the name that scripts know",
    permissions: ["-A"],
    v8: [],
  },
  {
    name: "instance-manager",
    entry: "cmd/instance_manager.ts",
    purpose: "starts and watches the engines and replicas of a node",
    permissions: ["-A"],
    v8: SMALL_YOUNG_GENERATION,
  },
  {
    name: "manager",
    entry: "cmd/manager.ts",
    purpose: "controllers and HTTP API",
    permissions: WITHOUT_FFI,
    v8: [],
  },
  {
    name: "csi",
    entry: "cmd/csi.ts",
    purpose: "CSI services for Kubernetes",
    permissions: WITHOUT_FFI,
    v8: [],
  },
];

/** All Worker entry files, relative to the top directory. */
export const WORKERS: readonly string[] = [
  "cmd/engine_worker.ts",
  "cmd/replica_worker.ts",
  "lib/replica/sync/sync_worker.ts",
  "lib/backup/codec_worker.ts",
];

/** The programs whose entry file exists below `root`. */
export function existingPrograms(root: string): Program[] {
  return PROGRAMS.filter(({ entry }) => {
    try {
      return Deno.statSync(`${root}/${entry}`).isFile;
    } catch {
      return false;
    }
  });
}
