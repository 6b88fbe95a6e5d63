//! Tests of images on real directories and a real store.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::store::Database;
use calvin_engine::ports::Images;

use super::*;

const IMAGE: &str = "name = \"web\"\nversion = \"1.0\"\n";

fn write_image(directory: &Path) {
    fs::create_dir_all(directory.join("bin")).unwrap();
    fs::write(directory.join("image.toml"), IMAGE).unwrap();
    fs::write(directory.join("bin/server"), "#!/bin/sh\n").unwrap();
    std::os::unix::fs::symlink("server", directory.join("bin/link")).unwrap();
}

fn open(path: &Path) -> ImageStore {
    ImageStore::open(Arc::new(Database::open(path).unwrap())).unwrap()
}

#[test]
fn a_copy_has_the_same_digest_and_any_change_another() {
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (root.path().join("one"), root.path().join("two"));
    write_image(&one);
    write_image(&two);
    let digest = digest_of(&one).unwrap();
    assert_eq!(digest_of(&two).unwrap(), digest);

    type Change = fn(&Path);
    let changes: [(&str, Change); 5] = [
        ("content", |at| {
            fs::write(at.join("bin/server"), "#!/bin/bash\n").unwrap();
        }),
        ("executable bit", |at| {
            fs::set_permissions(at.join("bin/server"), fs::Permissions::from_mode(0o755)).unwrap();
        }),
        ("name", |at| {
            fs::rename(at.join("bin/server"), at.join("bin/servers")).unwrap();
        }),
        ("link's target", |at| {
            fs::remove_file(at.join("bin/link")).unwrap();
            std::os::unix::fs::symlink("other", at.join("bin/link")).unwrap();
        }),
        ("empty directory", |at| {
            fs::create_dir(at.join("empty")).unwrap();
        }),
    ];
    for (name, change) in changes {
        let changed = root.path().join(name);
        write_image(&changed);
        let before = Fingerprint::of(&changed).unwrap();
        change(&changed);
        assert_ne!(digest_of(&changed).unwrap(), digest, "{name}");
        assert_ne!(Fingerprint::of(&changed).unwrap(), before, "{name}");
    }
}

#[test]
fn a_part_moved_from_name_to_content_is_another_digest() {
    let root = tempfile::tempdir().unwrap();
    for (directory, name, content) in [("one", "ab", "c"), ("two", "a", "bc")] {
        fs::create_dir(root.path().join(directory)).unwrap();
        fs::write(root.path().join(directory).join(name), content).unwrap();
    }
    assert_ne!(
        digest_of(&root.path().join("one")).unwrap(),
        digest_of(&root.path().join("two")).unwrap()
    );
}

#[test]
fn a_socket_in_an_image_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap();
    let error = digest_of(root.path()).unwrap_err();
    assert!(matches!(&error, DigestError::Special { path } if path.ends_with("socket")));
}

#[test]
fn an_image_is_found_again_after_the_store_is_opened_anew() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("image");
    write_image(&directory);
    let database = root.path().join("store.redb");
    let added = open(&database)
        .add(&directory, "process", "ann", 7)
        .unwrap();
    let Added::New(record) = added else {
        panic!("it was known: {added:?}");
    };

    assert_eq!((record.added_by.as_str(), record.added_ms), ("ann", 7));

    let store = open(&database);
    assert_eq!(store.get(&record.image.tag), Some(Arc::clone(&record)));
    assert_eq!(store.list(), vec![Arc::clone(&record)]);
    assert_eq!(store.manifest(&record.image), Some(record.manifest.clone()));
    let again = store.add(&directory, "process", "ann", 8).unwrap();
    assert_eq!(again, Added::Known(record), "adding again changes nothing");
}

#[test]
fn a_record_of_before_it_was_kept_who_added_an_image_is_read() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("image");
    write_image(&directory);
    let store = open(&root.path().join("store.redb"));
    let added = store.add(&directory, "process", "ann", 7).unwrap();
    let mut record = serde_json::to_value(added.record().as_ref()).unwrap();
    record.as_object_mut().unwrap().remove("added_by");
    let read: ImageRecord = serde_json::from_value(record).unwrap();
    assert_eq!(read.added_by, "");
    assert_eq!(read.image, added.record().image);
}

#[test]
fn a_version_cannot_stand_for_other_content_or_another_provider() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("image");
    write_image(&directory);
    let store = open(&root.path().join("store.redb"));
    let first = store.add(&directory, "process", "ann", 7).unwrap();
    assert!(matches!(
        store.add(&directory, "qemu", "ann", 7),
        Err(ImageError::OtherProvider { .. })
    ));
    fs::write(directory.join("bin/server"), "other").unwrap();
    let error = store.add(&directory, "process", "ann", 8).unwrap_err();
    assert!(matches!(&error, ImageError::OtherContent { .. }), "{error}");
    assert_eq!(store.list(), vec![Arc::clone(first.record())]);
}

#[test]
fn an_image_that_moved_is_known_by_its_new_place() {
    let root = tempfile::tempdir().unwrap();
    let (old, new) = (root.path().join("old"), root.path().join("new"));
    write_image(&old);
    let store = open(&root.path().join("store.redb"));
    store.add(&old, "process", "ann", 7).unwrap();
    fs::rename(&old, &new).unwrap();
    let added = store.add(&new, "process", "ann", 8).unwrap();
    assert!(matches!(added, Added::Known(_)));
    let record = store.get(&"web@1.0".parse().unwrap()).unwrap();
    assert_eq!(record.directory, new.canonicalize().unwrap());
}

#[test]
fn a_record_of_a_newer_format_is_refused_with_its_number() {
    let root = tempfile::tempdir().unwrap();
    let database = Arc::new(Database::open(&root.path().join("store.redb")).unwrap());
    let transaction = database.begin_write().unwrap();
    {
        let images: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("images");
        let mut table = transaction.open_table(images).unwrap();
        table
            .insert("web@1.0", br#"{"format":9}"#.as_slice())
            .unwrap();
    }
    transaction.commit().unwrap();
    let error = ImageStore::open(database).unwrap_err();
    assert!(matches!(error, ImageError::Format { found: 9, .. }));
}

#[test]
fn a_disk_that_hangs_while_one_image_is_added_hides_no_other() {
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (root.path().join("one"), root.path().join("two"));
    for directory in [&one, &two] {
        write_image(directory);
    }
    fs::write(two.join("image.toml"), IMAGE.replace("1.0", "2.0")).unwrap();
    let database = Arc::new(Database::open(&root.path().join("store.redb")).unwrap());
    let store = ImageStore::open(Arc::clone(&database)).unwrap();
    store.add(&one, "process", "ann", 0).unwrap();
    let hung = database.fault().hang_now();
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| store.add(&two, "process", "ann", 0).unwrap());
        while !hung.holds_somebody() {
            std::thread::yield_now();
        }
        let began = Instant::now();
        assert!(store.get(&"web@1.0".parse().unwrap()).is_some());
        assert_eq!(store.list().len(), 1);
        assert!(began.elapsed() < Duration::from_secs(1));
        drop(hung);
        adding.join().unwrap();
    });
    assert_eq!(store.list().len(), 2);
}
