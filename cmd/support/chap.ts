/**
 * CHAP names and secrets for iSCSI: from a file or from the environment, never from the command line, which
 * every user of the machine can read.
 *
 * | file                      | environment                  |                                        |
 * |---------------------------|------------------------------|----------------------------------------|
 * | `user = NAME`             | `DROVER_CHAP_USER`           | who may log in                         |
 * | `secret = SECRET`         | `DROVER_CHAP_SECRET`         | 12 to 16 characters suit all initiators |
 * | `mutual-user = NAME`      | `DROVER_CHAP_MUTUAL_USER`    | who we are, for initiators that ask    |
 * | `mutual-secret = SECRET`  | `DROVER_CHAP_MUTUAL_SECRET`  | must differ from the other one         |
 *
 * @module
 */
import { type ChapSettings, checkChap } from "../../lib/frontend/iscsi/chap.ts";
import { UsageError } from "./program.ts";

const KEYS = ["user", "secret", "mutual-user", "mutual-secret"] as const;
type Key = typeof KEYS[number];
/** Access by the group or by others (stat(2)). */
const OTHERS = 0o077;

/** The environment variable of a key. */
function variable(key: Key): string {
  return `DROVER_CHAP_${key.replace("-", "_").toUpperCase()}`;
}

/** All variables, so that a process that starts others can keep them from those. */
export const CHAP_VARIABLES: readonly string[] = KEYS.map(variable);

function fromFile(path: string): Map<Key, string> {
  let text: string;
  try {
    const { mode } = Deno.statSync(path);
    if (mode !== null && (mode & OTHERS) !== 0) {
      throw new UsageError(`--chap-file ${path}: others can read it; run: chmod 600 ${path}`);
    }
    text = Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(
      `--chap-file ${path}: cannot be read: ${error instanceof Error ? error.message : error}`,
    );
  }
  const values = new Map<Key, string>();
  for (const [index, line] of text.split("\n").entries()) {
    if (/^\s*(#.*)?$/.test(line)) continue;
    const [, name, value] = /^\s*([a-z-]+)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    const key = KEYS.find((key) => key === name);
    if (key === undefined || value === undefined) {
      // Not quoted: it may be a secret in the wrong place.
      throw new UsageError(
        `--chap-file ${path}: line ${index + 1}: expected KEY = VALUE, with KEY one of ${KEYS.join(", ")}`,
      );
    }
    values.set(key, value);
  }
  return values;
}

function fromEnvironment(): Map<Key, string> {
  const values = new Map<Key, string>();
  for (const key of KEYS) {
    const value = Deno.env.get(variable(key));
    if (value) values.set(key, value);
  }
  return values;
}

/**
 * Reads the settings; undefined when there are none: then everybody may log in.
 * @param file of `--chap-file`; it wins over the environment
 * @throws {UsageError} naming the source and what is wrong, never a secret
 */
export function readChap(file: string | undefined): ChapSettings | undefined {
  const values = file === undefined ? fromEnvironment() : fromFile(file);
  if (values.size === 0 && file === undefined) return undefined;
  const where = file === undefined ? "DROVER_CHAP_*" : `--chap-file ${file}`;
  const pair = (user: Key, secret: Key) => {
    const name = values.get(user), word = values.get(secret);
    if (name === undefined && word === undefined) return undefined;
    if (!name || !word) throw new UsageError(`${where}: ${name ? secret : user} is missing`);
    return { user: name, secret: word };
  };
  const credentials = pair("user", "secret"), mutual = pair("mutual-user", "mutual-secret");
  if (!credentials) throw new UsageError(`${where}: user and secret are missing`);
  const settings = { ...credentials, ...(mutual ? { mutual } : {}) };
  try {
    checkChap(settings);
  } catch (error) {
    throw new UsageError(`${where}: ${error instanceof Error ? error.message : error}`);
  }
  return settings;
}
