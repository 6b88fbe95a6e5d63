//! Tests of what `image.toml` takes and refuses.

use super::*;

const WEB: &str = r#"
name = "web"
version = "1.0"

[workload]
command = ["bin/server", "--listen", "${CALVIN_ADDRESS}:8080"]

[[service]]
name = "web"
port = 8080

[[check]]
name = "http"
http = "/health"
port = 8080
interval = "1s"
"#;

#[test]
fn an_image_with_workload_service_and_check_is_read() {
    let image = ImageManifest::parse("image.toml", WEB).unwrap();
    assert_eq!(image.tag().to_string(), "web@1.0");
    assert_eq!(
        image.checks[0].kind(),
        Some(CheckKind::Http {
            path: "/health",
            port: 8080,
            method: "GET",
            headers: &BTreeMap::new(),
        })
    );
    assert_eq!(image.workload.unwrap().work, Work::Boot);
}

#[test]
fn a_check_of_two_kinds_is_refused() {
    let text = format!("{WEB}tcp = true\n");
    let error = ImageManifest::parse("image.toml", &text)
        .unwrap_err()
        .to_string();
    assert!(error.contains("exactly one of"), "{error}");
}

#[test]
fn a_service_that_ends_in_standby_is_refused() {
    let text = WEB.replace("name = \"web\"\nport", "name = \"web-standby\"\nport");
    let error = ImageManifest::parse("image.toml", &text)
        .unwrap_err()
        .to_string();
    assert!(error.contains("-standby"), "{error}");
}

#[test]
fn a_grpc_check_asks_after_a_service_or_the_server() {
    let image = |grpc: &str| {
        let text = WEB.replace("http = \"/health\"", &format!("grpc = {grpc:?}"));
        ImageManifest::parse("image.toml", &text)
    };
    for service in ["", "web.v1.Web", "readiness", "a-b_c"] {
        let port = 8080;
        let kind = CheckKind::Grpc { service, port };
        assert_eq!(image(service).unwrap().checks[0].kind(), Some(kind));
    }
    for service in ["a/b", "a b", "..", "ü", &"a".repeat(256)] {
        let error = image(service).unwrap_err();
        assert!(
            error.to_string().contains("name of a gRPC service"),
            "{error}"
        );
    }
    let lone = WEB.replace("http = \"/health\"\nport = 8080", "grpc = \"\"");
    let both = WEB.replace("http =", "grpc = \"\"\nhttp =");
    for text in [lone, both] {
        let error = ImageManifest::parse("image.toml", &text).unwrap_err();
        assert!(error.to_string().contains("grpc and port"), "{error}");
    }
}
