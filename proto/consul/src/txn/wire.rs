//! Operations as Consul reads them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::Op;
use crate::{names::Key, session::SessionId};

/// The operation as JSON.
pub(super) fn of(op: &Op) -> Value {
    match op {
        Op::CheckSession { key, session } => kv("check-session", key, |op| {
            op["Session"] = session.as_str().into();
        }),
        Op::CheckIndex { key, index } => kv("check-index", key, |op| op["Index"] = (*index).into()),
        Op::CheckAbsent { key } => kv("check-not-exists", key, |_| {}),
        Op::KvGet { key } => kv("get", key, |_| {}),
        Op::KvSet { key, value } => kv("set", key, |op| op["Value"] = base64(value)),
        Op::KvCas { key, value, index } => kv("cas", key, |op| {
            op["Value"] = base64(value);
            op["Index"] = (*index).into();
        }),
        Op::KvLock {
            key,
            value,
            session,
        } => kv("lock", key, |op| locked(op, value, session)),
        Op::KvUnlock {
            key,
            value,
            session,
        } => kv("unlock", key, |op| locked(op, value, session)),
        Op::KvDelete { key } => kv("delete", key, |_| {}),
        Op::KvDeleteCas { key, index } => kv("delete-cas", key, |op| op["Index"] = (*index).into()),
        Op::ServiceGet { node, id } => {
            json!({ "Service": { "Verb": "get", "Node": node, "Service": { "ID": id } } })
        }
        // What is left out is not kept but emptied, so all of it is sent.
        Op::ServiceCas { node, service } => {
            json!({ "Service": { "Verb": "cas", "Node": node, "Service": service } })
        }
        Op::ServiceDeleteCas {
            node,
            id,
            service,
            index,
        } => json!({ "Service": { "Verb": "delete-cas", "Node": node, "Service": {
            "ID": id, "Service": service, "ModifyIndex": index,
        } } }),
        Op::NodeDeleteCas { node, index } => {
            json!({ "Node": { "Verb": "delete-cas", "Node": { "Node": node, "ModifyIndex": index } } })
        }
    }
}

/// Bytes that it takes in a transaction, with the comma.
pub(super) fn size(op: &Op) -> usize {
    of(op).to_string().len() + 1
}

fn kv(verb: &str, key: &Key, with: impl FnOnce(&mut Value)) -> Value {
    let mut op = json!({ "Verb": verb, "Key": key.as_str() });
    with(&mut op);
    json!({ "KV": op })
}

fn locked(op: &mut Value, value: &[u8], session: &SessionId) {
    op["Value"] = base64(value);
    op["Session"] = session.as_str().into();
}

fn base64(value: &[u8]) -> Value {
    STANDARD.encode(value).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::CatalogService;

    #[test]
    fn a_service_is_sent_whole() {
        let service = CatalogService {
            id: "web-1".into(),
            service: "web".into(),
            enable_tag_override: true,
            modify_index: 7,
            ..CatalogService::default()
        };
        let op = of(&Op::ServiceCas {
            node: "n".into(),
            service: Box::new(service),
        });
        assert_eq!(
            op["Service"]["Service"],
            json!({
                "ID": "web-1", "Service": "web", "Tags": [], "Address": "", "Port": 0, "Meta": {},
                "TaggedAddresses": {}, "Weights": { "Passing": 1, "Warning": 1 },
                "EnableTagOverride": true, "ModifyIndex": 7,
            })
        );
    }

    #[test]
    fn values_are_bytes() {
        let key: Key = "a".parse().unwrap();
        let op = of(&Op::KvSet {
            key,
            value: vec![0, 255],
        });
        assert_eq!(op["KV"]["Value"], "AP8=");
    }
}
