// A worker on the published SDK that asks its host, and tells in a probe what it was answered.

import { definePlugin, runWorker } from "@paperclipai/plugin-sdk";

let context;
let atStart;

const refusal = (asked) => asked.then((answer) => ({ answer }), (error) => error.code ?? String(error));

const plugin = definePlugin({
  async setup(ctx) {
    context = ctx;
    atStart = await ctx.config.get();
  },

  async onEnvironmentProbe({ companyId }) {
    const inCall = await context.config.get(companyId);
    const ofAnother = await refusal(context.config.get("00000000-0000-0000-0000-000000000000"));
    const state = await refusal(context.state.get({ scopeKind: "instance", stateKey: "x" }));
    return { ok: true, summary: JSON.stringify({ atStart, inCall, ofAnother, state }) };
  },
});

export default plugin;
runWorker(plugin, import.meta.url);
