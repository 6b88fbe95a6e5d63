//! Who works with the lock of his fleet.

use std::path::PathBuf;

use calvin_model::{Digest, ImageManifest, ImageRef};

use super::*;

/// Lines of an image whose machines leave Consul out.
const WITHOUT_CONSUL: &str = "joins = []\n";

/// An image of the web fleet, with these lines before its service.
fn image(lines: &str) -> Arc<ImageRecord> {
    let text = format!(
        "name = \"web\"\nversion = \"1.0\"\n{lines}[[service]]\nname = \"web\"\nport = 80\n"
    );
    let manifest = ImageManifest::parse("image.toml", &text).unwrap();
    let digest = Digest::from_sha256([1; 32]);
    let record = ImageRecord {
        image: ImageRef {
            tag: manifest.tag(),
            digest: digest.clone(),
        },
        provider: "local".to_owned(),
        directory: PathBuf::new(),
        manifest,
        manifest_digest: digest,
        added_ms: 0,
        added_by: String::new(),
    };
    Arc::new(record)
}

/// An instance of the web fleet whose machine joins Consul.
pub(in crate::catalogue::consul) fn known() -> Known {
    Known {
        image: Some(image("")),
        fleet: "web".parse().unwrap(),
        exclusive: false,
        retires: false,
        revoked: false,
    }
}

fn exclusive() -> Known {
    Known {
        exclusive: true,
        ..known()
    }
}

fn id(text: &str) -> InstanceId {
    text.parse().unwrap()
}

/// Those of a fleet of these two, beside one of another fleet that is always one.
fn members_of(one: Known, other: Known) -> Vec<String> {
    let [web, db]: [FleetName; 2] = ["web", "db"].map(|name| name.parse().unwrap());
    let beside = Known {
        fleet: db.clone(),
        ..exclusive()
    };
    let census = Census::from([
        (web, [(id("web-a"), one), (id("web-b"), other)].into()),
        (db.clone(), [(id("db-a"), beside)].into()),
    ]);
    let mut members = members(&census);
    assert_eq!(members.remove(&db), Some([id("db-a")].into()));
    let web = members.into_values().flatten();
    web.map(|id| id.to_string()).collect()
}

#[test]
fn all_of_an_exclusive_fleet_work_with_its_lock_also_who_leaves() {
    assert_eq!(members_of(exclusive(), exclusive()), ["web-a", "web-b"]);
    let leaves = Known {
        retires: true,
        revoked: true,
        ..exclusive()
    };
    assert_eq!(members_of(exclusive(), leaves), ["web-a", "web-b"]);
    assert_eq!(members_of(known(), known()), [""; 0], "no exclusive fleet");
}

#[test]
fn the_lock_says_nothing_of_anybody_where_one_works_without() {
    let without = Known {
        image: Some(image(WITHOUT_CONSUL)),
        ..exclusive()
    };
    assert!(!without.joins());
    let unrecorded = Known {
        image: None,
        ..exclusive()
    };
    for other in [without, unrecorded, known()] {
        assert_eq!(members_of(exclusive(), other.clone()), [""; 0], "{other:?}");
        assert_eq!(members_of(other.clone(), exclusive()), [""; 0], "{other:?}");
    }
}

#[test]
fn a_fleet_without_instances_has_no_members() {
    let census = Census::from([("web".parse().unwrap(), BTreeMap::new())]);
    assert_eq!(members(&census), BTreeMap::new());
}
