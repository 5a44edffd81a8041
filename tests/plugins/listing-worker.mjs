// A provider that can list, on the protocol by hand: its sandboxes are records below `config.root`, one file each, and
// every effect is a line of `journal.ndjson` beside them. All that it knows stands on disk, so that it may be killed at any
// moment. `config.fails` names the call that it refuses; where there is a file `obstructed`, nothing is destroyed.

import fs from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";

const GONE = -31001;
const STALE_FENCING_TOKEN = -31002;
const NOT_OURS = -31003;
const REFUSED = -31004;
const NOT_DONE = -31005;

const PREFIX = "record://";

function fail(code, message) {
  throw Object.assign(new Error(message), { code });
}

const place = (params, leaseId) => path.join(params.config.root, `${leaseId}.json`);
const nameOf = (providerLeaseId) => String(providerLeaseId).replace(PREFIX, "");

function read(file) {
  try {
    return JSON.parse(fs.readFileSync(file, "utf8"));
  } catch (error) {
    if (error.code === "ENOENT") return null;
    throw error;
  }
}

/** Written aside, then renamed: a record is whole, or not there. */
function write(file, record) {
  fs.writeFileSync(`${file}.aside`, JSON.stringify(record));
  fs.renameSync(`${file}.aside`, file);
}

function note(params, what, leaseId) {
  fs.appendFileSync(path.join(params.config.root, "journal.ndjson"), `${JSON.stringify({ what, leaseId })}\n`);
}

function held(params, providerLeaseId) {
  const file = place(params, nameOf(providerLeaseId));
  const record = read(file);
  if (!record) fail(GONE, `There is no ${providerLeaseId} any more.`);
  if (record.ledgerId !== params.ledgerId) fail(NOT_OURS, `${providerLeaseId} is another ledger's.`);
  if (params.fencingToken < record.fencingToken) fail(STALE_FENCING_TOKEN, `${params.fencingToken} is stale.`);
  if (params.fencingToken > record.fencingToken) write(file, { ...record, fencingToken: params.fencingToken });
  return file;
}

const lease = (leaseId) => ({ providerLeaseId: PREFIX + leaseId, metadata: { remoteCwd: "/work" } });

function destroy(params) {
  const file = held(params, params.providerLeaseId);
  if (fs.existsSync(path.join(params.config.root, "obstructed"))) fail(NOT_DONE, "Something is in the way.");
  fs.rmSync(file);
  note(params, "remove", nameOf(params.providerLeaseId));
  return { providerLeaseId: params.providerLeaseId, state: "destroyed" };
}

const handlers = {
  initialize: () => ({ ok: true, supportedMethods: Object.keys(handlers).filter((name) => name !== "initialize") }),
  environmentProbe: () => ({ ok: true }),
  environmentAcquireLease(params) {
    const { config, leaseId, ledgerId, fencingToken } = params;
    fs.mkdirSync(config.root, { recursive: true });
    if (!read(place(params, leaseId))) {
      write(place(params, leaseId), { leaseId, ledgerId, fencingToken, createdAt: new Date().toISOString() });
      note(params, "create", leaseId);
    }
    return lease(leaseId);
  },
  environmentResumeLease(params) {
    if (!read(place(params, nameOf(params.providerLeaseId)))) return { providerLeaseId: null };
    held(params, params.providerLeaseId);
    return lease(nameOf(params.providerLeaseId));
  },
  environmentReleaseLease(params) {
    if (!params.config.reuseLease) return destroy(params);
    held(params, params.providerLeaseId);
    return { providerLeaseId: params.providerLeaseId, state: "stopped" };
  },
  environmentDestroyLease: (params) => destroy(params),
  environmentRealizeWorkspace(params) {
    held(params, params.lease.providerLeaseId);
    return { cwd: "/work" };
  },
  environmentExecute(params) {
    held(params, params.lease.providerLeaseId);
    note(params, "execute", nameOf(params.lease.providerLeaseId));
    return { exitCode: 0, timedOut: false, stdout: "", stderr: "" };
  },
  environmentListLeases({ config }) {
    fs.mkdirSync(config.root, { recursive: true });
    const files = fs.readdirSync(config.root).filter((name) => name.endsWith(".json"));
    const records = files.map((name) => read(path.join(config.root, name))).filter(Boolean);
    const listed = ({ leaseId, ledgerId, createdAt }) => ({
      providerLeaseId: PREFIX + leaseId,
      createdAt,
      metadata: { leaseId, ledgerId },
    });
    return { leases: records.map(listed) };
  },
  shutdown() {
    setImmediate(() => process.exit(0));
    return null;
  },
};

function answer({ id, method, params }) {
  try {
    if (params?.config?.fails === method) fail(REFUSED, "It was told to refuse.");
    return { id, result: handlers[method](params) };
  } catch (error) {
    return { id, error: { code: error.code ?? -32002, message: error.message } };
  }
}

createInterface({ input: process.stdin }).on("line", (line) => {
  const request = JSON.parse(line);
  if (!request.method) return;
  process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", ...answer(request) })}\n`);
});
