//! The ACL rule that a denial names. Pure.
//!
//! Consul says: `Permission denied: token with AccessorID '…' lacks permission 'key:write' on "app"`
//! (`PermissionDeniedError` in `acl/errors.go`). Resources and their form as a rule are those of the
//! documentation's page "ACL rules reference".

use std::fmt;

/// A rule that the token lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingRule {
    /// Such as `key`, `service`, `acl`.
    pub resource: String,
    /// `read`, `write` or `list`.
    pub access: String,
    /// Which one; none for those that have no names (`acl`, `operator`, `keyring`, `mesh`, `peering`).
    pub name: Option<String>,
    /// The accessor of the token, if Consul said it; none when no token was sent.
    pub accessor: Option<String>,
}

impl MissingRule {
    /// Finds the rule in what Consul said.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (before, after) = text.split_once("lacks permission '")?;
        let (permission, after) = after.split_once('\'')?;
        let (resource, access) = permission.split_once(':')?;
        let word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase());
        if !word(resource) || !word(access) {
            return None;
        }
        let name = after
            .strip_prefix(" on \"")
            .and_then(|rest| rest.rfind('"').map(|end| rest[..end].to_owned()));
        let accessor = before
            .rsplit_once("AccessorID '")
            .and_then(|(_, rest)| rest.split_once('\''))
            .map(|(accessor, _)| accessor.to_owned());
        Some(Self {
            resource: resource.to_owned(),
            access: access.to_owned(),
            name,
            accessor,
        })
    }

    /// The rule as one would write it into a policy.
    #[must_use]
    pub fn hcl(&self) -> String {
        let Self {
            resource, access, ..
        } = self;
        match &self.name {
            Some(name) => format!("{resource} {name:?} {{ policy = {access:?} }}"),
            None => match resource.as_str() {
                "acl" | "operator" | "keyring" | "mesh" | "peering" => {
                    format!("{resource} = {access:?}")
                }
                _ => format!("{resource}_prefix \"\" {{ policy = {access:?} }}"),
            },
        }
    }
}

impl fmt::Display for MissingRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it lacks {}:{}", self.resource, self.access)?;
        if let Some(name) = &self.name {
            write!(f, " on {name:?}")?;
        }
        write!(f, " (rule: {})", self.hcl())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_without_names_are_written_as_such() {
        let rule = MissingRule::parse(
            "Permission denied: token with AccessorID 'x' lacks permission 'acl:write'",
        )
        .unwrap();
        assert_eq!(rule.hcl(), "acl = \"write\"");
        assert_eq!(rule.accessor.as_deref(), Some("x"));
        let rule =
            MissingRule::parse("Permission denied: anonymous token lacks permission 'node:read'. The anonymous token is used implicitly")
                .unwrap();
        assert_eq!(rule.hcl(), "node_prefix \"\" { policy = \"read\" }");
        assert_eq!((rule.accessor, rule.name), (None, None));
    }

    #[test]
    fn other_texts_name_no_rule() {
        for text in [
            "",
            "Permission denied",
            "lacks permission '",
            "lacks permission 'a'",
        ] {
            assert_eq!(MissingRule::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_consul_writes_is_read_back(
            resource in "[a-z]{1,12}", access in "read|write|list",
            name in "[a-zA-Z0-9_./-]{1,40}", accessor in "[0-9a-f-]{36}",
        ) {
            let text = format!(
                "Permission denied: token with AccessorID '{accessor}' lacks permission '{resource}:{access}' on \"{name}\""
            );
            let rule = MissingRule::parse(&text).unwrap();
            prop_assert_eq!(rule, MissingRule {
                resource, access, name: Some(name), accessor: Some(accessor),
            });
        }

        #[test]
        fn no_text_is_too_odd(text in "\\PC{0,300}") {
            let _ = MissingRule::parse(&text);
        }
    }
}
