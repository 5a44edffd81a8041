// A worker that speaks the protocol by hand, offers all of it, and breaks it in the one way that its first argument
// names: a case of `plugin check`. Everything else it does as it should; without an argument, all.
//
// Each sandbox is a folder below `config.root`, with its record beside its workspace.

import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { randomUUID } from "node:crypto";

const breaks = (name) => process.argv[2] === name;

const GONE = -31001;
const STALE_FENCING_TOKEN = -31002;
const NOT_OURS = -31003;
const REFUSED = -31004;
const WORKER_ERROR = -32002;

const roots = new Set();

function fail(code, message) {
  throw Object.assign(new Error(message), { code });
}

const folderOf = (root, id) => path.join(root, id);

// Records that stand in memory until the worker is asked to end: a crash loses them.
const unsaved = new Map();

function read(root, id) {
  if (unsaved.has(folderOf(root, id))) return unsaved.get(folderOf(root, id));
  try {
    return JSON.parse(fs.readFileSync(path.join(folderOf(root, id), "record.json"), "utf8"));
  } catch (error) {
    if (error.code === "ENOENT") return null;
    throw error;
  }
}

function write(root, id, record) {
  if (breaks("lost-reply")) {
    unsaved.set(folderOf(root, id), record);
    return;
  }
  const aside = path.join(folderOf(root, id), "record.aside");
  fs.writeFileSync(aside, JSON.stringify(record));
  fs.renameSync(aside, path.join(folderOf(root, id), "record.json"));
}

function remove(root, id) {
  unsaved.delete(folderOf(root, id));
  fs.rmSync(folderOf(root, id), { recursive: true, force: true });
}

function records(root) {
  const ids = fs.existsSync(root) ? fs.readdirSync(root) : [];
  return ids.map((id) => [id, read(root, id)]).filter(([, record]) => record);
}

/** The record of a sandbox that the caller may touch, under the caller's token. */
function held(params, id, metadata) {
  const { root } = params.config;
  if (!/^[0-9a-z-]+$/.test(id)) {
    fail(breaks("error-codes") ? WORKER_ERROR : REFUSED, `"${id}" is no sandbox of this provider.`);
  }
  const elsewhere = metadata?.remoteCwd && !metadata.remoteCwd.startsWith(`${root}/`);
  if (elsewhere && !breaks("other-credentials")) fail(NOT_OURS, `${id} is not of this account.`);
  const record = read(root, id);
  if (!record) fail(GONE, `There is no sandbox ${id} any more.`);
  if (breaks("not-gone-for-others") && record.companyId !== params.companyId) fail(GONE, `No ${id} is seen.`);
  if (record.ledgerId !== params.ledgerId && !breaks("other-ledger")) fail(NOT_OURS, `${id} is of another ledger.`);
  if (params.fencingToken < record.fencingToken && !breaks("stale-token")) {
    fail(STALE_FENCING_TOKEN, `The token ${params.fencingToken} is stale.`);
  }
  const changed = { ...record, fencingToken: Math.max(params.fencingToken, record.fencingToken) };
  write(root, id, changed);
  return changed;
}

const workspaceOf = (root, id) => path.join(folderOf(root, id), "workspace");

function lease(root, id) {
  const volume = breaks("other-volume") ? randomUUID() : id;
  return { providerLeaseId: id, metadata: { remoteCwd: workspaceOf(root, id), volume } };
}

async function acquire(params) {
  const { config, leaseId, ledgerId, companyId, fencingToken } = params;
  const { root } = config;
  let id = leaseId;
  const before = records(root).find(([, record]) => record.leaseId === leaseId);
  if (before) {
    held(params, before[0]);
    if (!breaks("duplicate-acquire")) return lease(root, before[0]);
    id = randomUUID();
  }
  if (breaks("lost-reply")) id = randomUUID();
  if (breaks("late-success")) {
    // Between the look and the making there is time for another.
    await new Promise((resolve) => setTimeout(resolve, 100));
    if (read(root, id)) id = randomUUID();
  }
  fs.mkdirSync(workspaceOf(root, id), { recursive: true });
  write(root, id, { leaseId, ledgerId, companyId, fencingToken, createdAt: new Date().toISOString() });
  return lease(root, id);
}

function resume(params) {
  const { providerLeaseId: id, config, leaseMetadata } = params;
  try {
    held(params, id, leaseMetadata);
  } catch (error) {
    if (error.code !== GONE) throw error;
    if (breaks("confirms-absence")) fail(WORKER_ERROR, "It could not be resumed.");
    return { providerLeaseId: null };
  }
  write(config.root, id, { ...read(config.root, id), stopped: false });
  return lease(config.root, id);
}

