//! `tonnage sim ec2`: the simulated EC2 on a loopback port, in real time.
//!
//! Given what the region is like; given back its address on standard output, and answers to whoever
//! speaks EC2's protocol, until SIGTERM or SIGINT. Nothing else of the embedded world runs: machines
//! start, cost and go, and no node joins a cluster.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::cli::simulate::Market;
use crate::cloud::facts::BUILT_IN_REGION;
use crate::sim::ec2::Ec2;
use crate::sim::ec2::account::ACCOUNT;
use crate::sim::ec2::market::Markets;
use crate::sim::ec2::wire::Endpoint;
use crate::sim::ec2::wire::policy::{Names, Policy, PolicyError};
use crate::sim::ec2::wire::server::{self, ServeError};
use crate::sim::history::{Detail, History};
use crate::world::{Clock, SystemClock, World};

/// The word for the policy in the documentation.
const SHIPPED: &str = "shipped";

/// Serve the simulated EC2 on a loopback port, for the AWS SDK, the AWS CLI and tests.
///
/// It speaks EC2's query protocol for the operations that the controller calls, over the region of the
/// embedded world: its types and prices, markets, shortages, client tokens and token buckets. The
/// address is printed on standard output. Signatures are not checked, any credentials will do:
///
///   tonnage sim ec2 --listen 127.0.0.1:4599 --market usual
///   AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x \
///     aws ec2 describe-instances --region us-east-1 --endpoint-url ADDRESS
///
/// docs/simulated-ec2.md says what is served and what is not.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// Loopback address to serve on; port 0 is any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The cluster: subnets, security group and images are tagged tonnage.dev/discovery=CLUSTER, and it
    /// is what the shipped policy is for
    #[arg(long, value_name = "CLUSTER", default_value = "demo")]
    cluster: String,
    /// What callers may do: a file with an IAM policy, or `shipped` for the one in docs/iam.md. Without
    /// it they may do everything
    #[arg(long, value_name = "FILE|shipped")]
    policy: Option<PathBuf>,
    /// The role that the shipped policy lets the controller give to machines; every instance profile has
    /// a role of its own name
    #[arg(long, value_name = "ROLE", default_value = "node")]
    node_role: String,
    /// What EC2 is like
    #[arg(long, value_enum, default_value_t = Market::Calm)]
    market: Market,
    /// Of 1000 offerings, how many have no capacity, whatever the market is like
    #[arg(long, value_name = "PER-MILLE", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000))]
    storm: u64,
    /// Seconds for which a new instance is not shown to anybody who asks
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    show_late: u64,
    /// Everything that is left to chance follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Why it is not served.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum SimError {
    /// The runtime.
    #[error("the runtime does not start")]
    Runtime(#[source] io::Error),
    /// Standard output is gone.
    #[error("the address cannot be printed")]
    Print(#[source] io::Error),
    /// The policy's file.
    #[error("--policy {path}: the file cannot be read", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The policy.
    #[error("--policy {path}: {problem}", path = .path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: PolicyError,
    },
    /// The port.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Serves until it is told to stop.
pub(super) fn run(args: &Args) -> Result<(), SimError> {
    let policy = args
        .policy
        .as_deref()
        .map(|path| policy(path, args))
        .transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(SimError::Runtime)?;
    runtime.block_on(serve(args, policy))
}

fn policy(path: &Path, args: &Args) -> Result<Policy, SimError> {
    let read = if path == Path::new(SHIPPED) {
        Policy::shipped(&Names {
            cluster: &args.cluster,
            region: BUILT_IN_REGION,
            account: ACCOUNT,
            node_role: &args.node_role,
        })
    } else {
        let text = std::fs::read_to_string(path).map_err(|source| SimError::File {
            path: path.to_owned(),
            source,
        })?;
        Policy::parse(&text)
    };
    read.map_err(|problem| SimError::Policy {
        path: path.to_owned(),
        problem,
    })
}

async fn serve(args: &Args, policy: Option<Policy>) -> Result<(), SimError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let world = World::new(Arc::clone(&clock), args.seed);
    let history = History::new(Arc::clone(&clock), Detail::Events);
    let markets = Markets::of_everything(args.seed, args.market.weather());
    let ec2 = Ec2::new(clock, history, |purpose| world.random(purpose), markets);
    ec2.storm(args.storm);
    ec2.show_late(Duration::from_secs(args.show_late));
    let mut endpoint = Endpoint::new(&ec2, "caller", &args.cluster);
    if let Some(policy) = policy {
        endpoint = endpoint.with_policy(policy);
    }
    let listener = server::listen(args.listen).await?;
    let address = listener.local_addr().map_err(SimError::Print)?;
    crate::cli::write_stdout(&format!("http://{address}\n")).map_err(SimError::Print)?;
    world.spawn(pass_time(ec2, world.stop().clone()));
    let outcome = server::serve(listener, endpoint, crate::cli::stop::wait_for_signal()).await;
    world.shut_down().await;
    Ok(outcome?)
}

/// Lets the region do each minute what it does by itself.
async fn pass_time(ec2: Ec2, stop: tokio_util::sync::CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_mins(1)) => ec2.pass_minute(),
        }
    }
}
