//! The tutorial of the README: what it shows of a command is what the command says.

use std::{env, fs, path::Path, time::Duration};

use crate::run::{bare, finish_within};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");

/// Code that is not optimised simulates minutes of a fleet, beside other tests.
const PATIENCE: Duration = Duration::from_secs(240);

/// What stands between two marks, with how long the text before it is.
fn between<'a>(text: &'a str, from: &str, to: &str) -> (usize, &'a str) {
    let begin = text.find(from).expect(from) + from.len();
    let rest = &text[begin..];
    (begin, &rest[..rest.find(to).expect(to)])
}

#[tokio::test]
async fn the_tutorial_shows_what_simulate_says_of_its_file() {
    let readme = fs::read_to_string(Path::new(README)).unwrap();
    let home = tempfile::tempdir().unwrap();
    let (_, file) = between(&readme, "cat > hello.toml <<'EOF'\n", "EOF\n");
    fs::write(home.path().join("hello.toml"), file).unwrap();
    let (_, lines) = between(&readme, "calvin simulate hello.toml | head -", " ");
    let lines: usize = lines.parse().unwrap();
    let (at, _) = between(&readme, "calvin simulate hello.toml | head -", "\n");
    let (before, shown) = between(&readme[at..], "```\n\n```\n", "```");

    let mut command = bare(home.path());
    command.args(["simulate", "hello.toml"]);
    let ended = finish_within(PATIENCE, command).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    let said: String = ended.out.split_inclusive('\n').take(lines).collect();
    if env::var_os("CALVIN_BLESS").is_some() {
        let (begin, end) = (at + before, at + before + shown.len());
        let blessed = format!("{}{said}{}", &readme[..begin], &readme[end..]);
        fs::write(README, blessed).unwrap();
        return;
    }
    assert_eq!(shown, said, "CALVIN_BLESS=1 writes it anew");
}
