// A worker that speaks the protocol by hand and misbehaves in the one way that its first argument names. Everything
// else it does as it should.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

const behaviour = process.argv[2];

const METHODS = [
  "environmentProbe",
  "environmentAcquireLease",
  "environmentResumeLease",
  "environmentReleaseLease",
  "environmentDestroyLease",
  "environmentExecute",
];
if (behaviour === "list") METHODS.push("environmentListLeases");

const send = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);

function lease(params, remoteCwd = "/work") {
  // A sandbox that is resumed bears its id already.
  const volume = behaviour === "other-volume" && params.providerLeaseId ? "other" : "first";
  const metadata = { remoteCwd, volume };
  if (behaviour === "echo") {
    Object.assign(metadata, { token: params.config.token, note: `I know ${params.config.token}`, driver: "mine" });
    metadata[`key-${params.config.token}`] = 1;
    metadata.pluginKey = "mine";
  }
  return { providerLeaseId: params.providerLeaseId ?? `bad-${params.leaseId}`, metadata };
}

const handlers = {
  initialize() {
    if (behaviour === "grandchild") {
      // In a session of its own, and with nobody above it: neither the group nor the descent leads to it.
      spawn("sh", ["-c", `setsid sleep ${process.argv[3]} & sleep ${process.argv[3]}`], { stdio: "ignore", detached: true });
    }
    return { ok: true, supportedMethods: METHODS };
  },
  environmentProbe: () => ({ ok: true }),
  environmentAcquireLease(params) {
    if (behaviour === "null") return null;
    if (behaviour === "throw") throw new Error(`no quota for ${params.config.token}`);
    return lease(params);
  },
  environmentResumeLease: (params) => lease(params, behaviour === "other-directory" ? "/elsewhere" : "/work"),
  environmentReleaseLease: () => null,
  environmentDestroyLease: () => null,
  environmentExecute(params) {
    if (behaviour === "null") return null;
    return { exitCode: 0, timedOut: false, stdout: params.args.join(" "), stderr: "" };
  },
  environmentListLeases(params) {
    const metadata = { leaseId: "0198c0de-0000-7000-8000-000000000001" };
    return { leases: [{ providerLeaseId: `of-${params.companyId}`, metadata }] };
  },
  shutdown() {
    if (behaviour === "deaf") return new Promise(() => {});
    setImmediate(() => process.exit(0));
    return null;
  },
};

/** Whether this call is the one to misbehave in: company A is the victim of its own provider, others are served. */
const isVictim = (request) => request.method === "environmentAcquireLease" && request.params.agentId === "victim";

async function serve(request) {
  if (isVictim(request)) {
    if (behaviour === "crash") process.exit(3);
    if (behaviour === "hang") return;
    if (behaviour === "garbage") {
      process.stdout.write("Debugger attached.\n{\"jsonrpc\":\n[1,2]\n\u2028\n\u0000\u0001\n{}\n");
      send({ id: null, error: { code: -32700, message: "?" } });
      send({ id: 999999, result: "nobody asked" });
      send({ id: "7", result: "a text for an id" });
      send({ method: "execute.log", params: { stream: "stdout", chunk: "for nobody" }, paperclipInvocationId: "x" });
    }
    if (behaviour === "flood") {
      process.stdout.write("x".repeat(17 * 1024 * 1024) + "\n");
      for (let at = 0; at < 20000; at += 1) send({ method: "log", params: { level: "info", message: `line ${at}` } });
      for (let at = 0; at < 200; at += 1) send({ id: at + 1, method: "state.get", params: {} });
      process.stderr.write("y".repeat(1024 * 1024));
    }
  }
  if (behaviour === "echo" && request.params?.config?.token) {
    process.stderr.write(`stderr ${request.params.config.token}\n`);
    send({ method: "log", params: { level: "info", message: `log ${request.params.config.token}` } });
  }
  let answer;
  try {
    answer = { id: request.id, result: await handlers[request.method](request.params) };
  } catch (error) {
    answer = { id: request.id, error: { code: -32002, message: error.message } };
  }
  send(answer);
  if (behaviour === "twice") send(answer);
}

if (behaviour === "deaf") process.on("SIGTERM", () => {});

createInterface({ input: process.stdin }).on("line", (line) => {
  const request = JSON.parse(line);
  // An answer to a request of ours.
  if (!request.method) return;
  serve(request);
});
if (behaviour === "deaf") setInterval(() => {}, 1000);
