//! Two nodes over the same events, as a cluster's replicas are; the first leads until it dies.

use std::net::SocketAddr;
use std::sync::Arc;

use lease_ledger::esdb::Member;
use lease_stores::memory::MemoryStore;
use tokio::net::TcpListener;

use crate::protocol::appends::Appends;
use crate::protocol::{Server, memory};

pub(super) struct Cluster {
    events: (Arc<MemoryStore>, Appends),
    nodes: [SocketAddr; 2],
    leading: Server,
}

impl Cluster {
    pub(super) async fn start() -> Self {
        let held = [TcpListener::bind("127.0.0.1:0").await, TcpListener::bind("127.0.0.1:0").await];
        let nodes = held.map(|held| held.expect("a free port").local_addr().expect("it is bound"));
        let events = memory();
        let leading = Server::at(nodes[0], &events, members(nodes[0], nodes[1], true)).await;
        Self { events, nodes, leading }
    }

    /// Names both nodes.
    pub(super) fn url(&self) -> String {
        let [first, second] = self.nodes;
        format!("esdb://{first},{second}?tls=false&maxDiscoverAttempts=2&discoveryInterval=50")
    }

    /// The first node dies, and the second leads.
    pub(super) async fn fail_over(self) -> Server {
        let Self { events, nodes: [first, second], leading } = self;
        let living = Server::at(second, &events, members(second, first, false)).await;
        drop(leading);
        living
    }
}

fn members(leader: SocketAddr, other: SocketAddr, is_alive: bool) -> Vec<Member> {
    vec![
        Member { address: leader, is_leader: true, is_alive: true },
        Member { address: other, is_leader: false, is_alive },
    ]
}
