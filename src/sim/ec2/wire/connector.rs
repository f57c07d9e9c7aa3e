//! The region as an HTTP client of the AWS SDK, in the same process: requests go to an endpoint without
//! a network, and so in virtual time.

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;

use super::Endpoint;
use crate::cloud::CloudError;
use crate::cloud::ec2::{Ec2Cloud, ProvideCredentials, Queue};
use crate::cloud::facts::BUILT_IN_REGION;
use crate::cloud::settings::CloudSettings;
use crate::world::World;

/// The adapter for the real EC2, with the SDK, at an endpoint in this process. It refreshes what it knows in the world
/// that it is given.
///
/// # Errors
/// As [`Ec2Cloud::connect`].
pub async fn connect(
    endpoint: Endpoint,
    credentials: impl ProvideCredentials + 'static,
    settings: CloudSettings,
    world: &World,
) -> Result<Ec2Cloud, CloudError> {
    Ec2Cloud::connect_with(in_region(settings), world.clone(), |loader| {
        let client = client(Connector::new(endpoint));
        loader.http_client(client).credentials_provider(credentials)
    })
    .await
}

/// The queue of a name at an endpoint in this process.
pub async fn queue(
    endpoint: Endpoint,
    credentials: impl ProvideCredentials + 'static,
    settings: CloudSettings,
    name: String,
) -> Queue {
    Queue::connect_with(&in_region(settings), name, |loader| {
        let client = client(Connector::new(endpoint));
        loader.http_client(client).credentials_provider(credentials)
    })
    .await
}

fn in_region(settings: CloudSettings) -> CloudSettings {
    let region = settings.region.or_else(|| Some(BUILT_IN_REGION.to_owned()));
    CloudSettings { region, ..settings }
}

/// What the SDK takes for its HTTP client, where every request goes one way.
pub fn client(connector: impl HttpConnector + 'static) -> SharedHttpClient {
    let connector = SharedHttpConnector::new(connector);
    http_client_fn(move |_settings, _components| connector.clone())
}

/// An endpoint for the SDK's clients.
#[derive(Debug, Clone)]
pub struct Connector(Endpoint);

impl Connector {
    /// The way to an endpoint.
    pub const fn new(endpoint: Endpoint) -> Self {
        Self(endpoint)
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let endpoint = self.0.clone();
        HttpConnectorFuture::new(async move {
            let body = request.body().bytes().unwrap_or_default().to_vec();
            let target = request.headers().get("x-amz-target").map(str::to_owned);
            let Some(answer) = endpoint.answer(target.as_deref(), &body).await else {
                // Nothing ever comes: how long that is waited for is the SDK's business.
                return std::future::pending().await;
            };
            let status = StatusCode::try_from(answer.status)
                .map_err(|error| ConnectorError::other(error.into(), None))?;
            let mut response = HttpResponse::new(status, SdkBody::from(answer.body));
            response.headers_mut().insert("content-type", answer.kind);
            Ok(response)
        })
    }
}
