// A complete provider plugin on the published SDK: each sandbox is a folder below `config.root`, with a record of who
// holds it beside its workspace. Everything that it knows stands on disk, so a worker that is started again goes on.
//
// It shows what the ledger can use where a provider offers it:
// - the lease id as name: an acquire that is repeated finds the folder that the first one made;
// - labels (ledger, lease) and the fencing token in the record: a stale or foreign call is refused;
// - what it told of the sandbox, sent back with each call: what another account does not see is not taken for gone;
// - error codes that say how an effect went, instead of an exception that leaves it unknown.

import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { definePlugin, runWorker } from "@paperclipai/plugin-sdk";

const GONE = -31001;
const STALE_FENCING_TOKEN = -31002;
const NOT_OURS = -31003;
const REFUSED = -31004;

const PREFIX = "folder://";
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const OUTPUT_BYTES_DEFAULT = 8 * 1024 * 1024;

function fail(code, message) {
  throw Object.assign(new Error(message), { code });
}

/** The folder of a sandbox. Its name is a UUID, so it can never lead elsewhere. */
function folderOf(config, providerLeaseId) {
  const name = String(providerLeaseId ?? "").replace(PREFIX, "");
  if (!UUID.test(name)) fail(REFUSED, `"${providerLeaseId}" is no sandbox of this provider; it must be ${PREFIX}UUID.`);
  return path.join(config.root, name);
}

function read(folder) {
  try {
    return JSON.parse(fs.readFileSync(path.join(folder, "record.json"), "utf8"));
  } catch (error) {
    if (error.code === "ENOENT") return null;
    throw error;
  }
}

/** Written aside, then renamed: a record is whole, or not there. */
function write(folder, record) {
  const aside = path.join(folder, "record.aside");
  fs.writeFileSync(aside, JSON.stringify(record));
  fs.renameSync(aside, path.join(folder, "record.json"));
}

/** What is not below this root may well be below another: that it is not here is no proof that it is gone. */
function refuseElsewhere(params) {
  const made = (params.leaseMetadata ?? params.lease?.metadata)?.remoteCwd;
  const { root } = params.config;
  if (made && path.dirname(path.dirname(made)) !== path.resolve(root)) fail(NOT_OURS, `${made} is not below ${root}.`);
}

/** The record of a sandbox that the caller may touch, under the caller's token. */
function held(params, providerLeaseId) {
  refuseElsewhere(params);
  const folder = folderOf(params.config, providerLeaseId);
  const record = read(folder);
  if (!record) fail(GONE, `There is no sandbox ${providerLeaseId} any more.`);
  if (record.ledgerId !== params.ledgerId) fail(NOT_OURS, `${providerLeaseId} bears the label of another ledger.`);
  if (params.fencingToken < record.fencingToken) {
    fail(STALE_FENCING_TOKEN, `The token ${params.fencingToken} is stale: it is held under ${record.fencingToken}.`);
  }
  if (params.fencingToken > record.fencingToken) write(folder, { ...record, fencingToken: params.fencingToken });
  return folder;
}

function lease(folder) {
  return {
    providerLeaseId: PREFIX + path.basename(folder),
    metadata: { remoteCwd: path.join(folder, "workspace"), shellCommand: "sh" },
  };
}

function destroy(params) {
  const folder = held(params, params.providerLeaseId);
  // The record goes last: what is half removed can still be asked for.
  fs.rmSync(path.join(folder, "workspace"), { recursive: true, force: true });
  fs.rmSync(folder, { recursive: true, force: true });
  return { providerLeaseId: params.providerLeaseId, state: "destroyed" };
}

