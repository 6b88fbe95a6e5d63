//! What an HTTP check may send: what the agent and Consul both send just so.

use super::Fault;
use crate::image::CheckSpec;

/// Headers of one check.
const HEADERS_MAX: usize = 16;
/// Bytes of a header's name, and of its value.
const NAME_MAX: usize = 64;
const VALUE_MAX: usize = 1024;
/// Bytes of a method.
const METHOD_MAX: usize = 16;
/// Headers that say how a request is sent; that is the client's to say.
const NOT_OURS: [&str; 5] = [
    "connection",
    "content-length",
    "te",
    "transfer-encoding",
    "upgrade",
];

pub(super) fn check(check: &CheckSpec) -> Result<(), Fault> {
    let CheckSpec { name, headers, .. } = check;
    if check.http.is_none() {
        let place = match (&check.method, headers.is_empty()) {
            (Some(_), _) => "method",
            (None, false) => "headers",
            (None, true) => return Ok(()),
        };
        let says = format!("check {name:?}: {place} is for http checks");
        return Err((place, says));
    }
    if let Some(method) = &check.method
        && !is_method(method)
    {
        let says = format!("check {name:?}: method {method:?} must be such as GET, HEAD or POST");
        return Err(("method", says));
    }
    if headers.len() > HEADERS_MAX {
        let says = format!("check {name:?} has more than {HEADERS_MAX} headers");
        return Err(("headers", says));
    }
    for (header, value) in headers {
        let fault = if !is_token(header) {
            format!("must have a name of at most {NAME_MAX} letters, digits, - and _")
        } else if NOT_OURS.contains(&header.to_ascii_lowercase().as_str()) {
            "says how the request is sent, which is not the image's to say".to_owned()
        } else if !is_value(value) {
            format!(
                "must have a value of 1 to {VALUE_MAX} printable ASCII characters, without space around"
            )
        } else {
            continue;
        };
        return Err((
            "headers",
            format!("check {name:?}: header {header:?} {fault}"),
        ));
    }
    Ok(())
}

fn is_method(method: &str) -> bool {
    let letters = method.bytes().all(|byte| byte.is_ascii_uppercase());
    // It makes a tunnel of the connection.
    letters && (1..=METHOD_MAX).contains(&method.len()) && method != "CONNECT"
}

fn is_token(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(plain)
}

fn is_value(value: &str) -> bool {
    (1..=VALUE_MAX).contains(&value.len())
        && value.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && value.trim() == value
}

#[cfg(test)]
mod tests {
    use crate::image::ImageManifest;

    fn read(lines: &str) -> Result<ImageManifest, String> {
        let text = format!("name = \"a\"\nversion = \"1\"\n[[check]]\nname = \"c\"\n{lines}");
        ImageManifest::parse("image.toml", &text).map_err(|error| error.to_string())
    }

    #[test]
    fn method_and_headers_are_those_of_an_http_check_that_both_sides_send() {
        let http = "http = \"/\"\nport = 1\n";
        read(&format!(
            "{http}method = \"POST\"\nheaders = {{ Authorization = \"Basic YTpi\", Host = \"a.b\" }}\n"
        ))
        .unwrap();
        let many: String = (0..17).map(|place| format!("h{place} = \"v\", ")).collect();
        for (lines, says) in [
            (
                "tcp = true\nport = 1\nmethod = \"GET\"\n".to_owned(),
                "is for http",
            ),
            (
                "exec = [\"a\"]\nheaders = { A = \"b\" }\n".to_owned(),
                "is for http",
            ),
            (
                format!("{http}method = \"get\"\n"),
                "\"get\" must be such as",
            ),
            (format!("{http}method = \"CONNECT\"\n"), "must be such as"),
            (format!("{http}method = \"\"\n"), "must be such as"),
            (
                format!("{http}headers = {{ \"a b\" = \"c\" }}\n"),
                "a name of at most",
            ),
            (
                format!("{http}headers = {{ Connection = \"close\" }}\n"),
                "how the request is sent",
            ),
            (
                format!("{http}headers = {{ A = \"b\\r\\nC: d\" }}\n"),
                "printable",
            ),
            (format!("{http}headers = {{ A = \"\" }}\n"), "printable"),
            (format!("{http}headers = {{ A = \" b\" }}\n"), "printable"),
            (
                format!("{http}headers = {{ {} }}\n", many.trim_end_matches(", ")),
                "more than 16",
            ),
        ] {
            let error = read(&lines).unwrap_err();
            assert!(error.contains(says), "{lines}: {error}");
        }
    }
}
