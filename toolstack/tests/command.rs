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
        "up",
        "down",
        "demo",
        "test",
        "list",
        "create",
        "destroy",
        "pause",
        "unpause",
        "core",
        "console",
        "shutdown",
        "reboot",
        "xenstore-ls",
        "xenstore-read",
        "xenstore-write",
        "xenstore-rm",
        "info",
        "lab",
        "dmesg",
        "top",
        "crash",
        "bench",
        "doctor",
        "image",
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
    assert!(printed(&atoll(state.path(), &["info"])).contains("4: 0 Domain-0, 1 web, 2 idle, 3 idle"));
    assert_eq!(printed(&atoll(state.path(), &["dmesg"])), "atoll: a line\natoll: another\n");
    assert!(printed(&atoll(state.path(), &["info", "--audit"])).contains("0 leaked"));
    let as_is = printed(&atoll(state.path(), &["info", "topology", "--as-is"]));
    assert!(as_is.contains("No latencies") && as_is.contains("1: APIC id 1, web"), "{as_is}");
    assert!(printed(&atoll(state.path(), &["info", "topology"])).contains("1,234"));
    let ask = |question| atoll(state.path(), &["info", "topology", "--ask", question]);
    assert_eq!(printed(&ask("same_package(2, B)")), "B\n3\n");
    assert_eq!(printed(&ask("latency(1, 2, 1234), not same_package(1, 2)")), "yes\n");
    assert!(complaint(&ask("same_package(2, B")).contains("the text ends where a `)` should be"));
    let crash = printed(&atoll(state.path(), &["crash", "web"]));
    assert!(crash.contains("triple fault: ud2"), "{crash}");
    fake.print(b"moin\n");
    assert_eq!(printed(&atoll(state.path(), &["console", "web", "--dump"])), "moin\n");
    let output = atoll(state.path(), &["destroy", "nobody"]);
    assert!(complaint(&output).contains("there is no domain `nobody`\n  remedy: see the list"));
}

#[test]
fn cores_go_and_come() {
    let (_control, state) = machine();
    let core = |arguments: &[&str]| atoll(state.path(), &[&["core"], arguments].concat());
    let off = printed(&core(&["offline", "1"]));
    assert_eq!(off, "core 1 is offline, and keeps web, which suspended itself: 123,456 ticks\n");
    assert!(printed(&core(&["list"])).contains("keeps web"));
    let list: serde_json::Value = serde_json::from_str(&printed(&core(&["list", "--json"]))).unwrap();
    assert_eq!((&list[0]["online"], &list[1]["keeps"]["how"]), (&true.into(), &"suspended".into()));
    assert_eq!(printed(&core(&["online", "1"])), "core 1 is online with web: 7,000 ticks\n");
    let json: serde_json::Value = serde_json::from_str(&printed(&core(&["offline", "1", "--json"]))).unwrap();
    assert_eq!((&json["ticks"], &json["keeps"]["guest"]), (&123_456.into(), &"web".into()));
    assert_eq!(printed(&core(&["online", "1", "--empty"])), "core 1 is online: 7,000 ticks\n");
    assert!(complaint(&core(&["offline", "0"])).contains("core 0 stays online"));
    assert!(complaint(&core(&["online", "1", "--empty", "--guest", "web"])).contains("cannot be used with"));
}

#[test]
fn kernels_are_replaced() {
    let (_control, state) = machine();
    let replace = |arguments: &[&str]| atoll(state.path(), &[&["core", "replace", "1"], arguments].concat());
    assert_eq!(
        printed(&replace(&["successor"])),
        "core 1 has another kernel, successor, which goes on as web: 1,234 bytes, 2,345,678 ticks, of which 256,000 without \
         a kernel\n"
    );
    let json: serde_json::Value = serde_json::from_str(&printed(&replace(&["--json"]))).unwrap();
    assert_eq!((&json["image"], &json["pause_ticks"]), (&"hello".into(), &256_000.into()));
    assert!(
        complaint(&replace(&["--command-line", "it panicked"])).contains("it panicked; the old one goes on")
    );
    assert!(complaint(&replace(&["./no/such/file"])).contains("no/such/file"));
}

