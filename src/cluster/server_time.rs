//! What the API server says its time is, read off every answer on the way.
//!
//! Given the connection of a client; given back the same connection, which tells a [`SteadyClock`] the
//! `Date` of each answer. Answers go on as they are, and one that says no time changes nothing.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::header::DATE;
use http::{HeaderMap, Request, Response};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::world::SteadyClock;

/// How HTTP writes times, which is one of the ways of mails.
static PARSER: DateTimeParser = DateTimeParser::new();

/// Puts [`Listening`] around a connection.
#[derive(Debug, Clone)]
pub struct Listen(pub Arc<SteadyClock>);

/// A connection whose answers tell a clock the time.
#[derive(Debug, Clone)]
pub struct Listening<Connection> {
    connection: Connection,
    clock: Arc<SteadyClock>,
}

impl<Connection> Layer<Connection> for Listen {
    type Service = Listening<Connection>;

    fn layer(&self, connection: Connection) -> Self::Service {
        Listening {
            connection,
            clock: Arc::clone(&self.0),
        }
    }
}

impl<Connection, Asked, Answered> Service<Request<Asked>> for Listening<Connection>
where
    Connection: Service<Request<Asked>, Response = Response<Answered>>,
    Connection::Future: Send + 'static,
{
    type Response = Response<Answered>;
    type Error = Connection::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connection.poll_ready(context)
    }

    fn call(&mut self, request: Request<Asked>) -> Self::Future {
        let sent = Instant::now();
        let clock = Arc::clone(&self.clock);
        let answer = self.connection.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            if let Some(said) = date(answer.headers()) {
                clock.heard(sent, said);
            }
            Ok(answer)
        })
    }
}

fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(DATE)?.to_str().ok()?;
    PARSER.parse_timestamp(text).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::world::{Clock as _, SystemClock};

    /// What a clock says after an answer with this `Date`.
    async fn told(date: Option<&'static str>) -> Timestamp {
        let clock = Arc::new(SteadyClock::new(Arc::new(SystemClock)));
        let server = tower::service_fn(move |_asked: Request<()>| async move {
            let mut answer = Response::new(());
            if let Some(date) = date {
                let value = HeaderValue::from_static(date);
                answer.headers_mut().insert(DATE, value);
            }
            Ok::<_, std::convert::Infallible>(answer)
        });
        let mut connection = Listen(Arc::clone(&clock)).layer(server);
        connection.call(Request::new(())).await.unwrap();
        clock.now()
    }

    #[tokio::test(start_paused = true)]
    async fn the_date_of_an_answer_is_the_time() {
        let said: Timestamp = "1994-11-06T08:49:37Z".parse().unwrap();
        let found = told(Some("Sun, 06 Nov 1994 08:49:37 GMT")).await;
        assert_eq!(found.duration_since(said).as_secs(), 1, "within the second");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_without_a_time_that_can_be_read_changes_nothing() {
        for date in [None, Some("yesterday"), Some("")] {
            let found = told(date).await;
            assert!(found > "2020-01-01T00:00:00Z".parse().unwrap(), "{date:?}");
        }
    }
}
