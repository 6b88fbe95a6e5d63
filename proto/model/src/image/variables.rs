//! The variables that arguments of an image's commands may name, as `${CALVIN_ADDRESS}`. The agent
//! fills them in when it runs a command; a slip in a name is found here, when the file is read.

use crate::config::nearest;

/// The variables, in the order of their names.
pub const VARIABLES: [&str; 6] = [
    "CALVIN_ADDRESS",
    "CALVIN_DNS",
    "CALVIN_DOMAIN",
    "CALVIN_ENVIRONMENT",
    "CALVIN_FLEET",
    "CALVIN_INSTANCE",
];

/// What begins a variable that is ours to fill in. Other dollars stay as they are.
const OPENING: &str = "${CALVIN_";

/// What is wrong with the first variable in these arguments that is none.
pub(super) fn fault(arguments: &[String]) -> Option<String> {
    arguments.iter().find_map(|argument| {
        let names = argument
            .match_indices(OPENING)
            .map(|(at, _)| &argument[at + 2..]);
        names
            .map(|rest| rest.split_once('}').map_or(Err(rest), |(name, _)| Ok(name)))
            .find_map(|name| match name {
                Ok(name) if VARIABLES.contains(&name) => None,
                Ok(name) => Some(format!(
                    "names ${{{name}}}, which is no variable; {}",
                    instead(name)
                )),
                Err(_) => Some(format!(
                    "holds {argument:?}, where a variable has no }} at its end"
                )),
            })
    })
}

fn instead(name: &str) -> String {
    nearest(name, VARIABLES).map_or_else(
        || format!("there are {}", VARIABLES.join(", ")),
        |near| format!("did you mean ${{{near}}}?"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_in_a_variable_is_named_and_other_dollars_are_not_ours() {
        let fault = |text: &str| fault(&["run".to_owned(), text.to_owned()]);
        for good in [
            "${CALVIN_ADDRESS}:80/${CALVIN_FLEET}",
            "$HOME ${X} $ ${",
            "",
        ] {
            assert_eq!(fault(good), None, "{good}");
        }
        let slip = fault("${CALVIN_DNS} ${CALVIN_ADRESS}").unwrap();
        assert!(slip.contains("did you mean ${CALVIN_ADDRESS}?"), "{slip}");
        let slip = fault("${CALVIN_ADDRESS").unwrap();
        assert!(slip.contains("no } at its end"), "{slip}");
        let slip = fault("${CALVIN_}").unwrap();
        assert!(slip.contains("${CALVIN_}"), "{slip}");
    }
}
