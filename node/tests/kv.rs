//! `kontiki.kv.v1.Kv`: keys, compare-and-set by revision, listings over several pages.

mod common;

use common::{NodeProcess, cluster, cluster_of_id};
use kontiki_proto::kv::kv_client::KvClient;
use kontiki_proto::kv::{
    DeleteRequest, GetRequest, KeyValue, PutRequest, RangeRequest, RangeResponse,
};
use kontiki_proto::{metadata, reason, v1};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

async fn kv(node: &NodeProcess) -> KvClient<Channel> {
    KvClient::connect(format!("http://{}", node.client))
        .await
        .expect("it listens")
}

fn put(key: &str, value: impl Into<Vec<u8>>) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.into().into(),
        ..PutRequest::default()
    }
}

fn put_if(key: &str, value: impl Into<Vec<u8>>, if_mod_revision: u64) -> PutRequest {
    PutRequest {
        if_mod_revision: Some(if_mod_revision),
        ..put(key, value)
    }
}

/// Refused for good as bad input, with this reason; the message.
fn refused(status: &Status, reason: &str) -> String {
    let details = status.get_error_details();
    let info = details.error_info().expect("a detail");
    let outcome = info.metadata.get(metadata::OUTCOME).map(String::as_str);
    assert_eq!(
        (status.code(), info.reason.as_str(), outcome),
        (Code::InvalidArgument, reason, Some("FAILED"))
    );
    status.message().to_owned()
}

#[tokio::test]
async fn keys_are_put_read_listed_and_deleted() {
    let (nodes, leader) = cluster(1).await;
    let mut kv = kv(&nodes[leader]).await;
    for key in ["a", "b", "c"] {
        kv.put(put(key, key.to_uppercase())).await.expect("put");
    }
    let get = |key: &str, consistency| GetRequest {
        key: key.to_owned().into(),
        consistency,
        ..GetRequest::default()
    };
    let got = kv.get(get("b", 0)).await.expect("read").into_inner();
    let pair = got.kv.expect("found");
    assert_eq!(
        (&pair.key[..], &pair.value[..], pair.create_revision),
        (&b"b"[..], &b"B"[..], 2)
    );
    let missing = kv
        .get(get("x", v1::Consistency::Stale.into()))
        .await
        .expect("read");
    assert!(!missing.into_inner().found);
    let status = kv.get(get("b", 77)).await.expect_err("no such consistency");
    assert_eq!(status.code(), Code::InvalidArgument);
    let range = RangeRequest {
        limit: 2,
        ..RangeRequest::default()
    };
    let page = kv.range(range).await.expect("read").into_inner();
    assert_eq!((page.kvs.len(), page.revision), (2, 3));
    let delete = || DeleteRequest {
        key: "b".into(),
        ..DeleteRequest::default()
    };
    let deleted = kv.delete(delete()).await.expect("deleted").into_inner();
    assert_eq!((deleted.deleted, deleted.revision), (true, 4));
    assert!(
        !kv.delete(delete())
            .await
            .expect("no error")
            .into_inner()
            .deleted
    );
}

