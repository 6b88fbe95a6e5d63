//! What exactly is to be started: the manifest's workload with every variable filled in and every
//! path made whole, so that the runner needs to know nothing of images.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use calvin_model::{
    HumanDuration,
    image::{StopSignal, Workload},
};
use serde::{Deserialize, Serialize};

use super::variables::{UnknownVariable, Variables};

/// What to start and how to stop it. Two equal ones are one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadSpec {
    /// The program: a path, or a name that is looked up in its environment's `PATH`.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// Its working directory.
    pub directory: PathBuf,
    /// How it is asked to stop when the machine stops.
    pub stop_signal: StopSignal,
    /// How long it may take to stop before its whole process group is killed.
    pub stop_timeout: HumanDuration,
    /// First pause before it is started again after it ended by itself; doubles.
    pub restart_min: HumanDuration,
    /// Longest pause.
    pub restart_max: HumanDuration,
    /// It runs only while there is a lease for its work, and is killed when that is over. Left out
    /// where it needs none, as a runner that knows of none has it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub needs_lease: bool,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands a reference over"
)]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Why a manifest's workload cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Its command holds no program.
    #[error("the workload's command is empty")]
    NoProgram,
    /// Its command names a variable that there is not.
    #[error(transparent)]
    Variable(#[from] UnknownVariable),
    /// A value of its environment is not text.
    #[error("{name} is not UTF-8 and cannot be handed to the workload")]
    NotText {
        /// The variable.
        name: String,
    },
}

impl WorkloadSpec {
    /// The spec of an image's workload, for a machine whose image lies in `image`.
    ///
    /// # Errors
    /// A command without a program, or with a variable that there is not.
    pub fn new(
        workload: &Workload,
        variables: &Variables,
        image: &Path,
    ) -> Result<Self, SpecError> {
        let mut words = workload
            .command
            .iter()
            .map(|word| variables.fill_in(word))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter();
        let program = words
            .next()
            .filter(|program| !program.is_empty())
            .ok_or(SpecError::NoProgram)?;
        let env = variables
            .environment(&workload.env)
            .into_iter()
            .map(|(name, value)| match value.into_string() {
                Ok(value) => Ok((name, value)),
                Err(_) => Err(SpecError::NotText { name }),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            program: resolve(&program, image),
            arguments: words.collect(),
            env,
            directory: image.to_owned(),
            stop_signal: workload.stop_signal,
            stop_timeout: workload.stop_timeout,
            restart_min: workload.restart_min,
            restart_max: workload.restart_max,
            needs_lease: false,
        })
    }
}

/// A program with a slash is taken from the image's directory; one without is looked up.
pub(crate) fn resolve(program: &str, image: &Path) -> PathBuf {
    if program.contains('/') {
        image.join(program)
    } else {
        PathBuf::from(program)
    }
}

#[cfg(test)]
mod tests {
    use calvin_model::{ImageManifest, Provision};

    use super::*;

    fn manifest(command: &str) -> ImageManifest {
        let text = format!(
            "name = \"web\"\nversion = \"1.0\"\n[workload]\ncommand = {command}\nenv = {{ A = \"b\" }}\n"
        );
        ImageManifest::parse("image.toml", &text).unwrap()
    }

    fn spec(command: &str) -> WorkloadSpec {
        spec_of(manifest(command)).unwrap()
    }

    fn spec_of(manifest: ImageManifest) -> Result<WorkloadSpec, SpecError> {
        let provision = "environment = \"build\"\ninstance = \"web-a\"\nfleet = \"web\"\n\
            coordinators = [\"127.0.0.1:1\"]\ndomain = \"d\"\naddress = \"127.9.0.1\"\n\
            join_token = \"\"\nca_pem = \"\"\n[image]\ntag = \"web@1.0\"\ndigest = \"sha256:";
        let provision = format!("{provision}{}\"\n", "01".repeat(32));
        let provision = Provision::parse("provision.toml", &provision).unwrap();
        let variables = Variables::new(&provision, Path::new("/m"));
        WorkloadSpec::new(
            &manifest.workload.unwrap(),
            &variables,
            Path::new("/m/image"),
        )
    }

    #[test]
    fn a_program_with_a_slash_comes_from_the_image_and_one_without_from_the_path() {
        let program = |command: &str| spec(command).program;
        assert_eq!(program(r#"["bin/web"]"#), Path::new("/m/image/bin/web"));
        assert_eq!(program(r#"["/bin/web"]"#), Path::new("/bin/web"));
        assert_eq!(program(r#"["web"]"#), Path::new("web"));
    }

    #[test]
    fn arguments_are_filled_in_and_the_images_variables_are_added() {
        let spec = spec(r#"["web", "${CALVIN_ADDRESS}:80"]"#);
        assert_eq!(spec.arguments, ["127.9.0.1:80"]);
        assert_eq!(spec.env["A"], "b");
        assert_eq!(spec.env["CALVIN_MACHINE"], "/m");
    }

    #[test]
    fn a_lease_is_named_only_where_it_is_needed_and_absent_means_none() {
        let mut spec = spec(r#"["web"]"#);
        let text = serde_json::to_string(&spec).unwrap();
        assert!(!text.contains("lease"), "{text}");
        assert_eq!(serde_json::from_str::<WorkloadSpec>(&text).unwrap(), spec);
        spec.needs_lease = true;
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<WorkloadSpec>(&text).unwrap(), spec);
    }

    #[test]
    fn an_unknown_variable_is_refused_also_where_the_image_let_it_pass() {
        let mut manifest = manifest(r#"["web"]"#);
        let words = manifest.workload.as_mut().unwrap();
        words.command.push("${CALVIN_PORT}".into());
        let error = spec_of(manifest).unwrap_err();
        assert!(matches!(error, SpecError::Variable(_)), "{error}");
    }
}
