/**
 * `longhorn system-backup`: backups of the system's own state on a target. Access data comes from the environment.
 *
 * @module
 */
import {
  deleteSystemBackup,
  downloadSystemBackup,
  inspectSystemBackup,
  listSystemBackups,
  parseSystemBackupUrl,
  type Target,
  uploadSystemBackup,
} from "../../lib/backup/mod.ts";
import { SYSTEM_BACKUPS } from "../../lib/backup/names.ts";
import { open } from "../backup/settings.ts";
import { UsageError } from "../support/program.ts";
import { type Command, printJson, sorted } from "./globals.ts";

interface UploadFlags {
  readonly gitCommit: string;
  readonly managerImage: string;
  readonly engineImage: string;
}

async function onTarget<T>(url: string, work: (target: Target) => Promise<T>): Promise<T> {
  await using target = await open({}, url);
  return await work(target);
}

async function upload(path: string, url: string, flags: UploadFlags): Promise<void> {
  const missing = (["gitCommit", "managerImage", "engineImage"] as const).find((key) => flags[key] === "");
  if (missing !== undefined) {
    const flag = missing.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    throw new UsageError(`missing required parameter --${flag}`);
  }
  const one = parseSystemBackupUrl(url), zip = await Deno.readFile(path);
  const { gitCommit, managerImage, engineImage } = flags;
  const details = { gitCommit, managerImage, engineImage, createdMs: Date.now() };
  await onTarget(one.target, (target) => uploadSystemBackup(target, one, zip, details));
}

/** The file has its name when it is whole and checked. */
async function download(url: string, path: string): Promise<void> {
  const one = parseSystemBackupUrl(url);
  const zip = await onTarget(one.target, (target) => downloadSystemBackup(target, one));
  const temporary = `${path}.partial`;
  await Deno.writeFile(temporary, zip);
  await Deno.rename(temporary, path);
}

async function config(url: string): Promise<void> {
  const one = parseSystemBackupUrl(url);
  const record = await onTarget(one.target, (target) => inspectSystemBackup(target, one));
  printJson({
    Name: record.name,
    LonghornVersion: record.version,
    LonghornGitCommit: record.gitCommit,
    BackupTargetURL: record.targetUrl,
    ManagerImage: record.managerImage,
    EngineImage: record.engineImage,
    CreatedAt: record.createdAt,
    Checksum: record.checksum,
  });
}

async function list(url: string): Promise<void> {
  const found = await onTarget(url, listSystemBackups);
  const uris = found.map(({ version, name }) => [name, `${SYSTEM_BACKUPS}/${version}/${name}`] as const);
  printJson(sorted(Object.fromEntries(uris)));
}

/** Adds the commands about system backups. @internal */
export function systemBackupCommands(root: Command): void {
  const parent = root.command("system-backup").description("backups of the system's own state, on targets");
  parent.command("upload <path> <url>").description(
    "store a zip as TARGET/backupstore/system-backups/VERSION/NAME",
  )
    .option("--git-commit <commit>", "of the program that made it", "")
    .option("--manager-image <image>", "image of the manager", "")
    .option("--engine-image <image>", "image of the engine", "")
    .action(upload);
  parent.command("download <url> <path>").description("get a zip, and check it").action(download);
  parent.command("get-config <url>").description("its record, as JSON").action(config);
  parent.command("list <dest>").description("names and places of all, as JSON").action(list);
  parent.command("delete <url>").description("remove one").action(async (url: string) => {
    const one = parseSystemBackupUrl(url);
    await onTarget(one.target, (target) => deleteSystemBackup(target, one));
  });
}