/** Runs a command to its end, or to a limit, with everything that it starts. */
function run(params, cwd, log) {
  const { command, args = [], env = {}, stdin, timeoutMs, config } = params;
  const outputBytesMax = config.outputBytesMax ?? OUTPUT_BYTES_DEFAULT;
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd, env: { PATH: process.env.PATH, ...env }, detached: true });
    const output = { stdout: [], stderr: [] };
    let left = outputBytesMax;
    let limit = null;
    let timedOut = false;
    const kill = () => {
      try {
        process.kill(-child.pid, "SIGKILL");
      } catch {
        // It is over already.
      }
    };
    for (const stream of ["stdout", "stderr"]) {
      const decoder = new TextDecoder();
      child[stream].on("data", (bytes) => {
        const taken = bytes.subarray(0, left);
        left -= taken.length;
        const text = decoder.decode(taken, { stream: true });
        if (text) {
          output[stream].push(text);
          log?.(stream, text);
        }
        if (taken.length < bytes.length && !limit) {
          limit = "output";
          kill();
        }
      });
    }
    const timer = timeoutMs
      ? setTimeout(() => {
          timedOut = true;
          kill();
        }, timeoutMs)
      : null;
    const finish = (exitCode, signal, told = "") => {
      clearTimeout(timer);
      kill();
      const stderr = output.stderr.join("") + told;
      const metadata = limit ? { limit } : undefined;
      resolve({ exitCode, signal, timedOut, stdout: output.stdout.join(""), stderr, metadata });
    };
    child.on("error", (error) => finish(127, null, `${command}: ${error.code ?? error.message}\n`));
    child.on("close", (exitCode, signal) => finish(exitCode, signal));
    // A command that does not read its input to the end is no error.
    child.stdin.on("error", () => {});
    child.stdin.end(stdin ?? "");
  });
}

let context;

const plugin = definePlugin({
  async setup(ctx) {
    context = ctx;
  },

  async onEnvironmentValidateConfig({ config }) {
    // The ledger checks the schema too; another host may not.
    if (typeof config.root !== "string" || !path.isAbsolute(config.root)) {
      return { ok: false, errors: [`"root" must be an absolute path, such as "/var/sandboxes".`] };
    }
    const normalizedConfig = { outputBytesMax: OUTPUT_BYTES_DEFAULT, ...config };
    return { ok: true, normalizedConfig };
  },

  async onEnvironmentProbe({ config }) {
    try {
      fs.mkdirSync(config.root, { recursive: true });
      fs.accessSync(config.root, fs.constants.W_OK);
      return { ok: true, summary: `Folders are made below ${config.root}.` };
    } catch (error) {
      const message = `${config.root} cannot be written: ${error.message}`;
      return { ok: false, summary: message, diagnostics: [{ severity: "error", message, code: "root-not-writable" }] };
    }
  },

  async onEnvironmentAcquireLease(params) {
    const { config, leaseId, ledgerId, fencingToken, runId, attempt } = params;
    // Without a lease id (another host) the run's id is the only name that the same acquire always has.
    const folder = folderOf(config, PREFIX + (leaseId ?? runId));
    if (read(folder)) return lease(held(params, PREFIX + path.basename(folder)));
    fs.mkdirSync(path.join(folder, "workspace"), { recursive: true });
    write(folder, { ledgerId, leaseId, runId, attempt, fencingToken, createdAt: new Date().toISOString() });
    return lease(folder);
  },

  async onEnvironmentResumeLease(params) {
    refuseElsewhere(params);
    const folder = folderOf(params.config, params.providerLeaseId);
    if (!read(folder)) return { providerLeaseId: null };
    return lease(held(params, params.providerLeaseId));
  },

  async onEnvironmentReleaseLease(params) {
    if (!params.config.reuseLease) return destroy(params);
    held(params, params.providerLeaseId);
    return { providerLeaseId: params.providerLeaseId, state: "stopped" };
  },

  async onEnvironmentDestroyLease(params) {
    return destroy(params);
  },

  async onEnvironmentRealizeWorkspace(params) {
    return { cwd: path.join(held(params, params.lease.providerLeaseId), "workspace") };
  },

  async onEnvironmentExecute(params) {
    const workspace = path.join(held(params, params.lease.providerLeaseId), "workspace");
    // The older SDK has no live output; the answer has all of it either way.
    const log = context.execution?.log?.bind(context.execution);
    return run(params, params.cwd ?? workspace, log);
  },
});

export default plugin;
runWorker(plugin, import.meta.url);
