//! `tonnage sim ec2` as a process: it says where it serves, answers, and ends when it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::waiting::eventually;

/// A served region.
struct Served {
    process: Child,
    address: String,
}

impl Served {
    fn start(flags: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_tonnage"))
            .args(["sim", "ec2", "--listen", "127.0.0.1:0"])
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").unwrap().to_owned();
        assert!(address.starts_with("127.0.0.1:"), "{address}");
        Self { process, address }
    }

    /// Sends a form; gives back the whole answer.
    fn ask(&self, form: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{form}",
            self.address,
            form.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[tokio::test]
async fn the_region_is_served_until_sigterm() {
    let mut served = Served::start(&["--market", "usual"]);
    let answer = served.ask("Action=DescribeInstances&Version=2016-11-15");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("<DescribeInstancesResponse"), "{answer}");
    assert!(answer.contains("<reservationSet"), "{answer}");
    let answer = served.ask("Action=DescribeNothing");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("<Code>InvalidAction</Code>"), "{answer}");
    let id = served.process.id().to_string();
    assert!(Command::new("kill").arg(&id).status().unwrap().success());
    let code = eventually("it ends", 30, || {
        let ended = served.process.try_wait().unwrap();
        async move { ended.ok_or_else(|| "it still runs".to_owned()) }
    })
    .await;
    assert!(code.success(), "{code}");
}

#[test]
fn its_callers_may_have_the_shipped_policy() {
    let served = Served::start(&["--policy", "shipped", "--cluster", "blue"]);
    let name = "Action=CreateLaunchTemplate&LaunchTemplateName=one";
    let answer = served.ask(name);
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(
        answer.contains("<Code>UnauthorizedOperation</Code>"),
        "{answer}"
    );
    let tag = "TagSpecification.1.ResourceType=launch-template\
               &TagSpecification.1.Tag.1.Key=tonnage.dev/cluster";
    let answer = served.ask(&format!("{name}&{tag}&TagSpecification.1.Tag.1.Value=blue"));
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[test]
fn nothing_but_loopback_is_served() {
    for (flags, complaint) in [
        (["--listen", "0.0.0.0:0"], "use 127.0.0.1:0 or [::1]:0"),
        (
            ["--policy", "no-such-file"],
            "--policy no-such-file: the file cannot be read",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_tonnage"))
            .args(["sim", "ec2"])
            .args(flags)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(complaint), "{said}");
        assert!(output.stdout.is_empty());
    }
}
