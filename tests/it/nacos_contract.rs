//! What the fixture promises about Nacos. With `NACOS_ADDR` set, the same tests ask the real
//! server there.

use std::time::Duration;

use proto::nacos::{
    Body, Metadata, Payload, bi_request_stream_client::BiRequestStreamClient,
    request_client::RequestClient,
};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::support::Center;

/// A client without a library in between.
struct Client {
    channel: Channel,
    data_id: String,
    pushes: Streaming<Payload>,
    /// Open as long as the connection is wanted.
    answers: mpsc::UnboundedSender<Payload>,
}

fn payload(kind: &str, body: &Value) -> Payload {
    Payload {
        metadata: Some(Metadata {
            r#type: kind.to_owned(),
            ..Metadata::default()
        }),
        body: Some(Body {
            type_url: kind.to_owned(),
            value: body.to_string().into_bytes(),
        }),
    }
}

/// What kind of message it is, and what it says.
fn open(payload: Payload) -> (String, Value) {
    let kind = payload.metadata.unwrap_or_default().r#type;
    let body = serde_json::from_slice(&payload.body.unwrap_or_default().value).unwrap();
    (kind, body)
}

impl Client {
    async fn connect(center: &Center) -> Self {
        let channel = Channel::from_shared(format!("http://{}", center.network.addr()))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let (answers, outgoing) = mpsc::unbounded_channel();
        let setup = json!({
            "clientVersion": "test", "tenant": "", "labels": {}, "abilities": {},
            "headers": {}, "module": "internal",
        });
        answers
            .send(payload("ConnectionSetupRequest", &setup))
            .unwrap();
        // A server may keep its headers back until it has something to say.
        let pushes = BiRequestStreamClient::new(channel.clone())
            .request_bi_stream(UnboundedReceiverStream::new(outgoing))
            .await
            .unwrap()
            .into_inner();
        let client = Self {
            channel,
            data_id: center.data_id.clone(),
            pushes,
            answers,
        };
        let (kind, check) = client.ask("ServerCheckRequest", json!({})).await;
        assert_eq!(kind, "ServerCheckResponse");
        assert!(!check["connectionId"].as_str().unwrap().is_empty());
        client
    }

    async fn ask(&self, kind: &str, mut question: Value) -> (String, Value) {
        question["headers"] = json!({});
        question["requestId"] = json!("1");
        question["module"] = json!("config");
        let answer = RequestClient::new(self.channel.clone())
            .request(payload(kind, &question))
            .await
            .unwrap();
        open(answer.into_inner())
    }

    async fn query(&self) -> Value {
        let question = json!({
            "dataId": self.data_id, "group": "DEFAULT_GROUP", "tenant": "",
        });
        let (kind, answer) = self.ask("ConfigQueryRequest", question).await;
        assert_eq!(kind, "ConfigQueryResponse");
        answer
    }

    /// Listens for the document, having what `md5` says, and returns what has changed.
    async fn listen(&self, md5: &Value) -> Vec<Value> {
        let question = json!({
            "listen": true,
            "configListenContexts": [{
                "dataId": self.data_id, "group": "DEFAULT_GROUP", "tenant": "", "md5": md5,
            }],
        });
        let (kind, answer) = self.ask("ConfigBatchListenRequest", question).await;
        assert_eq!(kind, "ConfigChangeBatchListenResponse");
        answer["changedConfigs"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// Waits for word of a change, and says thanks.
    async fn pushed(&mut self) -> Value {
        loop {
            let push = timeout(Duration::from_secs(20), self.pushes.message()).await;
            let push = push.expect("a push within 20 s").unwrap();
            let (kind, body) = open(push.expect("an open stream"));
            let id = body["requestId"].clone();
            if kind == "ConfigChangeNotifyRequest" {
                let thanks = json!({ "resultCode": 200, "errorCode": 0, "requestId": id });
                self.answers
                    .send(payload("ConfigChangeNotifyResponse", &thanks))
                    .unwrap();
                return body;
            }
        }
    }
}

#[tokio::test]
async fn a_published_document_is_read_by_http_and_by_grpc() {
    let center = Center::start().await;
    let client = Client::connect(&center).await;
    assert_eq!(
        center.publish("a = 1 # 你好").await.text().await.unwrap(),
        "true"
    );
    assert_eq!(center.read().await.text().await.unwrap(), "a = 1 # 你好");
    let answer = client.query().await;
    assert_eq!(answer["resultCode"], 200, "{answer}");
    assert_eq!(answer["content"], "a = 1 # 你好");
    assert!(!answer["md5"].as_str().unwrap().is_empty());
    // The client library refuses an answer without these.
    assert!(answer["contentType"].is_string() && answer["lastModified"].is_i64());
    assert!(answer["beta"].is_boolean());
}

#[tokio::test]
async fn a_document_that_is_not_there_is_error_300() {
    let center = Center::start().await;
    let client = Client::connect(&center).await;
    let answer = client.query().await;
    assert_ne!(answer["resultCode"], 200, "{answer}");
    assert_eq!(answer["errorCode"], 300, "{answer}");
    assert_eq!(center.read().await.status(), 404);
    center.publish("a = 1").await;
    center.remove().await;
    assert_eq!(client.query().await["errorCode"], 300);
}

#[tokio::test]
async fn an_empty_document_is_not_taken() {
    let center = Center::start().await;
    assert!(!center.publish("").await.status().is_success());
    assert_eq!(center.read().await.status(), 404);
}

#[tokio::test]
async fn whoever_listens_with_something_old_is_told_at_once_what_changed() {
    let center = Center::start().await;
    let client = Client::connect(&center).await;
    center.publish("a = 1").await;
    let old = client.query().await["md5"].clone();
    assert_eq!(client.listen(&old).await, [] as [Value; 0]);
    center.publish("a = 2").await;
    let changed = client.listen(&old).await;
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert_eq!(changed[0]["dataId"], center.data_id);
}

#[tokio::test]
async fn whoever_listens_is_told_of_a_change_but_not_what_it_is() {
    let center = Center::start().await;
    let mut client = Client::connect(&center).await;
    center.publish("a = 1").await;
    let md5 = client.query().await["md5"].clone();
    client.listen(&md5).await;
    center.publish("a = 2").await;
    let push = client.pushed().await;
    assert_eq!(push["dataId"], center.data_id);
    assert_eq!(push["group"], "DEFAULT_GROUP");
    // The client library refuses a push without headers.
    assert!(push["headers"].is_object(), "{push}");
    assert!(push.get("content").is_none(), "{push}");
    assert_eq!(client.query().await["content"], "a = 2");
}

#[tokio::test]
async fn whoever_listens_is_told_that_a_document_is_gone() {
    let center = Center::start().await;
    let mut client = Client::connect(&center).await;
    center.publish("a = 1").await;
    let md5 = client.query().await["md5"].clone();
    client.listen(&md5).await;
    center.remove().await;
    assert_eq!(client.pushed().await["dataId"], center.data_id);
}

#[tokio::test]
async fn a_health_check_is_answered() {
    let center = Center::start().await;
    let client = Client::connect(&center).await;
    let (kind, answer) = client.ask("HealthCheckRequest", json!({})).await;
    assert_eq!(kind, "HealthCheckResponse");
    assert_eq!(answer["resultCode"], 200);
}
