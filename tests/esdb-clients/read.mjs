// Reads a lease's history with the official Node client, and follows it: read.mjs URL LEASE_STREAM.
//
// Prints one JSON line for each thing read, then one for each event that comes, until it is ended.

import { BACKWARDS, END, KurrentDBClient, eventTypeFilter, streamNameFilter } from "@kurrent/kurrentdb-client";

const [url, stream] = process.argv.slice(2);
const client = KurrentDBClient.connectionString([url]);

const shown = ({ event, link }) => ({
  eventId: event.id,
  streamId: event.streamId,
  streamRevision: Number(event.revision),
  position: Number(event.position?.commit),
  type: event.type,
  data: event.data,
  metadata: event.metadata,
  link: link === undefined ? null : Number(link.revision),
});

const say = (what) => console.log(JSON.stringify(what));

const all = async (events) => {
  const read = [];
  for await (const resolved of events) read.push(shown(resolved));
  return read;
};

say({ stream: await all(client.readStream(stream)) });
say({ backwards: await all(client.readStream(stream, { direction: BACKWARDS, fromRevision: END })) });
say({ all: await all(client.readAll({ filter: streamNameFilter({ prefixes: ["lease-"] }) })) });
say({ everything: await all(client.readAll({ filter: eventTypeFilter({ regex: "^[^$].*" }) })) });
say({ category: await all(client.readStream("$ce-lease", { resolveLinkTos: true })) });
try {
  await client.deleteStream(stream);
  say({ refused: null });
} catch (refused) {
  say({ refused: refused.constructor.name });
}
const following = client.subscribeToStream("$ce-lease", { fromRevision: END, resolveLinkTos: true });
following.on("confirmation", () => say({ following: true }));
for await (const resolved of following) say({ live: shown(resolved) });
