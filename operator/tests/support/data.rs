//! Writing and reading keys through whichever node leads.

use std::time::{Duration, Instant};

use kontiki_proto::kv::kv_client::KvClient;
use kontiki_proto::kv::{GetRequest, PutRequest};
use tonic::transport::{Channel, Endpoint};

use super::Cluster;

const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// Writes a key; the same again after no answer, which changes nothing.
pub fn put(cluster: &Cluster, key: &'static str, value: &'static str) {
    until(cluster, async |mut client| {
        let request = PutRequest {
            key: key.into(),
            value: value.into(),
            ..PutRequest::default()
        };
        client.put(request).await.map(|_| ())
    });
}

/// Reads a key, linearizably.
pub fn get(cluster: &Cluster, key: &'static str) -> Option<String> {
    until(cluster, async |mut client| {
        let request = GetRequest {
            key: key.into(),
            ..Default::default()
        };
        let answer = client.get(request).await?.into_inner();
        Ok(answer
            .kv
            .map(|kv| String::from_utf8(kv.value.to_vec()).unwrap()))
    })
}

fn until<T>(
    cluster: &Cluster,
    call: impl AsyncFn(KvClient<Channel>) -> Result<T, tonic::Status>,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let deadline = Instant::now() + DEADLINE;
    loop {
        let attempt = runtime.block_on(async {
            let address = cluster.leader_address().ok_or("no leader is known")?;
            let endpoint = Endpoint::from_shared(address).map_err(|error| error.to_string())?;
            let endpoint = endpoint.timeout(Duration::from_secs(2));
            let client = KvClient::new(endpoint.connect_lazy());
            call(client).await.map_err(|status| status.to_string())
        });
        match attempt {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(POLL);
    }
}
