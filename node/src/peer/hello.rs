//! The first message of a stream.

use kontiki_proto::raft;
use kontiki_proto::raft::PeerMessage;
use kontiki_proto::raft::peer_message::Body;
use kontiki_raft::{ClusterId, ServerId};

use crate::address_book::ServerRef;

/// From this server to the one that it dials.
pub fn encode(cluster: Option<ClusterId>, me: &ServerRef, to: ServerId) -> PeerMessage {
    PeerMessage {
        cluster: cluster.map_or(0, |cluster| cluster.0),
        from: me.id.0,
        to: to.0,
        body: Some(Body::Hello(raft::Hello {
            node: me.name.clone(),
            peer_address: me.peer_address.clone(),
            client_address: me.client_address.clone(),
        })),
        ..PeerMessage::default()
    }
}

/// Who says hello; `None` if it is another message, or from nobody.
pub fn greeted(message: &PeerMessage) -> Option<ServerRef> {
    let Some(Body::Hello(hello)) = &message.body else {
        return None;
    };
    (message.from != 0).then(|| ServerRef {
        id: ServerId(message.from),
        name: hello.node.clone(),
        peer_address: hello.peer_address.clone(),
        client_address: hello.client_address.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_says_who_dials() {
        let mut me = ServerRef::unknown(ServerId(1));
        me.peer_address = "here:1".into();
        let message = encode(Some(ClusterId(5)), &me, ServerId(2));
        assert_eq!((message.cluster, message.to), (5, 2));
        assert_eq!(greeted(&message), Some(me));
        assert_eq!(greeted(&PeerMessage { from: 0, ..message }), None);
    }
}
