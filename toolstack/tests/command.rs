//! The command itself: what it prints, and its exit status.

mod support;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    thread,
    time::Duration,
};

use support::FakeControl;
use tempfile::TempDir;
use toolstack::{
    control::Client,
    holder::{SOCKET, hub::Hub},
    line,
};

fn atoll(state: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_atoll")).args(arguments).env("ATOLL_STATE", state).output().unwrap()
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", complaint(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A state directory in which a machine seems to run.
fn machine() -> (FakeControl, TempDir) {
    let state = tempfile::tempdir().unwrap();
    let run = state.path().join("run/up");
    fs::create_dir_all(&run).unwrap();
    let order = r#"{"kind":"bochs","cores":4,"memory_mib":1024,"command_line":"","images":null}"#;
    fs::write(run.join("machine.json"), order).unwrap();
    let (fake, line) = FakeControl::start();
    let client = Client::new(line, Duration::from_secs(5), None).unwrap();
    let greeting = client.hello(Duration::from_secs(5)).unwrap();
    let listener = line::listen_unix(&run, SOCKET).unwrap();
    let hub = Hub::new(client, greeting, Duration::from_secs(5));
    thread::spawn(move || hub.serve(&listener));
    (fake, state)
}

#[test]
fn every_verb_has_help() {
    let state = tempfile::tempdir().unwrap();
    let help = printed(&atoll(state.path(), &["--help"]));
    let verbs = [
        "up", "down", "demo", "test", "list", "create", "destroy", "pause", "unpause", "console", "info",
        "dmesg", "top", "crash", "bench", "doctor", "image",
    ];
    for verb in verbs {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb} is not in the help");
        assert!(printed(&atoll(state.path(), &[verb, "--help"])).contains("Usage: atoll"));
    }
    assert!(!help.contains("__serve"));
}

#[test]
fn a_bad_description_is_refused_before_anything_starts() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("web.toml");
    fs::write(&file, "[[guest]]\nname = \"web\"\nimage = \"nothing\"\n").unwrap();
    let output = atoll(state.path(), &["up", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = complaint(&output);
    assert!(said.contains("web.toml:3: there is no image `nothing`"), "{said}");
    assert!(said.contains("remedy: the images are: hello, mesh"), "{said}");
}

#[test]
fn without_a_machine_verbs_say_so() {
    let state = tempfile::tempdir().unwrap();
    for verb in [&["list"][..], &["info"], &["down"], &["pause", "web"]] {
        let output = atoll(state.path(), verb);
        assert_eq!(output.status.code(), Some(1));
        assert!(complaint(&output).contains("no machine is running\n  remedy: start one with `atoll up`"));
    }
}

#[test]
fn lists() {
    let (_fake, state) = machine();
    let table = printed(&atoll(state.path(), &["list"]));
    assert!(table.lines().next().unwrap().contains("Name"), "{table}");
    assert!(table.lines().any(|line| line.contains("Domain-0") && line.contains("running")), "{table}");
    let json: serde_json::Value =
        serde_json::from_str(&printed(&atoll(state.path(), &["list", "--json"]))).unwrap();
    assert_eq!((&json[1]["name"], &json[1]["exits"]["cpuid"]), (&"web".into(), &1.into()));
}

#[test]
fn orders_and_questions() {
    let (fake, state) = machine();
    assert_eq!(printed(&atoll(state.path(), &["pause", "web"])), "paused web\n");
    assert!(printed(&atoll(state.path(), &["list"])).contains("paused"));
    assert_eq!(printed(&atoll(state.path(), &["dmesg"])), "atoll: a line\natoll: another\n");
    assert!(printed(&atoll(state.path(), &["info", "--audit"])).contains("0 leaked"));
    assert!(printed(&atoll(state.path(), &["crash", "web"])).contains("triple fault"));
    fake.print(b"moin\n");
    assert_eq!(printed(&atoll(state.path(), &["console", "web", "--dump"])), "moin\n");
    let output = atoll(state.path(), &["destroy", "nobody"]);
    assert!(complaint(&output).contains("there is no domain `nobody`\n  remedy: see the list"));
}

#[test]
fn creates_what_a_file_describes() {
    let (_fake, state) = machine();
    let file = state.path().join("more.toml");
    fs::write(&file, "[[guest]]\nname = \"more\"\nimage = \"hello\"\ncore = 2\nmemory_mib = 4\n").unwrap();
    let created = printed(&atoll(state.path(), &["create", file.to_str().unwrap(), "--json"]));
    let created: serde_json::Value = serde_json::from_str(&created).unwrap();
    assert_eq!((&created[0]["name"], &created[0]["cores"]), (&"more".into(), &serde_json::json!([2])));
    assert!(printed(&atoll(state.path(), &["list"])).contains("more"));
    fs::write(&file, "[[guest]]\nname = \"more\"\nimage = \"hello\"\ncore = 9\n").unwrap();
    let output = atoll(state.path(), &["create", file.to_str().unwrap()]);
    assert!(complaint(&output).contains("more.toml:4: there is no core 9"), "{}", complaint(&output));
}

#[test]
fn doctor_speaks_json() {
    let state = tempfile::tempdir().unwrap();
    let json: serde_json::Value =
        serde_json::from_str(&printed(&atoll(state.path(), &["doctor", "--json"]))).unwrap();
    assert_eq!(json["machines"].as_array().unwrap().len(), 4);
    assert!(json["findings"].as_array().unwrap().iter().any(|finding| finding["name"] == "Bochs"));
}

#[test]
fn an_unknown_verb_is_an_error_of_its_own() {
    let state = tempfile::tempdir().unwrap();
    assert_eq!(atoll(state.path(), &["frobnicate"]).status.code(), Some(2));
}
