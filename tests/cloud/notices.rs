//! The queue of EC2's announcements.

use serde_json::json;
use tonnage::cloud::ec2::Queue;
use tonnage::cloud::notices::{NoticeSource, read};
use tonnage::cloud::settings::CloudSettings;
use tonnage::model::launch::ErrorClass;
use tonnage::model::notice::NoticeKind;

use crate::scene::facts;

async fn sqs() -> aws_sdk_sqs::Client {
    let config = aws_config::load_defaults(aws_config::BehaviorVersion::v2026_01_12()).await;
    aws_sdk_sqs::Client::new(&config)
}

async fn queue(name: &str) -> Queue {
    Queue::connect(&CloudSettings::new(facts("queue")), name.to_owned()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn announcements_arrive_until_they_are_acknowledged() {
    let sqs = sqs().await;
    let made = sqs.create_queue().queue_name("tonnage-notices");
    let url = made.send().await.unwrap().queue_url.unwrap();
    let warning = json!({
        "version": "0", "id": "e", "source": "aws.ec2", "account": "123456789012", "region": "us-east-1",
        "detail-type": "EC2 Spot Instance Interruption Warning", "time": "2026-11-28T10:00:00Z",
        "detail": {"instance-id": "i-0123456789abcdef0", "instance-action": "terminate"},
    });
    for body in [warning.to_string(), "no event".to_owned()] {
        let message = sqs.send_message().queue_url(&url).message_body(body);
        message.send().await.unwrap();
    }
    let queue = queue("tonnage-notices").await;
    let mut bodies = Vec::new();
    while bodies.len() < 2 {
        let received = queue.receive().await.unwrap();
        assert!(!received.is_empty(), "only {bodies:?}");
        let receipts: Vec<String> = received.iter().map(|one| one.receipt.clone()).collect();
        bodies.extend(received.into_iter().map(|one| one.body));
        queue.acknowledge(&receipts).await.unwrap();
    }
    let addressee = queue.addressee();
    assert_eq!(addressee.account.as_deref(), Some("123456789012"));
    let notices: Vec<_> = bodies
        .iter()
        .filter_map(|body| read(body, &addressee).ok())
        .flatten()
        .collect();
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].kind, NoticeKind::SpotInterruption);
    let attributes = sqs
        .get_queue_attributes()
        .queue_url(&url)
        .attribute_names("All".into());
    let attributes = attributes.send().await.unwrap().attributes.unwrap();
    for key in [
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesNotVisible",
    ] {
        assert_eq!(attributes[&key.into()], "0", "{key}");
    }
    sqs.delete_queue().queue_url(&url).send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_not_there_is_named() {
    let error = queue("tonnage-missing").await.receive().await.unwrap_err();
    assert_eq!(error.operation, "GetQueueUrl");
    assert_eq!(error.class, ErrorClass::NotFound, "{error}");
}