#[test]
fn labs_need_no_machine() {
    let state = tempfile::tempdir().unwrap();
    let list = printed(&atoll(state.path(), &["lab"]));
    assert!(list.contains("shared-memory") && list.contains("hotplug"), "{list}");
    let complaint = complaint(&atoll(state.path(), &["lab", "nothing"]));
    assert!(complaint.contains("choose one of: shared-memory"), "{complaint}");
    let (csv, report) = (state.path().join("x.csv"), state.path().join("x.html"));
    let files = ["--csv", csv.to_str().unwrap(), "--report", report.to_str().unwrap()];
    let lab = atoll(state.path(), &[&["lab", "counters", "--quick", "--json"], &files[..]].concat());
    let found: serde_json::Value = serde_json::from_str(&printed(&lab)).unwrap();
    assert_eq!((&found["lab"], &found["panels"][0]["label"]), (&"counters".into(), &"hosted".into()));
    assert_eq!(found["panels"][1]["label"], "shape");
    assert!(found["verdicts"].as_array().is_some_and(|verdicts| verdicts.len() == 3));
    assert!(fs::read_to_string(csv).unwrap().starts_with("lab,panel,series,x,"));
    assert!(fs::read_to_string(report).unwrap().contains("<svg"));
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
fn a_kernel_is_uploaded_once() {
    let (fake, state) = machine();
    let file = |name: &str, content: &[u8]| {
        let path = state.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let kernel = file("vmlinuz-6", &[&[0; 0x202][..], b"HdrS", &[7; 20_000]].concat());
    let ramdisk = file("initrd", b"a ramdisk");
    let words = [
        "create",
        "--kernel",
        &kernel,
        "--ramdisk",
        &ramdisk,
        "--extra",
        "console=hvc0 a=\"b\"",
        "--vcpus",
        "2",
    ];
    let said = printed(&atoll(state.path(), &words));
    assert!(said.contains("uploaded initrd: 9 bytes in"), "{said}");
    assert!(said.contains("uploaded vmlinuz-6: 20,518 bytes in"), "{said}");
    assert!(said.contains("created vmlinuz: domain 2 on"), "{said}");
    assert_eq!(fake.memory.lock().unwrap().pieces, 1 + 3);
    let guest = fake.memory.lock().unwrap().created[0].clone();
    assert_eq!((guest.image.as_str(), guest.ramdisk.as_deref()), ("vmlinuz-6", Some("initrd")));
    assert_eq!((guest.vcpus, guest.mesh, guest.memory_mib), (2, false, 256));
    assert_eq!(guest.command_line, "console=hvc0 a=\"b\"");

    let again = printed(&atoll(state.path(), &[&words[..], &["--name", "two", "--json"]].concat()));
    let again: serde_json::Value = serde_json::from_str(&again).unwrap();
    assert_eq!((&again[0]["name"], &again[0]["images"][1]["milliseconds"]), (&"two".into(), &().into()));
    assert_eq!(fake.memory.lock().unwrap().pieces, 4, "what is there is not sent again");

    let list = printed(&atoll(state.path(), &["image", "list"]));
    assert!(
        list.lines().any(|line| line.starts_with("vmlinuz-6") && line.contains("20,518  upload")),
        "{list}"
    );
    assert_eq!(printed(&atoll(state.path(), &["image", "rm", "initrd"])), "removed initrd\n");
    assert!(
        complaint(&atoll(state.path(), &["image", "rm", "initrd"])).contains("there is no image `initrd`")
    );

    // By the transfer disk, which takes more at a time.
    fake.memory.lock().unwrap().disk = Some(state.path().join("run/up/transfer.img"));
    fs::write(state.path().join("run/up/transfer.img"), [0; 512]).unwrap();
    let other = file("other", &[&[0; 0x202][..], b"HdrS", &[8; 20_000]].concat());
    printed(&atoll(state.path(), &["create", "--kernel", &other]));
    assert_eq!(fake.memory.lock().unwrap().pieces, 5);
    assert!(fake.memory.lock().unwrap().uploaded["other"].0.ends_with(&[8; 20_000]));

    fake.memory.lock().unwrap().damages_uploads = true;
    let output = atoll(state.path(), &words);
    assert!(complaint(&output).contains("initrd: image `initrd` came damaged"), "{}", complaint(&output));
    let output = atoll(state.path(), &["create", "--kernel", &ramdisk]);
    assert!(complaint(&output).contains("--kernel: "), "{}", complaint(&output));
    assert!(complaint(&atoll(state.path(), &["create"])).contains("nothing says what to create"));
}

#[test]
fn guests_are_asked_to_stop() {
    let (_fake, state) = machine();
    assert_eq!(printed(&atoll(state.path(), &["shutdown", "web"])), "asked web to shutdown\n");
    let (_fake, state) = machine();
    assert_eq!(printed(&atoll(state.path(), &["shutdown", "-w", "web"])), "web: shutdown (poweroff)\n");
    let (fake, state) = machine();
    assert_eq!(printed(&atoll(state.path(), &["reboot", "-w", "web"])), "web: restarted as domain 7\n");
    fake.memory.lock().unwrap().deaf = true;
    let output = atoll(state.path(), &["shutdown", "-w", "web", "--timeout", "1"]);
    assert!(complaint(&output).contains("still runs after 1 s\n  remedy: see `atoll console web`"));
    let json: serde_json::Value =
        serde_json::from_str(&printed(&atoll(state.path(), &["shutdown", "web", "--json"]))).unwrap();
    assert_eq!((&json["asked"], &json["became"]), (&"shutdown".into(), &().into()));
}

#[test]
fn xenstore_is_read_and_written() {
    let (_fake, state) = machine();
    let words = ["xenstore-write", "/a/b", "one", "/a/c", "two", "/a/d", "-3"];
    printed(&atoll(state.path(), &words));
    assert_eq!(printed(&atoll(state.path(), &["xenstore-read", "/a/c", "/a/d"])), "two\n-3\n");
    let list = printed(&atoll(state.path(), &["xenstore-ls", "-fp", "/"]));
    assert_eq!(list, "/a/b = \"one\"   (n0)\n/a/c = \"two\"   (n0)\n/a/d = \"-3\"   (n0)\n");
    printed(&atoll(state.path(), &["xenstore-rm", "/a/b"]));
    let json: serde_json::Value =
        serde_json::from_str(&printed(&atoll(state.path(), &["xenstore-ls", "--json"]))).unwrap();
    assert_eq!((&json[0]["path"], &json[0]["value"]), (&"/".into(), &"".into()));
    assert_eq!(json[1]["path"], "/a/c");
    let output = atoll(state.path(), &["xenstore-read", "/a/b"]);
    assert!(complaint(&output).contains("there is no node /a/b"), "{}", complaint(&output));
    assert!(
        complaint(&atoll(state.path(), &["xenstore-write", "/a", "1", "/b"])).contains("/b has no value")
    );
}

#[test]
fn a_console_can_be_scripted() {
    let (fake, state) = machine();
    fake.print(b"login: ready\n");
    assert_eq!(printed(&atoll(state.path(), &["console", "web", "--until", "ready"])), "login: ready\n");
    let output =
        atoll(state.path(), &["console", "web", "--input", "nproc", "--until", "ready", "--timeout", "1"]);
    assert!(complaint(&output).contains("web did not print `ready` within 1 s"), "{}", complaint(&output));
    assert_eq!(fake.memory.lock().unwrap().typed, b"nproc\n");
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
