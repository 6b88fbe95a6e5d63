//! One request and its answer, as bytes and headers.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::{Error, Reason, classify},
    query::Consistency,
};

/// What is to be asked.
#[derive(Debug)]
pub(crate) struct Request {
    /// For the error: "could not …".
    pub(crate) tried: String,
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) body: Bytes,
    /// Longer than the client's own limit, for requests that wait.
    pub(crate) limit: Option<Duration>,
}

impl Request {
    pub(crate) fn get(tried: impl Into<String>, path: &str) -> Self {
        Self::new(Method::GET, tried.into(), path)
    }

    pub(crate) fn put(tried: impl Into<String>, path: &str) -> Self {
        Self::new(Method::PUT, tried.into(), path)
    }

    pub(crate) fn delete(tried: impl Into<String>, path: &str) -> Self {
        Self::new(Method::DELETE, tried.into(), path)
    }

    fn new(method: Method, tried: String, path: &str) -> Self {
        Self {
            tried,
            method,
            target: path.to_owned(),
            body: Bytes::new(),
            limit: None,
        }
    }

    /// Adds one segment to the path. Comes before any parameter.
    pub(crate) fn segment(mut self, name: &str) -> Self {
        self.target.push('/');
        encode(&mut self.target, name, |_| false);
        self
    }

    /// Adds a KV key to the path. Its slashes are the path's own.
    pub(crate) fn path(mut self, key: &str) -> Self {
        self.target.push('/');
        encode(&mut self.target, key, |byte| byte == b'/');
        self
    }

    /// Adds a parameter without a value.
    pub(crate) fn flag(mut self, name: &str) -> Self {
        self.target
            .push(if self.target.contains('?') { '&' } else { '?' });
        encode(&mut self.target, name, |_| false);
        self
    }

    /// Adds a parameter.
    pub(crate) fn parameter(self, name: &str, value: &str) -> Self {
        let mut with = self.flag(name);
        with.target.push('=');
        encode(&mut with.target, value, |_| false);
        with
    }

    pub(crate) fn consistency(self, consistency: Consistency) -> Self {
        match consistency {
            Consistency::Default => self,
            Consistency::Consistent => self.flag("consistent"),
            Consistency::Stale => self.flag("stale"),
        }
    }

    pub(crate) fn json(mut self, body: &impl Serialize) -> Result<Self, Error> {
        match serde_json::to_vec(body) {
            Ok(bytes) => self.body = bytes.into(),
            Err(error) => return Err(Error::new(self.tried, Reason::Answer(Box::new(error)))),
        }
        Ok(self)
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn encode(target: &mut String, text: &str, also: impl Fn(u8) -> bool) {
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        if plain || also(byte) {
            target.push(char::from(byte));
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            target.push('%');
            target.push(char::from(HEX[usize::from(byte >> 4)]));
            target.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// What came back, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) tried: String,
    pub(crate) status: StatusCode,
    /// `X-Consul-Index`.
    pub(crate) index: Option<u64>,
    /// `X-Consul-KnownLeader`; absent where nothing was read from a server.
    pub(crate) known_leader: Option<bool>,
    /// `X-Consul-LastContact`: how long ago the server that answered heard of its leader.
    pub(crate) last_contact: Option<Duration>,
    /// `X-Consul-Results-Filtered-By-ACLs`. Consul never says it to a request without a token.
    pub(crate) filtered: bool,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn new(tried: String, status: StatusCode, headers: &HeaderMap, body: Bytes) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            tried,
            status,
            index: text("x-consul-index").and_then(|text| text.parse().ok()),
            known_leader: text("x-consul-knownleader").map(|text| text == "true"),
            last_contact: text("x-consul-lastcontact")
                .and_then(|text| text.parse().ok())
                .map(Duration::from_millis),
            filtered: text("x-consul-results-filtered-by-acls") == Some("true"),
            body,
        }
    }

    /// Itself, if its status is a success.
    pub(crate) fn success(self) -> Result<Self, Error> {
        if self.status.is_success() {
            Ok(self)
        } else {
            let reason = classify(self.status.as_u16(), &self.body);
            Err(Error::new(self.tried, reason))
        }
    }

    /// Itself, or nothing if it is a 404.
    pub(crate) fn found(self) -> Result<Option<Self>, Error> {
        if self.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.success().map(Some)
    }

    /// Itself, if nothing was left out of it.
    pub(crate) fn whole(self, needs: &'static str) -> Result<Self, Error> {
        if self.filtered {
            return Err(Error::new(self.tried, Reason::Filtered { needs }));
        }
        Ok(self)
    }

    /// Its body. `null` is what Go makes of an empty list, and is read as the type's default.
    pub(crate) fn json<T: DeserializeOwned + Default>(&self) -> Result<T, Error> {
        match serde_json::from_slice::<Option<T>>(&self.body) {
            Ok(value) => Ok(value.unwrap_or_default()),
            Err(error) => Err(self.misunderstood(error)),
        }
    }

    /// Its body, where there must be one.
    pub(crate) fn exactly<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| self.misunderstood(error))
    }

    fn misunderstood(&self, error: serde_json::Error) -> Error {
        Error::new(self.tried.clone(), Reason::Answer(Box::new(error)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_says_exactly_what_was_given() {
        let request = Request::get("test", "/v1/health/service")
            .segment("we b/ü")
            .consistency(Consistency::Consistent)
            .parameter("filter", "Meta.x == \"1\" & 2")
            .flag("raw");
        assert_eq!(
            request.target,
            "/v1/health/service/we%20b%2F%C3%BC?consistent&filter=Meta.x%20%3D%3D%20%221%22%20%26%202&raw"
        );
        let request = Request::delete("test", "/v1/kv").path("a/b?recurse");
        assert_eq!(request.target, "/v1/kv/a/b%3Frecurse");
    }

    #[test]
    fn an_empty_list_is_one_however_go_writes_it() {
        for body in ["null", "[]"] {
            let answer = Answer::new(
                String::new(),
                StatusCode::OK,
                &HeaderMap::new(),
                body.into(),
            );
            assert!(answer.json::<Vec<String>>().unwrap().is_empty());
        }
    }

    proptest! {
        #[test]
        fn nothing_given_can_add_a_parameter_or_a_segment(text in "\\PC{0,60}") {
            let request = Request::get("test", "/v1/x").segment(&text).parameter("a", &text);
            prop_assert_eq!(request.target.matches('/').count(), 3);
            prop_assert_eq!(request.target.matches(['?', '&', '#', ' ']).count(), 1);
            prop_assert!(request.target.parse::<http::Uri>().is_ok());
        }
    }
}
