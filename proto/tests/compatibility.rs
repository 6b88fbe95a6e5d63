//! A released field is for ever: it keeps its number, type and label, and its name, which the
//! JSON of tools rests on. `released/` lists what was released; what is new may be added to it by
//! running this test with `CALVIN_PROTO_RELEASE=1`, which refuses all the same to drop a line.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{collections::BTreeSet, env, fs, path::Path};

use calvin_proto::DESCRIPTORS;
use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

/// One line for each field, enum value and method.
fn listing(set: &FileDescriptorSet) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in &set.file {
        let package = file.package();
        for message in &file.message_type {
            list_message(&mut lines, package, message);
        }
        for list in &file.enum_type {
            list_enum(&mut lines, package, list);
        }
        for service in &file.service {
            for method in &service.method {
                lines.insert(format!(
                    "rpc {package}.{}/{} {}{} -> {}{}",
                    service.name(),
                    method.name(),
                    stream(method.client_streaming()),
                    method.input_type(),
                    stream(method.server_streaming()),
                    method.output_type(),
                ));
            }
        }
    }
    lines
}

fn stream(streaming: bool) -> &'static str {
    if streaming { "stream " } else { "" }
}

fn list_message(lines: &mut BTreeSet<String>, scope: &str, message: &DescriptorProto) {
    let name = format!("{scope}.{}", message.name());
    for field in &message.field {
        let label = match field.label() {
            Label::Optional if field.proto3_optional() => "optional",
            Label::Optional => "singular",
            Label::Required => "required",
            Label::Repeated => "repeated",
        };
        let named = matches!(field.r#type(), Type::Message | Type::Enum);
        let kind = if named {
            field.type_name().to_owned()
        } else {
            field.r#type().as_str_name().to_lowercase()
        };
        let group = field
            .oneof_index
            .filter(|_| !field.proto3_optional())
            .and_then(|index| message.oneof_decl.get(usize::try_from(index).unwrap()))
            .map_or(String::new(), |group| format!(" in {}", group.name()));
        lines.insert(format!(
            "field {name}.{} = {} {kind} {label}{group}",
            field.name(),
            field.number(),
        ));
    }
    for nested in &message.nested_type {
        list_message(lines, &name, nested);
    }
    for list in &message.enum_type {
        list_enum(lines, &name, list);
    }
}

fn list_enum(lines: &mut BTreeSet<String>, scope: &str, list: &EnumDescriptorProto) {
    for value in &list.value {
        lines.insert(format!(
            "value {scope}.{}.{} = {}",
            list.name(),
            value.name(),
            value.number()
        ));
    }
}

fn gone<'a>(released: &'a BTreeSet<String>, now: &'a BTreeSet<String>) -> Vec<&'a String> {
    released.difference(now).collect()
}

#[test]
fn no_released_field_is_removed_renumbered_or_retyped() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("released/v1.txt");
    let now = listing(&FileDescriptorSet::decode(DESCRIPTORS).unwrap());
    let released: BTreeSet<String> = fs::read_to_string(&path)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    assert!(released.len() > 100, "the released list is not there");
    let gone = gone(&released, &now);
    assert!(
        gone.is_empty(),
        "released and now gone or changed: {gone:#?}"
    );
    if env::var_os("CALVIN_PROTO_RELEASE").is_some() {
        let lines: Vec<_> = now.into_iter().collect();
        fs::write(&path, lines.join("\n") + "\n").unwrap();
    }
}

#[test]
fn a_removed_renumbered_retyped_or_relabelled_field_is_found() {
    let mut set = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let released = listing(&set);
    let report = set
        .file
        .iter_mut()
        .flat_map(|file| &mut file.message_type)
        .find(|message| message.name() == "Report")
        .unwrap();
    report.field.retain(|field| field.name() != "flaps");
    for field in &mut report.field {
        match field.name() {
            "sequence" => field.number = Some(99),
            "health_for_ms" => field.set_type(Type::Uint32),
            "boot_id" => field.set_label(Label::Repeated),
            _ => {}
        }
    }
    let now = listing(&set);
    let gone = gone(&released, &now);
    assert_eq!(gone.len(), 4, "{gone:#?}");
    // An addition is fine: what was released is all there.
    assert!(listing(&FileDescriptorSet::decode(DESCRIPTORS).unwrap()).is_superset(&released));
}