function release(params) {
  const { providerLeaseId: id, config, leaseMetadata } = params;
  if (!config.reuseLease) return destroy(params);
  const record = held(params, id, leaseMetadata);
  if (record.stopped && breaks("duplicate-release")) fail(WORKER_ERROR, `${id} is stopped.`);
  if (breaks("release-keeps")) {
    fs.rmSync(workspaceOf(config.root, id), { recursive: true });
    fs.mkdirSync(workspaceOf(config.root, id));
  }
  write(config.root, id, { ...record, stopped: true });
  return { providerLeaseId: id, state: "stopped" };
}

function destroy(params) {
  const { providerLeaseId: id, config, leaseMetadata } = params;
  // Nor is this one of the cases' names: it fails nearly all of them, and leaves what they made.
  if (breaks("destroys-nothing")) fail(WORKER_ERROR, "It could not be removed.");
  try {
    held(params, id, leaseMetadata);
  } catch (error) {
    if (error.code === GONE && breaks("duplicate-destroy")) fail(WORKER_ERROR, `${id} could not be removed.`);
    throw error;
  }
  if (!breaks("destroy-removes")) remove(config.root, id);
  return { providerLeaseId: id, state: "destroyed" };
}

function execute(params) {
  const { lease: { providerLeaseId: id, metadata }, config, command, cwd, stdin, timeoutMs } = params;
  held(params, id, metadata);
  const env = breaks("execute-env") ? {} : params.env;
  const args = params.args.map((word) => (breaks("execute-separators") ? word.replace(/[\u2028\u2029]/g, "\n") : word));
  return new Promise((resolve) => {
    const options = { cwd: cwd ?? workspaceOf(config.root, id), env: { PATH: process.env.PATH, ...env }, detached: true };
    const child = spawn(command, args, options);
    const output = { stdout: "", stderr: "" };
    for (const stream of ["stdout", "stderr"]) {
      child[stream].setEncoding("utf8").on("data", (text) => (output[stream] += text));
    }
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = !breaks("execute-timeout");
      process.kill(-child.pid, "SIGKILL");
    }, timeoutMs);
    child.on("close", (exitCode, signal) => {
      clearTimeout(timer);
      resolve({ exitCode: breaks("execute-exit-code") ? 0 : exitCode, signal, timedOut, ...output });
    });
    child.stdin.on("error", () => {});
    child.stdin.end(breaks("execute-stdin") ? "" : (stdin ?? ""));
  });
}

function list({ config }) {
  if (breaks("listing")) return { leases: [] };
  const leases = records(config.root).map(([id, { leaseId, ledgerId, createdAt }]) => {
    return { providerLeaseId: id, createdAt, metadata: { leaseId, ledgerId } };
  });
  return { leases };
}

function validate({ config }) {
  const ok = breaks("declared-schema") || typeof config.root === "string";
  return ok ? { ok, normalizedConfig: config } : { ok, errors: ["\"root\" must be a path."] };
}

function shutdown() {
  if (breaks("cleans-up")) return new Promise(() => {});
  if (breaks("restart")) roots.forEach((root) => records(root).forEach(([id]) => remove(root, id)));
  for (const [folder, record] of unsaved) {
    fs.writeFileSync(path.join(folder, "record.json"), JSON.stringify(record));
  }
  setImmediate(() => process.exit(0));
  return null;
}

const handlers = {
  environmentValidateConfig: validate,
  environmentAcquireLease: acquire,
  environmentResumeLease: resume,
  environmentReleaseLease: release,
  environmentDestroyLease: destroy,
  environmentRealizeWorkspace: (params) => {
    held(params, params.lease.providerLeaseId, params.lease.metadata);
    return { cwd: workspaceOf(params.config.root, params.lease.providerLeaseId) };
  },
  environmentExecute: execute,
  environmentListLeases: list,
};

async function answer({ method, params }) {
  if (method === "initialize") return { ok: true, supportedMethods: Object.keys(handlers) };
  if (method === "shutdown") return shutdown();
  if (params.config?.root) roots.add(params.config.root);
  return handlers[method](params);
}

createInterface({ input: process.stdin }).on("line", async (line) => {
  const request = JSON.parse(line);
  let outcome;
  try {
    outcome = { result: await answer(request) };
  } catch (error) {
    outcome = { error: { code: Number.isInteger(error.code) ? error.code : WORKER_ERROR, message: error.message } };
  }
  process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", id: request.id, ...outcome })}\n`);
});
// Only a signal ends what does not listen.
if (breaks("cleans-up")) setInterval(() => {}, 1000);
// Not one of the cases' names: the other half of "cleans-up".
if (breaks("leaves-a-process")) spawn("sleep", ["60"], { stdio: "ignore", detached: true }).unref();
