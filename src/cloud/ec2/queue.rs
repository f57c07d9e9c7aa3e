//! The SQS queue that EventBridge sends EC2's announcements to.
//!
//! Given its name; given back its messages. Its address says whose account it is in, and messages of
//! another account are not ours. Nothing is read here but envelopes of SQS.

use aws_config::timeout::TimeoutConfig;
use aws_config::{ConfigLoader, SdkConfig};
use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::OnceCell;

use super::call::failed;
use crate::cloud::notices::{Addressee, Delivery, NoticeSource};
use crate::cloud::settings::CloudSettings;
use crate::cloud::{CloudError, errors};

/// How long a call waits for messages, seconds: the longest that SQS allows, and so the fewest calls.
const WAIT: i32 = 20;
/// How long a message that was handed out stays hidden, seconds: acting on it takes less.
const HIDDEN: i32 = 30;
/// The most messages of one call; SQS allows no more.
const MOST: i32 = 10;
/// How long a call may take: what it waits for messages, and some.
const ATTEMPT: std::time::Duration = std::time::Duration::from_secs(30);

/// A queue.
#[derive(Debug)]
pub struct Queue {
    sqs: aws_sdk_sqs::Client,
    name: String,
    region: Option<String>,
    url: OnceCell<String>,
}

impl Queue {
    /// Connects as the adapter for EC2 does. The queue is first looked for, and first missed, by the
    /// first call.
    pub async fn connect(settings: &CloudSettings, name: String) -> Self {
        Self::connect_with(settings, name, |loader| loader).await
    }

    /// As [`Self::connect`], with something changed of how the SDK is set up: another HTTP client, other
    /// credentials.
    pub async fn connect_with(
        settings: &CloudSettings,
        name: String,
        change: impl FnOnce(ConfigLoader) -> ConfigLoader,
    ) -> Self {
        let config = change(super::loader(settings)).load().await;
        Self::new(&config, name)
    }

    fn new(config: &SdkConfig, name: String) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(std::time::Duration::from_secs(5))
            .operation_attempt_timeout(ATTEMPT)
            .build();
        let sqs = aws_sdk_sqs::config::Builder::from(config)
            .timeout_config(timeouts)
            .build();
        Self {
            sqs: aws_sdk_sqs::Client::from_conf(sqs),
            name,
            region: config.region().map(ToString::to_string),
            url: OnceCell::new(),
        }
    }

    async fn url(&self) -> Result<&str, CloudError> {
        let ask = || async {
            let answer = self.sqs.get_queue_url().queue_name(&self.name).send().await;
            let answer = answer.map_err(|error| failed("GetQueueUrl", &error))?;
            answer.queue_url.ok_or_else(|| {
                let message = format!("the answer names no address of queue {}", self.name);
                errors::refused("GetQueueUrl", message)
            })
        };
        self.url.get_or_try_init(ask).await.map(String::as_str)
    }

    async fn messages(&self) -> Result<Vec<Delivery>, CloudError> {
        let answer = self
            .sqs
            .receive_message()
            .queue_url(self.url().await?)
            .max_number_of_messages(MOST)
            .visibility_timeout(HIDDEN)
            .wait_time_seconds(WAIT)
            .send()
            .await
            .map_err(|error| failed("ReceiveMessage", &error))?;
        let messages = answer.messages.unwrap_or_default().into_iter();
        Ok(messages
            .filter_map(|message| {
                Some(Delivery {
                    receipt: message.receipt_handle?,
                    body: message.body.unwrap_or_default(),
                })
            })
            .collect())
    }

    async fn delete(&self, receipts: &[String]) -> Result<(), CloudError> {
        const OPERATION: &str = "DeleteMessageBatch";
        for chunk in receipts.chunks(usize::try_from(MOST).unwrap_or(1)) {
            let entries = (0..).zip(chunk).map(|(number, receipt)| {
                let entry = DeleteMessageBatchRequestEntry::builder()
                    .id(format!("m{number}"))
                    .receipt_handle(receipt);
                entry
                    .build()
                    .map_err(|error| errors::refused(OPERATION, error.to_string()))
            });
            let answer = self
                .sqs
                .delete_message_batch()
                .queue_url(self.url().await?)
                .set_entries(Some(entries.collect::<Result<_, _>>()?))
                .send()
                .await
                .map_err(|error| failed(OPERATION, &error))?;
            // They come again and are acted on again, which changes nothing.
            for left in &answer.failed {
                tracing::debug!(code = left.code(), "a message stays in the queue");
            }
        }
        Ok(())
    }
}

/// The account in a queue's address, `https://HOST/ACCOUNT/NAME`.
fn account_of(url: &str) -> Option<String> {
    let account = url.rsplit('/').nth(1)?;
    let digits = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| account.to_owned())
}

impl NoticeSource for Queue {
    fn receive(&self) -> BoxFuture<'_, Result<Vec<Delivery>, CloudError>> {
        self.messages().boxed()
    }

    fn acknowledge<'call>(
        &'call self,
        receipts: &'call [String],
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        self.delete(receipts).boxed()
    }

    fn addressee(&self) -> Addressee {
        Addressee {
            account: self.url.get().and_then(|url| account_of(url)),
            region: self.region.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::account_of;

    #[test]
    fn the_account_is_read_from_the_address() {
        let url = "https://sqs.us-east-1.amazonaws.com/123456789012/tonnage";
        assert_eq!(account_of(url).as_deref(), Some("123456789012"));
        assert_eq!(account_of("http://127.0.0.1:5000/queue"), None);
    }
}
