//! The controller binary as a process: started with the ServiceAccount's token, killed, read.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cluster::{SYSTEM_NAMESPACE, run};
use crate::waiting::eventually;
use crate::world::variable;

/// How the controller reaches the Kubernetes API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// Straight to the API server.
    Direct,
    /// Through the fault proxy.
    Faults,
}

/// Short, so that a test that starts a controller again does not wait for long; it still leaves a
/// renewal time to spare on a busy machine.
const SHORT_LEASE: [&str; 6] = [
    "--lease-duration",
    "3s",
    "--lease-renew-deadline",
    "2s",
    "--lease-retry-period",
    "500ms",
];

/// A running controller; dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Controller {
    process: Child,
    pub(crate) log: PathBuf,
    pub(crate) metrics: String,
}

static STARTED: AtomicU32 = AtomicU32::new(0);

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A kubeconfig with nothing but the ServiceAccount's token, so that a missing verb fails the test.
fn kubeconfig_of_service_account(route: Route) -> PathBuf {
    let token = run(
        "kubectl",
        &["create", "token", "tonnage", "-n", SYSTEM_NAMESPACE],
    );
    let source = match route {
        Route::Direct => variable("KUBECONFIG"),
        Route::Faults => variable("KUBECONFIG_FAULTS"),
    };
    let text = fs::read_to_string(source).unwrap();
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("token:") {
            let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
            lines.push(format!("{indent}token: {}", token.trim()));
        } else {
            lines.push(line.to_owned());
        }
    }
    assert!(
        lines.iter().any(|line| line.contains(token.trim())),
        "the kubeconfig has no token"
    );
    let path = PathBuf::from(variable("TONNAGE_STATE")).join(format!(
        "service-account-{}.kubeconfig",
        if route == Route::Direct {
            "direct"
        } else {
            "faults"
        }
    ));
    fs::write(&path, lines.join("\n")).unwrap();
    path
}

impl Controller {
    /// Starts the binary with further arguments and waits until it is ready.
    pub(crate) async fn start(route: Route, arguments: &[&str]) -> Self {
        Self::spawn(route, arguments).ready().await
    }

    /// Starts the binary with the lease as it is by default and waits until it is ready.
    pub(crate) async fn start_with_default_lease(route: Route) -> Self {
        Self::launch(route, &[]).ready().await
    }

    async fn ready(self) -> Self {
        let mut controller = self;
        let address = controller.metrics.clone();
        let log = controller.log.clone();
        let process = std::cell::RefCell::new(&mut controller.process);
        eventually("the controller is ready", 60, async || {
            if let Some(status) = process.borrow_mut().try_wait().unwrap() {
                let said = fs::read_to_string(&log).unwrap_or_default();
                panic!("the controller ended with {status}:\n{said}");
            }
            http_get(&address, "/readyz").await.map_err(|error| {
                let tail = fs::read_to_string(&log).unwrap_or_default();
                let lines: Vec<&str> = tail.lines().rev().take(15).collect();
                format!(
                    "{error}\n{}",
                    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
                )
            })
        })
        .await;
        controller
    }

    /// Starts the binary and returns at once.
    pub(crate) fn spawn(route: Route, arguments: &[&str]) -> Self {
        Self::launch(route, &[&SHORT_LEASE, arguments].concat())
    }

    fn launch(route: Route, arguments: &[&str]) -> Self {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let state = PathBuf::from(variable("TONNAGE_STATE"));
        let log = state.join(format!("controller-{}-{number}.log", std::process::id()));
        let file = fs::File::create(&log).unwrap();
        let metrics = format!("127.0.0.1:{}", free_port());
        let process = Command::new(variable("TONNAGE_BIN"))
            .arg("controller")
            .arg("--kubeconfig")
            .arg(kubeconfig_of_service_account(route))
            .args(["--metrics-addr", &metrics, "--log-format", "text"])
            .args(["--cluster-name", &variable("TONNAGE_CLUSTER_NAME")])
            .args(["--lease-namespace", SYSTEM_NAMESPACE])
            .args(["--learned-namespace", SYSTEM_NAMESPACE])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("TONNAGE_BIN does not start: {error}"));
        Self {
            process,
            log,
            metrics,
        }
    }

    /// SIGKILL, as a node failure would.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        let _status = self.process.wait().unwrap();
    }

    /// SIGTERM, as a rollout would.
    pub(crate) fn terminate(&self) {
        drop(run("kill", &["-TERM", &self.process.id().to_string()]));
    }

    /// SIGTERM; returns the exit code, which must come within ten seconds.
    pub(crate) async fn stop(mut self) -> Option<i32> {
        self.terminate();
        let log = self.log.display().to_string();
        let process = std::cell::RefCell::new(&mut self.process);
        let status = eventually("the controller stops after SIGTERM", 10, async || {
            let status = process.borrow_mut().try_wait().unwrap();
            status.ok_or_else(|| format!("log: {log}"))
        })
        .await;
        status.code()
    }

    /// Everything it has logged.
    pub(crate) fn logged(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Whether it says that it acts.
    pub(crate) async fn leads(&self) -> bool {
        let metrics = self.metrics_text().await;
        metrics.lines().any(|line| line == "tonnage_leading 1")
    }

    /// The text of /metrics.
    pub(crate) async fn metrics_text(&self) -> String {
        http_get(&self.metrics, "/metrics").await.unwrap()
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The body of a 200 answer.
pub(crate) async fn http_get(address: &str, path: &str) -> Result<String, String> {
    let url = format!("http://{address}")
        .parse::<http::Uri>()
        .map_err(|error| error.to_string())?;
    let client =
        kube::Client::try_from(kube::Config::new(url)).map_err(|error| error.to_string())?;
    let request = http::Request::get(path)
        .body(Vec::new())
        .map_err(|error| error.to_string())?;
    client
        .request_text(request)
        .await
        .map_err(|error| error.to_string())
}
