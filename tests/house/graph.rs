//! The dependency graph as `cargo metadata` resolved it for the host.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Command,
};

use serde_json::Value;

/// The workspace's packages and all that they reach.
pub(crate) struct Graph {
    names: BTreeMap<String, String>,
    normal: BTreeMap<String, BTreeSet<String>>,
    members: BTreeSet<String>,
}

/// The workspace's root directory.
pub(crate) fn root() -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("tests/ is in the root").to_owned()
}

/// What `cargo` prints for these arguments.
pub(crate) fn cargo(arguments: &[&str]) -> String {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

impl Graph {
    /// Asks cargo.
    pub(crate) fn load() -> Self {
        let text = cargo(&[
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            &host_triple(),
        ]);
        let metadata: Value = serde_json::from_str(&text).expect("cargo metadata prints JSON");
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let names = list(&metadata["packages"])
            .iter()
            .map(|package| (text(&package["id"]), text(&package["name"])))
            .collect();
        let members = list(&metadata["workspace_members"])
            .iter()
            .map(text)
            .collect();
        let normal = list(&metadata["resolve"]["nodes"])
            .iter()
            .map(|node| {
                let used = list(&node["deps"])
                    .iter()
                    .filter(|dependency| {
                        list(&dependency["dep_kinds"])
                            .iter()
                            .any(|kind| kind["kind"].is_null())
                    })
                    .map(|dependency| text(&dependency["pkg"]))
                    .collect();
                (text(&node["id"]), used)
            })
            .collect();
        Self {
            names,
            normal,
            members,
        }
    }

    /// The workspace's own packages that `package` names as dependencies of what it ships.
    pub(crate) fn own_dependencies(&self, package: &str) -> BTreeSet<&str> {
        self.normal[self.id(package)]
            .iter()
            .filter(|id| self.members.contains(*id))
            .map(|id| self.names[id].as_str())
            .collect()
    }

    /// Every package that ends up in `package`, itself included.
    pub(crate) fn reached(&self, package: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut open = vec![self.id(package)];
        while let Some(id) = open.pop() {
            if reached.insert(id) {
                open.extend(self.normal[id].iter().map(String::as_str));
            }
        }
        reached
            .into_iter()
            .map(|id| self.names[id].as_str())
            .collect()
    }

    /// The workspace's packages.
    pub(crate) fn members(&self) -> BTreeSet<&str> {
        self.members
            .iter()
            .map(|id| self.names[id].as_str())
            .collect()
    }

    /// How many packages of this name are in the lock file's resolution.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.names.values().filter(|known| *known == name).count()
    }

    fn id(&self, package: &str) -> &str {
        self.members
            .iter()
            .find(|id| self.names[*id] == package)
            .unwrap_or_else(|| panic!("{package} is not in the workspace"))
    }
}

fn host_triple() -> String {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let output = Command::new(rustc).arg("-vV").output().expect("rustc runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("rustc -vV names its host")
        .to_owned()
}
