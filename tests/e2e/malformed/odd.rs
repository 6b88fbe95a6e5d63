//! Images whose services have odd names, tags or meta: bytes that somebody typed, or that a template left
//! there. Consul takes some of them and clients do not, so all are refused where the image is recorded.

use std::fs;

use super::{IMAGE, check};
use crate::support::Environment;

/// Lines of a service, and what the answer must hold. Places are those of keys.
type Rows = Vec<(String, &'static [&'static str])>;

fn with(line: &str) -> String {
    format!("name = \"web\"\n{line}")
}

fn long(count: usize) -> String {
    "x".repeat(count)
}

/// Names that DNS cannot say, or that are taken.
fn names() -> Rows {
    let named = |name: &str| format!("name = \"{name}\"");
    vec![
        (
            named("web_1"),
            &[
                "image.toml:5:8",
                "service name \"web_1\"",
                "'_' at position 4",
            ],
        ),
        (named("Web"), &["may hold only a-z", "'W' at position 1"]),
        (
            named("1web"),
            &["beginning with a letter", "'1' at position 1"],
        ),
        (named("web-"), &["'-' at position 4"]),
        (named("web.api"), &["'.' at position 4"]),
        (named("wéb"), &["'é' at position 2"]),
        (named("web\\n"), &["'\\n' at position 4"]),
        (named("web\\u0000"), &["'\\0' at position 4"]),
        (named(""), &["a service name must not be empty"]),
        (
            named(&long(64)),
            &["has 64 characters, at most 55 are allowed"],
        ),
        (
            named("web-standby"),
            &[
                "image.toml:4:3",
                "names that end in -standby are taken by standby instances",
            ],
        ),
    ]
}

fn tags() -> Rows {
    let tag = |tag: &str| with(&format!("tags = [\"{tag}\"]"));
    let proxied = |tag: &str| with(&format!("tags_active = [\"{tag}\"]"));
    vec![
        // Tags, by which DNS finds.
        (
            tag("a\\u0000b"),
            &[
                "image.toml:6:1",
                "tag \"a\\0b\" of service web cannot be a DNS label",
            ],
        ),
        (
            tag("a\\nb"),
            &["tag \"a\\nb\" of service web cannot be a DNS label"],
        ),
        (
            tag("grün"),
            &["tag \"grün\" of service web cannot be a DNS label"],
        ),
        (tag(&long(64)), &["cannot be a DNS label"]),
        // Tags for proxies.
        (
            proxied("a\\u0000b"),
            &["image.toml:6:1", "holds a control character at position 2"],
        ),
        (
            proxied("route-/\\n"),
            &["holds a control character at position 8"],
        ),
        (
            proxied("a\\u007f"),
            &["holds a control character at position 2"],
        ),
        (proxied(" a"), &["begins or ends with a space"]),
        (proxied(""), &["is empty"]),
        (
            proxied(&long(256)),
            &["has 256 bytes, and at most 255 are allowed"],
        ),
        // As they are, and not in TOML's way.
        (tag("a\0b"), &["image.toml:6:"]),
        (tag("a\nb"), &["image.toml:7:1"]),
    ]
}

fn meta() -> Rows {
    let meta = |key: &str, value: &str| with(&format!("meta = {{ \"{key}\" = \"{value}\" }}"));
    vec![
        (
            meta("a\\u0000", "b"),
            &[
                "image.toml:6:1",
                "service web: the key \"a\\0\"",
                "1 to 128 of a-z, A-Z, 0-9, _ and -",
            ],
        ),
        (
            meta("a\\nb", "c"),
            &["the key \"a\\nb\" of its meta must be"],
        ),
        (
            meta("schlüssel", "b"),
            &["the key \"schlüssel\" of its meta must be"],
        ),
        (meta(&long(129), "b"), &["of its meta must be 1 to 128"]),
        (
            meta("a", "b\\u0000"),
            &["\"a\" of its meta holds a control character at position 2"],
        ),
        (
            meta("a", "b\\nc"),
            &["\"a\" of its meta holds a control character at position 2"],
        ),
        (
            meta("a", &long(513)),
            &["\"a\" of its meta has 513 bytes, and at most 512 are allowed"],
        ),
        (
            meta("calvin-fleet", "b"),
            &["begins with calvin-, as those that are set by the agent"],
        ),
    ]
}

#[tokio::test]
async fn an_image_with_odd_names_tags_or_meta_is_refused_with_the_reason() {
    let environment = Environment::start().await;
    let folder = environment.home().join("image");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("image.toml");
    let add = || environment.calvin(&["image", "add", folder.to_str().unwrap()]);
    let mut wrong = Vec::new();
    for (service, expected) in [names(), tags(), meta()].concat() {
        let text = format!("{IMAGE}\n[[service]]\n{service}\nport = 80\n");
        fs::write(&file, &text).unwrap();
        check(&mut wrong, &text, expected, &add());
    }
    // Bytes that are no text at all.
    let mut bytes =
        format!("{IMAGE}\n[[service]]\nname = \"web\"\nport = 80\ntags = [\"").into_bytes();
    bytes.extend(b"\xff\"]\n");
    fs::write(&file, &bytes).unwrap();
    let expected: &[&str] = &["image.toml", "UTF-8"];
    check(
        &mut wrong,
        &String::from_utf8_lossy(&bytes),
        expected,
        &add(),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    let listed = environment.calvin(&["image", "list", "--output", "json"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(!listed.contains("web@"), "{listed}");
}
