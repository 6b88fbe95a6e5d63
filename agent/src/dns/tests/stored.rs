//! Snapshots on disk.

use super::*;

fn names(dir: &std::path::Path) -> Arc<Names> {
    Arc::new(Names::new(DOMAIN, dir.join("names.json")).unwrap())
}

#[tokio::test]
async fn a_snapshot_is_served_at_once_and_once_kept_is_found_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let first = names(dir.path());
    assert_eq!(first.load().unwrap(), None);
    let version = mixed().version;
    assert_eq!(first.admit(mixed()).await.unwrap(), Admitted::New(version));
    assert_eq!(
        first.admit(mixed()).await.unwrap(),
        Admitted::Known(version)
    );
    assert_eq!(first.version(), Some(version));
    assert_eq!(first.keep().await.unwrap(), Some(version));
    let second = names(dir.path());
    assert_eq!(second.load().unwrap(), Some(version));
    assert_eq!(second.zone().unwrap().snapshot(), &*mixed());
}

#[tokio::test]
async fn an_older_snapshot_and_one_of_another_domain_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let names = names(dir.path());
    names.admit(snapshot(8, Vec::new())).await.unwrap();
    let older = names.admit(snapshot(7, Vec::new())).await.unwrap_err();
    assert!(matches!(older, NamesError::Older { .. }), "{older}");
    let mut foreign = NamesSnapshot::clone(&snapshot(9, Vec::new()));
    foreign.domain = "test.example".into();
    let foreign = names.admit(Arc::new(foreign)).await.unwrap_err();
    assert!(
        matches!(foreign, NamesError::OtherDomain { .. }),
        "{foreign}"
    );
    assert_eq!(names.version().unwrap().number, 8);
    let newer_epoch = NamesSnapshot {
        version: NamesVersion {
            epoch: 2,
            number: 1,
        },
        ..NamesSnapshot::clone(&snapshot(1, Vec::new()))
    };
    names.admit(Arc::new(newer_epoch)).await.unwrap();
    assert_eq!(names.version().unwrap().epoch, 2);
}

#[tokio::test]
async fn what_cannot_be_stored_is_served_all_the_same_and_stored_when_it_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let first = names(&missing);
    let version = mixed().version;
    assert_eq!(first.admit(mixed()).await.unwrap(), Admitted::New(version));
    assert!(matches!(first.keep().await, Err(NamesError::Disk(_))));
    assert_eq!(first.version(), Some(version), "from memory");
    std::fs::create_dir(&missing).unwrap();
    assert_eq!(first.keep().await.unwrap(), Some(version));
    assert_eq!(names(&missing).load().unwrap(), Some(version));
}

#[test]
fn broken_and_newer_files_are_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let names = names(dir.path());
    std::fs::write(dir.path().join("names.json"), "{").unwrap();
    assert!(names.load().is_err());
    let newer = serde_json::json!({ "format": 2, "snapshot": &*mixed() });
    std::fs::write(dir.path().join("names.json"), newer.to_string()).unwrap();
    assert!(matches!(names.load(), Err(NamesError::Format { found: 2 })));
}
