//! The HTTP API as the commands use it: a request, an answer as a value or as a stream of lines, and a problem
//! (RFC 9457) as an error.

use std::collections::HashMap;
use std::fmt::{self, Write as _};

use axum::body::{Body, Bytes};
use axum::http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::exit::CliError;
use super::transport::Transport;
use crate::http::ACTOR;
use crate::http::wire::problem::Problem;

/// Longest answer that is read as one value: the largest page of the API, with room to spare.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Most items of a page, as the API has it.
const PAGE_ITEMS_MAX: usize = 1_000;
/// Longest line of a stream: one event, or one piece of a command's output, with room to spare.
const LINE_BYTES_MAX: usize = 16 << 20;

/// A request to the API. Not `Debug`: its body may hold a secret.
#[derive(Clone)]
pub struct Call {
    method: Method,
    path: String,
    query: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
}

/// A whole answer, as it came.
#[derive(Debug, Clone)]
pub struct Answer {
    what: String,
    bytes: Bytes,
}

/// An answer that comes line by line.
pub struct Lines<'a> {
    transport: &'a Transport,
    body: Body,
    /// What has come and is no whole line yet.
    pending: Vec<u8>,
}

impl Call {
    /// A question.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// A command, with its body.
    #[must_use]
    pub fn post(path: impl Into<String>, body: &impl Serialize) -> Self {
        Self::new(Method::POST, path).with_body(body)
    }

    /// A command that needs no body.
    #[must_use]
    pub fn command(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    /// A change, with its body.
    #[must_use]
    pub fn patch(path: impl Into<String>, body: &impl Serialize) -> Self {
        Self::new(Method::PATCH, path).with_body(body)
    }

    fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: String::new(), headers: Vec::new(), body: None }
    }

    fn with_body(mut self, body: &impl Serialize) -> Self {
        self.body = Some(serde_json::to_vec(body).expect("a request's types always serialise"));
        self
    }

    /// With the query parameters that `query` gives a value.
    #[must_use]
    pub fn query(mut self, query: &impl Serialize) -> Self {
        let Ok(Value::Object(parameters)) = serde_json::to_value(query) else { return self };
        for (name, value) in parameters {
            let text = match value {
                Value::Null => continue,
                Value::String(text) => text,
                other => other.to_string(),
            };
            self.query.push(if self.query.is_empty() { '?' } else { '&' });
            self.query.push_str(&name);
            self.query.push('=');
            push_encoded(&mut self.query, &text);
        }
        self
    }

    /// With a header, where there is a value.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: Option<impl fmt::Display>) -> Self {
        self.headers.extend(value.map(|value| (name, value.to_string())));
        self
    }

    fn request(&self) -> Result<Request<Body>, CliError> {
        let mut request = Request::builder().method(&self.method).uri(format!("{}{}", self.path, self.query));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        request = request.header(ACTOR, format!("user:uid-{}", rustix::process::getuid().as_raw()));
        if self.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request
            .body(self.body.clone().map_or_else(Body::empty, Body::from))
            .map_err(|error| CliError::Usage(format!("{self} cannot be sent ({error}).")))
    }

    /// Sends it, and reads the whole answer.
    pub async fn send(&self, transport: &Transport) -> Result<Answer, CliError> {
        let response = transport.send(self.request()?).await?;
        let (status, body) = (response.status(), response.into_body());
        let bytes = whole(transport, body).await?;
        if status.is_success() { Ok(Answer { what: self.to_string(), bytes }) } else { Err(problem(status, &bytes)) }
    }

    /// Sends it, and reads the answer line by line as it comes.
    pub async fn stream<'a>(&self, transport: &'a Transport) -> Result<Lines<'a>, CliError> {
        let response: Response<Body> = transport.send(self.request()?).await?;
        if response.status().is_success() {
            return Ok(Lines { transport, body: response.into_body(), pending: Vec::new() });
        }
        let status = response.status();
        Err(problem(status, &whole(transport, response.into_body()).await?))
    }
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.method, self.path)
    }
}

impl Answer {
    /// As a value.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, CliError> {
        serde_json::from_slice(&self.bytes).map_err(|error| CliError::unreadable(&self.what, error))
    }

    /// The list under a key, each item as it came.
    pub fn member(&self, key: &str) -> Result<Vec<Box<RawValue>>, CliError> {
        let mut members: HashMap<String, Box<RawValue>> = self.parse()?;
        let list = members.remove(key).ok_or_else(|| CliError::unreadable(&self.what, format!("no \"{key}\"")))?;
        read(&self.what, &list)
    }

    /// As the text that it is.
    pub fn text(&self) -> Result<&str, CliError> {
        std::str::from_utf8(&self.bytes).map(str::trim_end).map_err(|error| CliError::unreadable(&self.what, error))
    }
}

impl Lines<'_> {
    /// The next line, without its end; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<String>, CliError> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.pending[searched..].iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.pending.drain(..=searched + end).collect();
                line.pop();
                return text(line).map(Some);
            }
            searched = self.pending.len();
            if searched > LINE_BYTES_MAX {
                return Err(CliError::unreadable("a stream", format!("a line is longer than {LINE_BYTES_MAX} bytes")));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.pending.extend(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Err(self.transport.lost(&error)),
                None if self.pending.is_empty() => return Ok(None),
                None => return text(std::mem::take(&mut self.pending)).map(Some),
            }
        }
    }
}

fn problem(status: StatusCode, bytes: &[u8]) -> CliError {
    match serde_json::from_slice::<Problem>(bytes) {
        Ok(problem) => CliError::Problem(Box::new(problem)),
        Err(_) => CliError::Other(format!("The ledger answered with status {status} and no reason.")),
    }
}

async fn whole(transport: &Transport, body: Body) -> Result<Bytes, CliError> {
    match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(transport.lost(error.as_ref())),
    }
}

fn text(line: Vec<u8>) -> Result<String, CliError> {
    String::from_utf8(line).map_err(|error| CliError::unreadable("a stream", error))
}

/// Where a list goes on.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cursor {
    next_cursor: Option<String>,
}

/// The items of a list, page by page, until there are no more or `limit` are there.
pub async fn items(
    transport: &Transport,
    list: &Call,
    key: &str,
    limit: usize,
) -> Result<Vec<Box<RawValue>>, CliError> {
    let mut items: Vec<Box<RawValue>> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let wanted = (limit - items.len()).min(PAGE_ITEMS_MAX);
        let page = list.clone().query(&serde_json::json!({ "limit": wanted, "cursor": cursor }));
        let answer = page.send(transport).await?;
        items.extend(answer.member(key)?);
        cursor = answer.parse::<Cursor>()?.next_cursor;
        if cursor.is_none() || items.len() >= limit {
            return Ok(items);
        }
    }
}

/// An item of a list as a value.
pub fn read<T: DeserializeOwned>(what: &str, raw: &RawValue) -> Result<T, CliError> {
    serde_json::from_str(raw.get()).map_err(|error| CliError::unreadable(what, error))
}

/// A word as one segment of a path.
#[must_use]
pub fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    push_encoded(&mut encoded, text);
    encoded
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn push_encoded(to: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            to.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            let _ = write!(to, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn query_values_are_encoded() {
        let call = Call::get("/v1/x").query(&json!({ "a": "b c&d=é", "none": null, "n": 5, "on": true }));
        assert_eq!(call.query, "?a=b%20c%26d%3D%C3%A9&n=5&on=true");
    }

    #[test]
    fn an_answer_that_is_no_problem_still_makes_a_sentence() {
        let error = problem(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(error.to_string(), "The ledger answered with status 502 Bad Gateway and no reason.");
    }
}
