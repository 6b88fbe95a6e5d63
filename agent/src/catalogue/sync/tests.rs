//! Against a client of a few lines.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use calvin_model::{ImageManifest, Provision};
use calvin_proto::machine::MachineFiles;

use super::{
    super::own::{OwnWord, Presence},
    testing::client_of,
    *,
};
use crate::workload::Variables;

/// A client that answers everything in the same way, and how often it was asked.
async fn client(status: &'static str, body: &str) -> (Client, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, body) = (asked.clone(), body.to_owned());
    let answer = move |_: &str| {
        count.fetch_add(1, Relaxed);
        (status, body.clone())
    };
    (client_of(answer).await, asked)
}

/// A client whose disk is full, with both services registered and passing, and all that it was told.
async fn full_client(servers: &'static str) -> (Client, Arc<Mutex<Vec<String>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let all = told.clone();
    let services = ["web", "admin"].map(|name| {
        let id = format!("{name}:web-abcdefgh");
        let meta = serde_json::json!({ "calvin-boot": "b1" });
        let service = serde_json::json!({ "ID": id, "Service": name, "Meta": meta });
        let check = serde_json::json!({
            "CheckID": registered::agent_check_id(&id), "ServiceID": id, "Status": "passing",
        });
        (id, service, check)
    });
    let checks = services.clone().map(|(_, _, check)| {
        let id = check["CheckID"].as_str().unwrap().to_owned();
        (id, check)
    });
    let services = services.map(|(id, service, _)| (id, service));
    let json =
        |of: [(String, serde_json::Value); 2]| serde_json::to_string(&BTreeMap::from(of)).unwrap();
    let (services, checks) = (json(services), json(checks));
    let client = client_of(move |asked| match asked {
        "GET /v1/agent/services" => ("200 OK", services.clone()),
        "GET /v1/agent/checks" => ("200 OK", checks.clone()),
        _ if asked.starts_with("PUT") => {
            all.lock().unwrap().push(asked.to_owned());
            let why = format!("failed persisting: no space left on device ({asked})");
            ("500 Internal Server Error", why)
        }
        _ => (servers, "{\"Node\":null,\"Services\":[]}".to_owned()),
    });
    (client.await, told)
}

fn sync(client: Client) -> Sync {
    let image = "name = \"web\"\nversion = \"1.0\"\n[[service]]\nname = \"web\"\nport = 80\n\
                 [[service]]\nname = \"admin\"\nport = 81\n";
    let provision = format!(
        "environment = \"build\"\ninstance = \"web-abcdefgh\"\nfleet = \"web\"\n\
         coordinators = [\"127.0.0.1:1\"]\ndomain = \"build.example\"\njoin_token = \"\"\n\
         ca_pem = \"\"\n[image]\ntag = \"web@1.0\"\ndigest = \"sha256:{}\"\n",
        "01".repeat(32)
    );
    let provision = Provision::parse("provision.toml", &provision).unwrap();
    let files = MachineFiles::new("/machine");
    let machine = Machine {
        variables: Variables::new(&provision, files.root()),
        provision: Arc::new(provision),
        manifest: ImageManifest::parse("image.toml", image).unwrap(),
        address: "10.0.0.9".parse().unwrap(),
        loopback: "127.0.0.1".parse().unwrap(),
        boot: "b1".parse().unwrap(),
        files,
    };
    Sync::new(Arc::new(machine), client)
}

/// How often it is asked in a second, by one who waits again and again.
async fn asked_in_a_second(status: &'static str, body: &str, role: CatalogueRole) -> usize {
    let (client, asked) = client(status, body).await;
    let mut sync = sync(client);
    let waits = async {
        loop {
            sync.changed(role, Duration::from_secs(60)).await;
            tokio::task::yield_now().await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(1), waits).await;
    assert!(ended.is_err());
    asked.load(Relaxed)
}

#[tokio::test]
async fn whoever_waits_for_a_registration_that_is_not_there_does_not_ask_all_the_time() {
    use CatalogueRole::{Absent, Active};
    let version = "{\"ContentHash\":\"1\"}";
    let (none, found, denied) = ("404 Not Found", "200 OK", "403 Forbidden");
    assert_eq!(asked_in_a_second(none, "", Active).await, 1);
    assert_eq!(asked_in_a_second(denied, "no", Active).await, 1);
    // Read once, and then not waited with.
    assert_eq!(asked_in_a_second(found, version, Active).await, 2);
    assert_eq!(asked_in_a_second(none, "", Absent).await, 0);
}

#[tokio::test]
async fn a_client_whose_disk_is_full_is_told_every_word_all_the_same() {
    for (servers, first, count) in [
        ("200 OK", "could not register service web", 4),
        (
            "500 Internal Server Error",
            "could not list the services",
            2,
        ),
    ] {
        let (client, told) = full_client(servers).await;
        let mut sync = sync(client);
        let own = Own {
            role: None,
            presence: Presence::AsTold,
            checks: Vec::new(),
            workload: OwnWord::Failing("it ended".to_owned()),
        };
        let wanted = Registration {
            role: CatalogueRole::Entered,
            exclusive: false,
        };
        let turned = sync.turn("web-abcdefgh", wanted, &own).await;
        let error = chain(&turned.unwrap_err());
        let told = told.lock().unwrap().clone();
        for name in ["web", "admin"] {
            let says = format!("PUT /v1/agent/check/update/{name}%3Aweb-abcdefgh%3Aagent");
            let is_told = told.contains(&says);
            assert!(is_told, "{told:?}");
        }
        assert_eq!(told.len(), count, "{told:?}");
        assert!(error.contains(first), "the first that failed: {error}");
        assert_eq!(sync.said, None, "and again");
    }
}
