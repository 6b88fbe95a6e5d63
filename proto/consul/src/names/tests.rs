//! Names, tags, meta and keys that may be sent, and those that may not.

use proptest::prelude::*;

use super::*;

#[test]
fn a_service_name_is_one_that_dns_can_say() {
    for good in ["web", "web-standby", "a", "7", &"a".repeat(63)] {
        check_service(good).unwrap();
    }
    for bad in [
        "",
        "-web",
        "web-",
        "Web",
        "we_b",
        "we.b",
        "we b",
        "web\n",
        "web/..",
        "wéb",
        "web\0",
        &"a".repeat(64),
    ] {
        assert!(check_service(bad).is_err(), "{bad:?}");
    }
    let error = check_service("we_b").unwrap_err().to_string();
    assert_eq!(
        error,
        "service name \"we_b\" may hold only a-z, 0-9 and inner hyphens; '_' at position 3 is not"
    );
}

#[test]
fn an_id_is_one_segment_of_a_path() {
    for good in ["web-1", "serfHealth", "_node_maintenance", "web:1", "a%2Fb"] {
        check_id("service id", good).unwrap();
    }
    for bad in [
        "",
        ".",
        "..",
        "a/b",
        "a b",
        "a\tb",
        "a\u{7f}",
        &"a".repeat(256),
    ] {
        assert!(check_id("service id", bad).is_err(), "{bad:?}");
    }
}

#[test]
fn tags_and_meta_have_limits_and_no_odd_bytes() {
    check_tags(&["active".into(), "urlprefix-/a b".into()]).unwrap();
    for bad in ["", " a", "a ", "a\nb", "a\u{0}", &"a".repeat(256)] {
        assert!(check_tags(&[bad.to_owned()]).is_err(), "{bad:?}");
    }
    let many: Vec<_> = (0..65).map(|n| format!("t{n}")).collect();
    assert!(check_tags(&many).is_err());
    check_tags(&many[..64]).unwrap();

    let meta = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    check_meta(&meta("boot_id", "")).unwrap();
    check_meta(&meta("image", "web@1.0 ä")).unwrap();
    for (key, value) in [
        ("", "v"),
        ("a.b", "v"),
        ("consul-x", "v"),
        ("a", "b\r"),
        (&*"a".repeat(129), "v"),
        ("a", &*"v".repeat(513)),
    ] {
        assert!(check_meta(&meta(key, value)).is_err(), "{key:?} {value:?}");
    }
    let many: BTreeMap<_, _> = (0..65).map(|n| (format!("k{n}"), String::new())).collect();
    assert!(check_meta(&many).is_err());
}

#[test]
fn a_key_is_never_a_prefix_and_never_another_key() {
    for good in ["calvin/leader", "a", "a.b/c,d/e_f-g"] {
        assert_eq!(good.parse::<Key>().unwrap().as_str(), good);
    }
    for bad in [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "a/../b",
        "a/./b",
        "..",
        "a b",
        "a?b",
        "a&recurse",
        "a%2f",
        "ä",
        "a\n",
        &"a".repeat(513),
    ] {
        assert!(bad.parse::<Key>().is_err(), "{bad:?}");
    }
    for bad in ["", "/", "a", "a//", "../", "a/../"] {
        assert!(bad.parse::<Prefix>().is_err(), "{bad:?}");
    }
    let prefix: Prefix = "calvin/".parse().unwrap();
    assert_eq!(prefix.key("leader").unwrap().as_str(), "calvin/leader");
    assert!(prefix.key("").is_err() && prefix.key("../x").is_err());
}

proptest! {
    #[test]
    fn what_is_taken_for_a_key_is_its_own_clean_form(text in "[a-z./ ,_-]{0,12}|\\PC{0,12}") {
        if let Ok(key) = text.parse::<Key>() {
            let clean: Vec<_> = key
                .as_str()
                .split('/')
                .filter(|segment| !segment.is_empty() && *segment != "." && *segment != "..")
                .collect();
            prop_assert_eq!(clean.join("/"), key.as_str());
            prop_assert!(text.parse::<Prefix>().is_err());
        }
    }

    #[test]
    fn a_refusal_can_be_shown(text in "\\PC{0,400}|[\\x00-\\x20]{1,10}") {
        for error in [
            check_service(&text).err(), check_id("id", &text).err(),
            text.parse::<Key>().err(), text.parse::<Prefix>().err(),
        ].into_iter().flatten() {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}
