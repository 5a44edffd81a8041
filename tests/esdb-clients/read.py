"""Reads a lease's history with the official Python client, and follows it: read.py URL LEASE_STREAM.

Prints one JSON line for each thing read, then one for each event that comes, until its input ends.
"""

import json
import sys

from kurrentdbclient import KurrentDBClient
from kurrentdbclient.exceptions import KurrentDBClientError


def shown(event):
    return {
        "eventId": str(event.id),
        "streamId": event.stream_name,
        "streamRevision": event.stream_position,
        "position": event.commit_position,
        "type": event.type,
        "data": json.loads(event.data),
        "metadata": json.loads(event.metadata),
        "link": event.link and event.link.stream_position,
    }


def say(**what):
    print(json.dumps(what), flush=True)


def main():
    url, stream = sys.argv[1:]
    client = KurrentDBClient(uri=url)
    say(stream=[shown(event) for event in client.get_stream(stream)])
    say(backwards=[shown(event) for event in client.get_stream(stream, backwards=True)])
    leases = client.read_all(filter_include=["lease-"], filter_by_stream_name=True, filter_by_prefix=True)
    say(all=[shown(event) for event in leases])
    # With the client's own default filter, a regular expression with a look-ahead.
    say(everything=[shown(event) for event in client.read_all()])
    say(category=[shown(event) for event in client.get_stream("$ce-lease", resolve_links=True)])
    try:
        client.delete_stream(stream, current_version=0)
        say(refused=None)
    except KurrentDBClientError as refused:
        say(refused=type(refused).__name__)
    following = client.subscribe_to_stream("$ce-lease", from_end=True, resolve_links=True)
    say(following=True)
    for event in following:
        say(live=shown(event))


main()
