//! Playing a case against an API server, whichever it is.
//!
//! Given kube's client and a case; given back what was answered, as it came.

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use crate::script::{Case, Names, Step};

/// What a step got.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// Status code and body.
    One(u16, Value),
    /// Status code and events of a watch.
    Events(u16, Vec<Value>),
    /// The step asks for nothing.
    Nothing,
}

/// Plays the steps in order; `forget` is called where a step says so.
pub(crate) async fn case(
    client: &Client,
    case: &Case,
    space: &str,
    forget: impl Fn(),
) -> Vec<Answer> {
    let mut names = Names::of_space(space);
    let mut answers = Vec::new();
    let mut watches = Vec::new();
    for step in &case.steps {
        if step.forget {
            forget();
            answers.push(Answer::Nothing);
            continue;
        }
        let response = send(client, step, &names).await;
        if step.meanwhile {
            watches.push((answers.len(), response));
            answers.push(Answer::Nothing);
            continue;
        }
        let answer = if is_watch(step) {
            events(response).await
        } else {
            one(response).await
        };
        if let Answer::One(_code, body) = &answer {
            for (name, pointer) in &step.keep {
                let part = body.pointer(pointer);
                let part =
                    part.unwrap_or_else(|| panic!("{}: no {pointer} in {body}", step.request));
                names.keep(name, part.clone());
            }
        }
        answers.push(answer);
    }
    for (place, response) in watches {
        answers[place] = events(response).await;
    }
    answers
}

fn is_watch(step: &Step) -> bool {
    step.request.contains("watch=true")
}

async fn send(client: &Client, step: &Step, names: &Names) -> Response<Body> {
    let (method, target) = step.request.split_once(' ').unwrap();
    let body = names.body(step);
    let content_type = match (step.content_type.as_str(), method) {
        ("", "PATCH") | ("merge", _) => "application/merge-patch+json",
        ("json", _) => "application/json-patch+json",
        ("apply", _) => "application/apply-patch+yaml",
        ("", _) => "application/json",
        (other, _) => other,
    };
    let bytes = match body {
        None => Vec::new(),
        Some(Value::String(text)) => text.into_bytes(),
        Some(value) => value.to_string().into_bytes(),
    };
    let mut request = Request::builder()
        .method(method)
        .uri(encoded(target, names));
    if !bytes.is_empty() {
        request = request.header("content-type", content_type);
    }
    let request = request.body(Body::from(bytes)).unwrap();
    let answered = client.send(request).await;
    answered.unwrap_or_else(|error| panic!("{}: {error}", step.request))
}

/// Path and query with names filled in and values encoded.
fn encoded(target: &str, names: &Names) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut uri = names.text(path);
    for (number, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
        let (name, value) = pair.split_once('=').unwrap();
        uri.push(if number == 0 { '?' } else { '&' });
        uri.push_str(name);
        uri.push('=');
        for byte in names.text(value).bytes() {
            if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
                uri.push(char::from(byte));
            } else {
                uri.push_str(&format_args!("%{byte:02X}").to_string());
            }
        }
    }
    uri
}

async fn text_of(response: Response<Body>) -> (u16, String) {
    let code = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await.unwrap();
    (code, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn one(response: Response<Body>) -> Answer {
    let (code, text) = text_of(response).await;
    let body = serde_json::from_str(&text).unwrap_or_else(|_plain| json!({ "text": text.trim() }));
    Answer::One(code, body)
}

async fn events(response: Response<Body>) -> Answer {
    let (code, text) = text_of(response).await;
    let lines = text.lines().filter(|line| !line.is_empty());
    Answer::Events(
        code,
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}
