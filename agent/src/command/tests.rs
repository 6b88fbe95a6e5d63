//! Tests with real processes.

use calvin_proto::machine::ProcessId;

use super::*;

const LONG: Duration = Duration::from_secs(20);

fn shell(script: &str) -> CommandSpec {
    CommandSpec {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".into())]),
        directory: "/".into(),
    }
}

async fn gone(pid: i32) {
    let ends = async {
        while ProcessId::of(pid).is_some() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LONG, ends)
        .await
        .expect("it is still there");
}

async fn pid_in(path: &Path) -> i32 {
    let read = async {
        loop {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            if let Some(pid) = text.strip_suffix('\n').and_then(|text| text.parse().ok()) {
                return pid;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LONG, read)
        .await
        .expect("no pid was written")
}

#[tokio::test]
async fn the_exit_code_and_both_streams_are_seen_in_order() {
    let outcome = run_command(&shell("echo one; echo two >&2; echo three; exit 3"), LONG).await;
    assert!(matches!(outcome.end, CommandEnd::Ended(End::Exited(3))));
    assert_eq!(outcome.output, "one\ntwo\nthree\n");
    assert!(!outcome.passed());
    assert!(run_command(&shell("exit 0"), LONG).await.passed());
}

#[tokio::test]
async fn a_hung_command_is_killed_with_its_children() {
    let outcome = run_command(
        &shell("sleep 600 & echo $!; wait"),
        Duration::from_millis(200),
    )
    .await;
    assert!(
        matches!(outcome.end, CommandEnd::TimedOut(Killed::Gone)),
        "{outcome:?}"
    );
    gone(outcome.output.trim().parse().unwrap()).await;
}

#[tokio::test]
async fn a_command_that_cannot_be_killed_holds_nothing_up_and_is_not_started_twice() {
    let hung = shell("sleep 600; : waits in the kernel");
    let (gone, release) = tokio::sync::oneshot::channel::<()>();
    let limit = Duration::from_millis(100);
    let outcome = run_with(&hung, limit, |mut group| async move {
        let end = group.reap().await;
        // As if it had not been: state D cannot be made here.
        let _ = release.await;
        end
    });
    let outcome = tokio::time::timeout(LONG, outcome).await.unwrap();
    assert!(
        matches!(outcome.end, CommandEnd::TimedOut(Killed::WaitsInKernel)),
        "{outcome:?}"
    );
    let words = crate::health::why(&outcome);
    assert!(words.contains("it waits in the kernel"), "{words}");
    let again = run_command(&hung, limit).await;
    assert!(
        matches!(again.end, CommandEnd::NotStarted(_)),
        "it would hang too: {again:?}"
    );
    assert!(run_command(&shell("exit 0"), LONG).await.passed());
    drop(gone);
    let until_it_runs = async {
        while !matches!(
            run_command(&hung, limit).await.end,
            CommandEnd::TimedOut(Killed::Gone)
        ) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, until_it_runs).await.unwrap();
}

#[tokio::test]
async fn a_child_left_behind_is_killed_when_its_parent_ends_well() {
    let outcome = run_command(&shell("sleep 600 & echo $!"), LONG).await;
    assert!(outcome.passed(), "{outcome:?}");
    assert!(outcome.took < LONG);
    gone(outcome.output.trim().parse().unwrap()).await;
}

#[tokio::test]
async fn a_command_that_nobody_waits_for_any_more_is_killed_with_its_children() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("pid");
    let spec = shell(&format!("sleep 600 & echo $! > {}; wait", file.display()));
    let run = tokio::spawn(async move { run_command(&spec, LONG).await });
    let child = pid_in(&file).await;
    run.abort();
    gone(child).await;
}

#[tokio::test]
async fn the_newest_output_is_kept_and_the_rest_counted() {
    let outcome = run_command(&shell("head -c 1000000 /dev/zero; echo end"), LONG).await;
    assert!(outcome.output.ends_with("end\n"));
    assert_eq!(
        outcome.output.len() as u64 + outcome.output_dropped,
        1_000_004
    );
    assert_eq!(outcome.output.len(), OUTPUT_BYTES_MAX);
}

#[tokio::test]
async fn a_program_that_is_not_there_is_not_started() {
    let spec = CommandSpec {
        program: "/nowhere/at/all".into(),
        ..shell("")
    };
    let outcome = run_command(&spec, LONG).await;
    assert!(
        matches!(&outcome.end, CommandEnd::NotStarted(error) if error.kind() == io::ErrorKind::NotFound)
    );
}

#[tokio::test]
async fn a_command_may_open_as_many_files_as_the_agent_was_started_with() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limits = getrlimit(Resource::Nofile);
    // Enough for the tests beside this one.
    let low = Rlimit {
        current: Some(512),
        ..limits
    };
    setrlimit(Resource::Nofile, low).unwrap();
    calvin_proto::machine::descriptors::raise_limit().unwrap();
    let outcome = run_command(&shell("ulimit -Sn"), LONG).await;
    assert_eq!(outcome.output, "512\n");
}
