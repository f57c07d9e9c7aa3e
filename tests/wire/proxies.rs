//! Proxies: calls to AWS go through the one that the environment names.
//!
//! The environment is the process's, so each case runs this file's test again, in a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonnage::cloud::ec2::Ec2Cloud;
use tonnage::cloud::settings::CloudSettings;
use tonnage::cloud::{Cloud, InstanceQuery};
use tonnage::sim::ec2::market::Weather;
use tonnage::sim::ec2::wire;
use tonnage::sim::ec2::wire::server::{listen, serve};
use tonnage::world::{SystemClock, World};

use crate::endpoint::{Endpoint, SECRETS, in_region};
use crate::scene::settings;

/// Set in the processes that make a call: whether it is answered.
const CALLER: &str = "TONNAGE_TEST_CALL_IS_ANSWERED";
const TEST: &str = "proxies::calls_to_aws_go_through_the_proxy_of_the_environment";

/// A proxy that lets nobody through, and remembers what it was asked for.
fn closed_proxy() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&asked);
    // It ends with the process of the test.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            kept.lock().unwrap().push(line.trim().to_owned());
            let refusal =
                b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(refusal).ok();
        }
    });
    (address, asked)
}

/// A process that calls EC2 in an environment; the call must be answered, or must not.
fn call(environment: &[(&str, &str)], answered: bool) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", TEST])
        .env(CALLER, answered.to_string());
    for name in ["ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    let [key, secret, token] = SECRETS;
    command
        .env("AWS_ACCESS_KEY_ID", key)
        .env("AWS_SECRET_ACCESS_KEY", secret)
        .env("AWS_SESSION_TOKEN", token);
    command.envs(environment.iter().copied());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{environment:?}: {said}");
    assert!(said.contains("1 passed"), "{said}");
}

/// What such a process does.
async fn one_call(answered: &str) {
    let world = World::new(Arc::new(SystemClock), 1);
    let settings = CloudSettings {
        attempt_timeout: Duration::from_secs(10),
        ..in_region(settings("proxied"))
    };
    let cloud = Ec2Cloud::connect(settings, world.clone()).await.unwrap();
    let found = cloud.instances(&InstanceQuery::All).await;
    assert_eq!(found.is_ok().to_string(), answered, "{found:?}");
    world.shut_down().await;
}

#[tokio::test]
async fn calls_to_aws_go_through_the_proxy_of_the_environment() {
    if let Ok(answered) = std::env::var(CALLER) {
        return one_call(&answered).await;
    }
    let region = Endpoint::at_the_time_of(Arc::new(SystemClock), Weather::CALM);
    let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let endpoint = wire::Endpoint::new(&region.ec2, "adapter", "demo");
    let serving = tokio::spawn(serve(listener, endpoint, stop.clone().cancelled_owned()));
    let calls = tokio::task::spawn_blocking(move || {
        let (closed, asked) = closed_proxy();
        // EC2 itself, by its own name and with TLS: a tunnel is asked for.
        call(&[("HTTPS_PROXY", &closed)], false);
        let tunnels = std::mem::take(&mut *asked.lock().unwrap());
        let tunnel = "CONNECT ec2.us-east-1.amazonaws.com:443 HTTP/1.1";
        assert!(tunnels.iter().any(|line| line == tunnel), "{tunnels:?}");
        // A name that only the proxy can resolve: here the proxy is the region itself.
        let nowhere = "http://ec2.simulated.invalid";
        call(
            &[("HTTP_PROXY", &address), ("AWS_ENDPOINT_URL", nowhere)],
            true,
        );
        // What needs no proxy is asked directly.
        let direct = [
            ("HTTP_PROXY", closed.as_str()),
            ("NO_PROXY", "127.0.0.1"),
            ("AWS_ENDPOINT_URL", &address),
        ];
        call(&direct, true);
        assert_eq!(*asked.lock().unwrap(), Vec::<String>::new());
    });
    calls.await.unwrap();
    stop.cancel();
    serving.await.unwrap().unwrap();
}
