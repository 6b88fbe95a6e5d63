//! What an image may say for Consul, and what is refused: with the line of the key and the reason.

use super::*;

/// An image with a service, to whose table each case adds.
fn parse(top: &str, service: &str) -> Result<ImageManifest, String> {
    let text = format!(
        "name = \"web\"\nversion = \"1.0\"\n{top}\n[[service]]\nname = \"web\"\nport = 80\n{service}\n"
    );
    ImageManifest::parse("image.toml", &text).map_err(|error| error.to_string())
}

#[track_caller]
fn refused(top: &str, service: &str, key: &str, reason: &str) {
    let error = parse(top, service).expect_err(service);
    assert!(error.contains(reason), "{reason}: {error}");
    // The place: its line is shown below what is wrong.
    let line = error.lines().nth(1).unwrap_or_default();
    assert!(line.contains(key), "{key}: {error}");
}

/// A list or table of so many, as TOML.
fn many(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(", ")
}

#[test]
fn what_consul_takes_is_taken() {
    let tag = "t".repeat(255);
    let value = "v".repeat(512);
    let key = "k".repeat(128);
    let service = format!(
        "tags = [\"http\", \"v1\"]\n\
         tags_active = [\"urlprefix-/web strip=/web\", \"ünïcode\", \"{tag}\"]\n\
         untagged = \"all\"\n\
         meta = {{ {key} = \"{value}\", empty = \"\", A_b-9 = \"ä\" }}\n\
         weights = {{ passing = 1, warning = 0 }}\n\
         tagged_addresses = {{ wan = \"192.0.2.1:80\", lan_ipv6 = \"[2001:db8::1]:80\", \"x.y\" = \"10.0.0.1:1\" }}"
    );
    let image = parse(
        "joins = [\"consul\"]\n[consul]\nprogram = \"bin/consul\"",
        &service,
    );
    assert_eq!(image.unwrap().services[0].meta.len(), 3);
    for address in [
        "http://127.0.0.1:8500",
        "http://127.9.9.9:1/",
        "http://[::1]:8500",
        "http://localhost:8500",
    ] {
        parse(&format!("[consul]\naddress = \"{address}\""), "").unwrap();
    }
    parse("joins = []", "").unwrap();
}

#[test]
fn tags_that_tell_a_role_are_ours() {
    for key in ["tags", "tags_active"] {
        for tag in ["active", "standby"] {
            let list = format!("{key} = [\"http\", \"{tag}\"]");
            refused("", &list, key, "tells the role of an instance");
        }
    }
}

#[test]
fn a_tag_that_consul_would_cut_or_lose_is_refused() {
    for (tag, reason) in [
        (String::new(), "is empty"),
        ("t".repeat(256), "has 256 bytes, and at most 255"),
        ("ä".repeat(128), "has 256 bytes"),
        ("a\\nb".to_owned(), "control character at position 2"),
        ("a\\u0000".to_owned(), "control character at position 2"),
        ("a\\u007f".to_owned(), "control character at position 2"),
        ("a ".to_owned(), "begins or ends with a space"),
        ("\\u00a0a".to_owned(), "begins or ends with a space"),
    ] {
        let list = format!("tags_active = [\"{tag}\"]");
        refused("", &list, "tags_active", reason);
    }
    for tag in ["a b", "A", "a_b", "ä", "1a", "", &"a".repeat(64)] {
        refused(
            "",
            &format!("tags = [\"{tag}\"]"),
            "tags",
            "cannot be a DNS label",
        );
    }
}

#[test]
fn a_service_has_at_most_sixty_four_tags_with_that_of_its_role() {
    let lists = |active: usize| {
        let of = |count, name: &str| many(count, |index| format!("\"{name}{index}\""));
        format!(
            "tags = [{}]\ntags_active = [{}]",
            of(3, "a"),
            of(active, "b")
        )
    };
    parse("", &lists(60)).unwrap();
    refused(
        "",
        &lists(61),
        "tags",
        "has 64 tags with tags_active, and at most 63",
    );
}