#[tokio::test]
async fn a_write_that_names_a_revision_is_done_at_that_revision_only() {
    let (nodes, leader) = cluster(3).await;
    let mut kv = kv(&nodes[leader]).await;
    let created = kv.put(put_if("k", "one", 0)).await.expect("put");
    let created = created.into_inner();
    assert_eq!((created.revision, created.mismatch), (1, false));
    let one = KeyValue {
        key: "k".into(),
        value: "one".into(),
        create_revision: 1,
        mod_revision: 1,
    };

    // Neither creates nor replaces nor deletes, and the revision stays.
    for wrong in [0, 2, u64::MAX] {
        let seen = kv.put(put_if("k", "no", wrong)).await.expect("an answer");
        let seen = seen.into_inner();
        assert_eq!((seen.revision, seen.mismatch), (1, true), "{wrong}");
        assert_eq!(seen.current.as_ref(), Some(&one), "{wrong}");
        let delete = DeleteRequest {
            key: "k".into(),
            if_mod_revision: Some(wrong),
            ..DeleteRequest::default()
        };
        let seen = kv.delete(delete).await.expect("an answer").into_inner();
        assert_eq!(
            (seen.revision, seen.mismatch, seen.deleted),
            (1, true, false)
        );
        assert_eq!(seen.current.as_ref(), Some(&one), "{wrong}");
    }
    let seen = kv.put(put_if("other", "no", 1)).await.expect("an answer");
    let seen = seen.into_inner();
    assert_eq!((seen.mismatch, seen.current), (true, None), "no such key");

    let replaced = kv.put(put_if("k", "two", 1)).await.expect("put");
    let replaced = replaced.into_inner();
    assert_eq!((replaced.revision, replaced.mismatch), (2, false));
    let delete = DeleteRequest {
        key: "k".into(),
        if_mod_revision: Some(2),
        ..DeleteRequest::default()
    };
    let deleted = kv.delete(delete).await.expect("deleted").into_inner();
    assert_eq!((deleted.revision, deleted.deleted), (3, true));
    // A key that is created anew goes on with the revisions of the store.
    let again = kv.put(put_if("k", "three", 0)).await.expect("put");
    assert_eq!(again.into_inner().revision, 4);
}

#[tokio::test]
async fn a_condition_counts_towards_the_bound_of_a_command() {
    let (nodes, leader) = cluster(1).await;
    let mut kv = kv(&nodes[leader]).await.max_encoding_message_size(8 << 20);
    let fits = (1 << 20) - 3 - 8 - 1;
    let status = kv
        .put(put_if("k", vec![0; fits + 1], 0))
        .await
        .expect_err("one too many");
    refused(&status, reason::TOO_LARGE);
    let put = kv.put(put_if("k", vec![0; fits], 0)).await;
    assert!(!put.expect("just fits").into_inner().mismatch);
}

/// Of many that increment at the same time, each by what it read, none is lost.
#[tokio::test]
async fn increments_by_compare_and_set_are_all_there() {
    const WRITERS: u64 = 4;
    const EACH: u64 = 25;
    let (nodes, leader) = cluster(3).await;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..WRITERS {
        let mut kv = kv(&nodes[leader]).await;
        writers.spawn(async move {
            let mut done = 0;
            let mut seen: Option<KeyValue> = None;
            while done < EACH {
                let (number, revision) = seen.as_ref().map_or((0, 0), |seen| {
                    let text = std::str::from_utf8(&seen.value).expect("a number");
                    (text.parse::<u64>().expect("a number"), seen.mod_revision)
                });
                let value = (number + 1).to_string();
                let request = put_if("counter", value.clone(), revision);
                let answer = kv.put(request).await.expect("answered").into_inner();
                seen = match answer.mismatch {
                    true => answer.current,
                    false => {
                        done += 1;
                        Some(KeyValue {
                            value: value.into(),
                            mod_revision: answer.revision,
                            ..KeyValue::default()
                        })
                    }
                };
            }
        });
    }
    writers.join_all().await;
    let get = GetRequest {
        key: "counter".into(),
        consistency: 0,
        ..GetRequest::default()
    };
    let got = kv(&nodes[leader]).await.get(get).await.expect("read");
    let got = got.into_inner();
    let total = (WRITERS * EACH).to_string();
    assert_eq!(&got.kv.expect("found").value[..], total.as_bytes());
    assert_eq!(got.revision, WRITERS * EACH, "one for each that was done");
}

fn next(page: &RangeResponse, limit: u32) -> RangeRequest {
    RangeRequest {
        limit,
        continuation: page.continuation.clone(),
        ..RangeRequest::default()
    }
}

#[tokio::test]
async fn a_listing_goes_on_where_a_page_ended_on_any_server_of_the_cluster() {
    let (nodes, leader) = cluster(3).await;
    let mut at_leader = kv(&nodes[leader]).await;
    for key in ["a", "b", "c", "d", "e"] {
        at_leader.put(put(key, "v")).await.expect("put");
    }
    let first = RangeRequest {
        start: "b".into(),
        end: "e".into(),
        limit: 1,
        ..RangeRequest::default()
    };
    let page = at_leader.range(first).await.expect("read").into_inner();
    assert_eq!((&page.kvs[0].key[..], page.revision), (&b"b"[..], 5));

    // A key behind the next page's first, one before it, and the first itself goes.
    for key in ["c1", "a1"] {
        at_leader.put(put(key, "v")).await.expect("put");
    }
    let delete = DeleteRequest {
        key: "c".into(),
        ..DeleteRequest::default()
    };
    at_leader.delete(delete).await.expect("deleted");
    let page = at_leader.range(next(&page, 1)).await.expect("read");
    let page = page.into_inner();
    assert_eq!((&page.kvs[0].key[..], page.revision), (&b"c1"[..], 8));

    let mut at_follower = kv(&nodes[(leader + 1) % 3]).await;
    common::eventually("the follower has applied all of it", async || {
        let stale = RangeRequest {
            consistency: v1::Consistency::Stale.into(),
            ..next(&page, 0)
        };
        let page = at_follower.range(stale).await.expect("read").into_inner();
        let keys: Vec<_> = page.kvs.iter().map(|kv| kv.key.to_vec()).collect();
        (page.revision == 8).then(|| {
            assert_eq!(keys, [b"d"], "the end of the range is kept");
            assert!(page.continuation.is_empty(), "the range is at its end");
        })
    })
    .await;
}

#[tokio::test]
async fn a_continuation_that_is_damaged_foreign_or_beside_the_point_is_refused() {
    let (nodes, leader) = cluster(1).await;
    let (others, other) = cluster_of_id("c2", 1, &[]).await;
    let mut mine = kv(&nodes[leader]).await;
    let mut theirs = kv(&others[other]).await;
    for key in ["a", "b", "c"] {
        mine.put(put(key, "v")).await.expect("put");
        theirs.put(put(key, "v")).await.expect("put");
    }
    let first = || RangeRequest {
        limit: 1,
        ..RangeRequest::default()
    };
    let page = mine.range(first()).await.expect("read").into_inner();
    let foreign = theirs.range(first()).await.expect("read").into_inner();

    let status = mine.range(next(&foreign, 0)).await.expect_err("foreign");
    let text = refused(&status, reason::WRONG_CLUSTER);
    for part in ["00000000000000c1", "00000000000000c2", "begin anew"] {
        assert!(text.contains(part), "{text}");
    }
    let mut cut = next(&page, 0);
    cut.continuation.truncate(cut.continuation.len() - 1);
    let status = mine.range(cut).await.expect_err("cut short");
    let text = refused(&status, reason::BAD_CONTINUATION);
    assert!(text.contains("unchanged"), "{text}");

    let beside = RangeRequest {
        start: "a".into(),
        ..next(&page, 0)
    };
    let status = mine.range(beside).await.expect_err("a start beside it");
    let text = refused(&status, reason::INVALID);
    assert!(text.contains("start"), "{text}");

    // A server that belongs to no cluster cannot tell; another server may be asked.
    let joiner = NodeProcess::start("joiner", &[]);
    let status = kv(&joiner).await.range(next(&page, 0)).await;
    let details = status.expect_err("a joiner").get_error_details();
    let info = details.error_info().expect("a detail");
    assert_eq!(info.reason, reason::NOT_A_MEMBER);

    let rest = mine.range(next(&page, 0)).await.expect("read").into_inner();
    assert_eq!(rest.kvs.len(), 2);
}