#[test]
fn meta_that_consul_would_refuse_is_refused() {
    for (pair, reason) in [
        ("\"\" = \"x\"".to_owned(), "1 to 128 of a-z"),
        (format!("{} = \"x\"", "k".repeat(129)), "1 to 128 of a-z"),
        ("\"a.b\" = \"x\"".to_owned(), "1 to 128 of a-z"),
        ("\"ä\" = \"x\"".to_owned(), "1 to 128 of a-z"),
        ("\"a\\n\" = \"x\"".to_owned(), "1 to 128 of a-z"),
        ("calvin-fleet = \"x\"".to_owned(), "set by the agent"),
        ("calvin-new = \"x\"".to_owned(), "set by the agent"),
        ("consul-x = \"x\"".to_owned(), "Consul keeps for itself"),
        (
            format!("a = \"{}\"", "v".repeat(513)),
            "has 513 bytes, and at most 512",
        ),
        (
            "a = \"x\\ty\"".to_owned(),
            "control character at position 2",
        ),
    ] {
        refused("", &format!("meta = {{ {pair} }}"), "meta", reason);
    }
    let pairs = |count| {
        format!(
            "meta = {{ {} }}",
            many(count, |index| format!("k{index} = \"v\""))
        )
    };
    parse("", &pairs(59)).unwrap();
    refused("", &pairs(60), "meta", "has 60 keys, and at most 59");
}

#[test]
fn weights_and_addresses_are_what_consul_can_answer() {
    refused(
        "",
        "weights = { passing = 0, warning = 1 }",
        "",
        "from 1 to 65535",
    );
    assert!(parse("", "weights = { passing = 65536, warning = 1 }").is_err());
    let long = "n".repeat(256);
    for (pair, reason) in [
        ("\"\" = \"10.0.0.1:1\"".to_owned(), "visible characters"),
        ("\"a/b\" = \"10.0.0.1:1\"".to_owned(), "visible characters"),
        ("\"a b\" = \"10.0.0.1:1\"".to_owned(), "visible characters"),
        (format!("{long} = \"10.0.0.1:1\""), "visible characters"),
        ("\"..\" = \"10.0.0.1:1\"".to_owned(), "only dots"),
        ("virtual = \"10.0.0.1:1\"".to_owned(), "kept by Consul"),
        ("wan = \"10.0.0.1:0\"".to_owned(), "nobody can connect"),
        ("wan = \"0.0.0.0:1\"".to_owned(), "nobody can connect"),
    ] {
        let table = format!("tagged_addresses = {{ {pair} }}");
        refused("", &table, "tagged_addresses", reason);
    }
    let several = |count| {
        let pairs = many(count, |index| format!("a{index} = \"10.0.0.1:1\""));
        format!("tagged_addresses = {{ {pairs} }}")
    };
    parse("", &several(16)).unwrap();
    refused("", &several(17), "tagged_addresses", "more than 16");
}

#[test]
fn a_machine_has_one_consul_client_and_it_is_on_the_machine() {
    for both in [
        "",
        "program = \"consul\"\naddress = \"http://127.0.0.1:8500\"",
    ] {
        refused(&format!("[consul]\n{both}"), "", "consul", "exactly one of");
    }
    refused("[consul]\nprogram = \"\"", "", "program", "is none");
    for address in [
        "127.0.0.1:8500",
        "https://127.0.0.1:8500",
        "http://127.0.0.1",
        "http://127.0.0.1:0",
        "http://10.0.0.1:8500",
        "http://consul.example:8500",
        "http://localhost",
        "http://127.0.0.1:8500/v1",
        "http://user@127.0.0.1:8500",
        "",
    ] {
        let table = format!("[consul]\naddress = \"{address}\"");
        refused(&table, "", "address", "loopback address and a port");
    }
}

#[test]
fn what_is_joined_is_named_once_and_said_once() {
    refused("joins = [\"consul\", \"consul\"]", "", "joins", "twice");
    refused(
        "joins = [\"vault\"]\n[consul]\nprogram = \"consul\"",
        "",
        "consul",
        "joins leaves it out",
    );
    let error = parse("joins = [\"nomad\"]", "").unwrap_err();
    assert!(error.contains("unknown variant `nomad`"), "{error}");
}
