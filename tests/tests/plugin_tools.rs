//! `metareward plugin` and `metareward rate` as a plugin's author meets them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    env,
    ffi::OsStr,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

use metareward_tests::{forms, metareward, root, shared_data, text};
use serde_json::{Value, json};

const KINDS: [&str; 7] = ["task", "sampler", "rubric", "meta-judge", "ranker", "selector", "optimizer"];

/// Where generated plugins lie and are built: one target folder, so that their dependencies are built once.
fn workshop() -> PathBuf {
    root().join("target/plugin-new")
}

fn command<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = metareward(arguments);
    command.env("XDG_CACHE_HOME", workshop().join("cache"));
    command
}

fn run<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Output {
    command(arguments).output().unwrap()
}

/// What a command that succeeds prints.
fn prints<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> String {
    let output = run(arguments);
    let (out, messages) = text(&output);
    assert!(output.status.success(), "{out}{messages}");
    out
}

fn json_of(out: &str) -> Value {
    serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}\n{out}"))
}

/// Fails with this exit code and says all of `parts`.
fn refuses<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>, code: i32, parts: &[&str]) {
    let output = run(arguments);
    let (_, messages) = text(&output);
    assert_eq!(output.status.code(), Some(code), "{messages}");
    for part in parts {
        assert!(messages.contains(part), "{part:?} is not in\n{messages}");
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A folder with a freshly generated plugin in Rust, named after its kind; the same folder every time, so that a second
/// build finds what the first one made.
fn generated(kind: &str, name: &str) -> PathBuf {
    let folder = workshop().join("sources").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    prints(["plugin", "new", "--kind", kind, "--language", "rust", path(&folder)]);
    // The versions that the workspace is built with: no network is needed, and the result is the same tomorrow.
    fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    folder
}

fn cargo(folder: &Path, arguments: &[&str]) {
    // One at a time: they share the target folder.
    static LOCK: Mutex<()> = Mutex::new(());
    let _one = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(folder).args(arguments).args(["--quiet", "--target-dir"]).arg(workshop());
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?} in {}:\n{}", folder.display(), text(&output).1);
}

/// Builds a generated plugin as its README says.
fn component(folder: &Path) -> PathBuf {
    cargo(folder, &["build", "--release", "--target", forms::COMPONENT_TARGET]);
    let name = folder.file_name().unwrap().to_str().unwrap().replace('-', "_");
    workshop().join(forms::COMPONENT_TARGET).join("release").join(format!("{name}.wasm"))
}

/// The generated ranker, built once.
fn ranker() -> &'static Path {
    static RANKER: OnceLock<PathBuf> = OnceLock::new();
    RANKER.get_or_init(|| component(&generated("ranker", "new-ranker")))
}

#[test]
fn list_shows_what_is_built_in_and_what_is_found() {
    let scratch = tempfile::tempdir().unwrap();
    let own = scratch.path().join("plugins/mine");
    fs::create_dir_all(&own).unwrap();
    let forms = forms::by_package()["ranker-win-rate"];
    fs::copy(&forms.component, own.join("mine.wasm")).unwrap();
    fs::copy(&forms.library, scratch.path().join("plugins/mine.so")).unwrap();
    fs::write(scratch.path().join("plugins/broken.wasm"), "no component").unwrap();
    fs::write(scratch.path().join("plugins/notes.txt"), "not looked at").unwrap();

    let list = |arguments: &[&str]| {
        let mut command = command(["--json", "plugin", "list"].into_iter().chain(arguments.iter().copied()));
        let output = command.current_dir(scratch.path()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output).1);
        json_of(&text(&output).0)
    };
    // The folder `plugins` is looked in without being asked, and so are the folders in it.
    let found = list(&[]);
    let entries = found["plugins"].as_array().unwrap();
    for (kind, name) in [("task", "tiny-world"), ("ranker", "elo"), ("optimizer", "dpo"), ("sampler", "nucleus")] {
        let is = |entry: &&Value| entry["kind"] == kind && entry["name"] == name && entry["form"] == "built in";
        assert_eq!(entries.iter().filter(is).count(), 1, "{kind} {name}");
    }
    let files: Vec<&Value> = entries.iter().filter(|entry| !entry["file"].is_null()).collect();
    let said: Vec<[&Value; 4]> =
        files.iter().map(|file| ["kind", "name", "form", "api_version"].map(|key| &file[key])).collect();
    assert_eq!(
        said,
        [
            [&json!("ranker"), &json!("win-rate"), &json!("component"), &json!("0.1.0")],
            // A library is not run to be listed: its name is its package's.
            [&json!("ranker"), &json!("ranker-win-rate"), &json!("library"), &json!("0.1.0")],
        ]
    );
    assert!(files.iter().all(|file| file["sha256"].as_str().unwrap().len() == 64));
    let unusable = found["unusable"].as_array().unwrap();
    assert_eq!(unusable.len(), 1, "{unusable:?}");
    assert_eq!(unusable[0]["file"], "plugins/broken.wasm");
    assert!(unusable[0]["reason"].as_str().unwrap().contains("is no WASM component"), "{unusable:?}");

    // Kinds, folders and files that are named; a file that is not there is a reason, not an end.
    let rubrics = list(&["--kind", "rubric"]);
    assert!(rubrics["plugins"].as_array().unwrap().iter().all(|entry| entry["kind"] == "rubric"));
    let named = list(&["--kind", "ranker", "plugins/mine", "absent.wasm"]);
    let components = named["plugins"].as_array().unwrap().iter().filter(|entry| entry["form"] == "component").count();
    assert_eq!(components, 1, "a file that is found twice is listed once");
    assert!(named["unusable"].as_array().unwrap().iter().any(|file| file["file"] == "absent.wasm"));

    // An experiment's folders are relative to it.
    let experiment = scratch.path().join("trial");
    fs::create_dir(&experiment).unwrap();
    let config = "name = \"trial\"\nmodel.path = \"model\"\nplugins.folders = [\"../plugins/mine\"]\n";
    fs::write(experiment.join("experiment.toml"), config).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let output =
        command(["plugin", "list", "--experiment", path(&experiment)]).current_dir(elsewhere.path()).output().unwrap();
    let (people, messages) = text(&output);
    assert!(output.status.success(), "{messages}");
    let line = people.lines().find(|line| line.contains("mine.wasm")).unwrap_or_else(|| panic!("{people}"));
    for part in ["ranker", "win-rate", "component", "0.1.0"] {
        assert!(line.contains(part), "{line}");
    }
    refuses(["plugin", "list", "--kind", "rankers"], 2, &["kinds are task, sampler"]);
}

#[test]
fn info_tells_options_limits_and_laws() {
    let info = json_of(&prints(["--json", "plugin", "info", "length-control"]));
    assert_eq!(info["plugin"]["info"]["kind"], "selector");
    assert_eq!(info["plugin"]["form"], "built-in");
    assert_eq!(info["plugin"]["options"]["properties"]["rho"]["default"], 0.0);
    assert!(info["limits"].is_null());
    assert!(info["laws"].as_array().unwrap().len() > 5);

    let people = prints(["plugin", "info", path(ranker())]);
    for part in [
        "kind      ranker",
        "name      new-ranker",
        "form      component",
        "api       0.1.0",
        "20000000000 instructions and 512 MiB",
        "prior: a number above 0.0, default 1.0",
        "few battles then say less than many",
        "relabelling the players relabels the ratings",
    ] {
        assert!(people.contains(part), "{part:?} is not in\n{people}");
    }
    let info = json_of(&prints(["--json", "plugin", "info", path(ranker()), "--fuel", "50000000"]));
    assert_eq!(info["limits"], json!({ "fuel": 50000000, "memory_mib": 512 }));

    refuses(["plugin", "info", "ello"], 2, &["no built-in plugin is named `ello`", "did you mean `elo`?"]);
    refuses(["plugin", "info", "elo", "--kind", "selector"], 2, &["unknown selector `elo`"]);
    refuses(["plugin", "info", path(ranker()), "--kind", "rubric"], 2, &["is a ranker, where a rubric is wanted"]);
    refuses(["plugin", "info", "absent.wasm"], 2, &["plugin absent.wasm", "cannot be read"]);
    refuses(["plugin", "info", "core/api/Cargo.toml"], 2, &["neither a component (.wasm) nor a dynamic library"]);
}

#[test]
fn check_holds_plugins_to_the_laws_and_repeats_by_seed() {
    let check = ["--json", "plugin", "check", "length-control", "--cases", "24", "--seed", "7"];
    let report = prints(check);
    assert_eq!(report, prints(check), "the same seed gives the same report");
    let report = json_of(&report);
    assert_eq!(report["held"], true);
    assert_eq!((&report["cases"], &report["seed"]), (&json!(24), &json!(7)));
    let laws = report["laws"].as_array().unwrap();
    let found = |words: &str| laws.iter().find(|law| law["law"].as_str().unwrap().contains(words)).unwrap();
    assert_eq!(found("a larger rho never lengthens")["finding"]["result"], "held", "laws between several rho");
    assert_eq!(found("options round-trip")["finding"]["result"], "held", "laws of options");
    assert_eq!(found("no chosen text is over the limit")["finding"]["result"], "not-checked");

    let options = ["plugin", "check", "length-control", "--cases", "8", "--options"];
    let with = |given: &'static str| options.into_iter().chain([given]);
    let people = prints(with("{\"max_chosen_length\": 50}"));
    assert!(people.contains("held         no chosen text is over the limit"), "{people}");
    assert!(people.contains("to repeat: metareward plugin check length-control --options '{"), "{people}");
    refuses(with("{\"rho\": 2}"), 2, &["option `rho`: expected a number from 0 to 1"]);
    refuses(with("[]"), 2, &["--options is no JSON object"]);
}

#[test]
fn every_kind_that_is_built_in_passes() {
    for name in ["tiny-world", "nucleus", "additive", "pairwise", "bradley-terry", "threshold", "simpo"] {
        let out = prints(["plugin", "check", name, "--cases", "6"]);
        assert!(out.contains(" 0 broken,"), "{name}: {out}");
    }
}

#[test]
fn a_library_runs_only_when_something_vouches_for_it() {
    let forms = forms::by_package()["ranker-win-rate"];
    let library = path(&forms.library);
    refuses(["plugin", "check", library], 2, &["runs with your rights", "--sha256", "--trust"]);
    refuses(["plugin", "info", library, "--sha256", &"0".repeat(64)], 2, &["has sha256", "000000"]);
    refuses(["rate", "absent.csv", "--ranker", library], 2, &["runs with your rights"]);
    let list = json_of(&prints(["--json", "plugin", "list", "--kind", "ranker", library]));
    let entry = list["plugins"].as_array().unwrap().iter().find(|entry| entry["file"] == library).unwrap();
    let info = prints(["plugin", "info", library, "--sha256", entry["sha256"].as_str().unwrap()]);
    assert!(info.contains("form      library") && info.contains("runs with your rights"), "{info}");

    // All three forms of one source answer alike.
    for other in [path(&forms.component), "win-rate"] {
        let out = prints(["plugin", "check", library, "--trust", "--cases", "16", "--same-as", other]);
        assert!(out.contains("held         the same in every form"), "{out}");
    }
    let output = run(["plugin", "check", "win-rate", "--cases", "16", "--same-as", "elo", "--kind", "ranker"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).0.contains("BROKEN       the same in every form"), "{}", text(&output).0);
}

#[test]
fn new_plugins_in_rust_build_and_pass_as_they_are() {
    for kind in KINDS {
        let folder = generated(kind, &format!("new-{kind}"));
        cargo(&folder, &["check", "--tests"]);
    }
    for (file, kind) in [(ranker().to_owned(), "ranker"), (component(&generated("rubric", "new-rubric")), "rubric")] {
        let out = prints(["plugin", "check", path(&file), "--cases", "24"]);
        assert!(out.starts_with(&format!("{kind} new-{kind} 0.1.0 (component)")), "{out}");
        assert!(out.contains(" 0 broken,"), "{out}");
    }
}

#[test]
fn a_broken_law_is_shown_with_its_smallest_case_and_can_be_repeated() {
    let folder = generated("ranker", "new-ranker-upside-down");
    let source = folder.join("src/lib.rs");
    let code = fs::read_to_string(&source).unwrap();
    let wrong = code.replace("pair.low_wins - pair.high_wins", "pair.high_wins.abs()");
    assert_ne!(code, wrong);
    fs::write(&source, wrong).unwrap();
    let file = component(&folder);
    let arguments = ["plugin", "check", path(&file), "--cases", "64", "--seed", "3"];
    let output = run(arguments);
    let (out, messages) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{out}{messages}");
    assert!(messages.is_empty(), "a broken law is an answer, not an error: {messages}");
    for part in ["BROKEN       relabelling the players relabels the ratings", "smallest case: ", "--cases 64 --seed 3"]
    {
        assert!(out.contains(part), "{part:?} is not in\n{out}");
    }
    // What is printed to repeat it repeats it.
    let again = out.lines().find_map(|line| line.strip_prefix("to repeat: metareward ")).unwrap();
    assert_eq!(text(&run(again.split(' '))).0, out);
    let report = run(["--json"].into_iter().chain(arguments));
    assert_eq!(report.status.code(), Some(1));
    let report = json_of(&text(&report).0);
    assert_eq!(report["held"], false);
    let broken = |law: &&Value| law["finding"]["result"] == "broken";
    let law = report["laws"].as_array().unwrap().iter().find(broken).unwrap();
    assert!(law["finding"]["detail"]["counterexample"].as_str().unwrap().contains("players"), "{law}");
}

#[test]
fn new_refuses_bad_names_and_full_folders() {
    let scratch = tempfile::tempdir().unwrap();
    let new = |folder: &str, extra: &[&str]| {
        let folder = scratch.path().join(folder);
        let mut arguments: Vec<String> =
            ["plugin", "new", "--kind", "ranker", "--language", "rust", path(&folder)].map(str::to_owned).to_vec();
        arguments.extend(extra.iter().map(|part| (*part).to_owned()));
        arguments
    };
    for name in ["My_Ranker", "1st", "x-", "a/../b", ""] {
        refuses(new("new", &["--name", name]), 2, &["cannot be a plugin's name", "my-ranker"]);
    }
    refuses(new("Grand Ranker", &[]), 2, &["`Grand Ranker` cannot be a plugin's name", "--name"]);
    refuses(new("fine", &["--sdk", path(scratch.path())]), 2, &["there is no plugins/sdk in"]);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing was written");
    prints(new("fine", &["--name", "other-name", "--sdk", path(&root())]));
    let manifest = fs::read_to_string(scratch.path().join("fine/Cargo.toml")).unwrap();
    assert!(manifest.contains("name = \"other-name\"") && manifest.contains("[workspace]"), "{manifest}");
    assert!(manifest.contains(path(&root().join("plugins/sdk"))), "{manifest}");
    refuses(new("fine", &[]), 2, &["is there already and not empty"]);
}

#[test]
fn every_template_leaves_no_placeholder_behind() {
    let scratch = tempfile::tempdir().unwrap();
    for language in ["rust", "python", "js"] {
        for kind in KINDS {
            let folder = scratch.path().join(format!("{language}-{kind}"));
            let new =
                ["--json", "plugin", "new", "--kind", kind, "--language", language, "--name", "sample", path(&folder)];
            let files = json_of(&prints(new))["files"].clone();
            let files: Vec<&str> = files.as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
            assert!(files.contains(&"README.md"), "{language} {kind}: {files:?}");
            assert_eq!(files.contains(&"wit/types.wit"), language != "rust", "{language} {kind}: {files:?}");
            for file in files {
                let content = fs::read_to_string(folder.join(file)).unwrap();
                for placeholder in ["{{name}}", "{{file}}", "{{sdk}}", "{{laws}}", "{{workspace}}"] {
                    assert!(!content.contains(placeholder), "{language} {kind}: {placeholder} in {file}");
                }
            }
        }
    }
}

/// An experiment with comments and both ways to write a section; the words in capitals are where a hash belongs.
const TRIAL: &str = r#"# A trial.
name = "trial"   # short
model.path = "model"

[plugins]
folders = ["files"]

[ranker]
# of my own
plugin = "mine.wasm"  # found in files
RANKER
# a mean over battles
options = { over = "battles" }

[selector]
actor = { plugin = "threshold.so"SELECTOR, options = { unit = "tokens" } }   # a library

[optimizer]
plugin = "dpo"
"#;

#[test]
fn pin_writes_hashes_and_keeps_the_rest() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("trial");
    fs::create_dir_all(folder.join("files")).unwrap();
    let by_package = forms::by_package();
    fs::copy(&by_package["ranker-win-rate"].component, folder.join("files/mine.wasm")).unwrap();
    fs::copy(&by_package["selector-threshold"].library, folder.join("threshold.so")).unwrap();
    let file = folder.join("experiment.toml");
    let config = |ranker: &str, selector: &str| TRIAL.replace("RANKER", ranker).replace("SELECTOR", selector);
    fs::write(&file, config("", "")).unwrap();
    let hash = |plugin: &str| {
        let list = json_of(&prints(["--json", "plugin", "list", path(&folder.join(plugin))]));
        list["plugins"].as_array().unwrap().iter().find_map(|entry| entry["sha256"].as_str()).unwrap().to_owned()
    };
    let [mine, threshold] = ["files/mine.wasm", "threshold.so"].map(hash);

    let out = prints(["plugin", "pin", path(&folder)]);
    for part in
        ["ranker: mine.wasm (ranker win-rate 0.1.0, component) has sha256", "selector.actor: threshold.so", &mine]
    {
        assert!(out.contains(part), "{part:?} is not in\n{out}");
    }
    let pinned = config(&format!("sha256 = \"{mine}\"\n"), &format!(", sha256 = \"{threshold}\""));
    assert_eq!(fs::read_to_string(&file).unwrap(), pinned);
    let out = prints(["plugin", "pin", path(&file)]);
    assert!(out.contains("mine.wasm (ranker win-rate 0.1.0, component) is unchanged"), "{out}");
    assert_eq!(fs::read_to_string(&file).unwrap(), pinned);

    // The file changes: a run is refused, and pinning shows both hashes.
    fs::copy(&by_package["ranker-copeland"].component, folder.join("files/mine.wasm")).unwrap();
    refuses(["plan", path(&folder)], 2, &["`ranker.sha256`", &mine, "metareward plugin pin"]);
    let report = json_of(&prints(["--json", "plugin", "pin", path(&folder)]));
    assert_eq!(report["changed"], true);
    assert_eq!(report["pins"][0]["before"], mine);
    let changed = hash("files/mine.wasm");
    assert_eq!(report["pins"][0]["sha256"], changed);
    assert_eq!(fs::read_to_string(&file).unwrap(), pinned.replace(&mine, &changed));

    // A file that is no plugin: nothing is written, not even the other one's hash.
    let before = fs::read_to_string(&file).unwrap();
    fs::write(folder.join("threshold.so"), "no library").unwrap();
    fs::copy(&by_package["ranker-win-rate"].component, folder.join("files/mine.wasm")).unwrap();
    refuses(["plugin", "pin", path(&folder)], 2, &["`selector.actor`", "threshold.so", "nothing was written"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    refuses(["plugin", "pin", path(&scratch.path().join("absent"))], 2, &["no experiment at"]);
    let none = prints(["plugin", "pin", "experiments/quickstart"]);
    assert!(none.contains("names no plugin file"), "{none}");
}

const BATTLES: &str = "winner,left,right\nleft,ana,bo\nright,cy,bo\ntie,ana,cy\nleft,di,ed\nleft,di,ed\n";

#[test]
fn rate_ranks_a_csv_by_any_ranker() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("battles.csv");
    fs::write(&file, BATTLES).unwrap();
    let rate = |ranker: &str, options: &str| {
        json_of(&prints(["--json", "rate", path(&file), "--ranker", ranker, "--options", options]))
    };
    let built_in = rate("win-rate", "{\"over\": \"battles\"}");
    let players: Vec<[&Value; 4]> = built_in["players"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| ["player", "wins", "losses", "ties"].map(|key| &row[key]))
        .collect();
    let row = |name: &str, counts: [u64; 3]| [json!(name), json!(counts[0]), json!(counts[1]), json!(counts[2])];
    let expected =
        [row("di", [2, 0, 0]), row("ana", [1, 0, 1]), row("bo", [1, 1, 0]), row("cy", [0, 1, 1]), row("ed", [0, 2, 0])];
    assert_eq!(players, expected.each_ref().map(|row| row.each_ref()));
    assert_eq!(built_in["players"][1]["rating"], 0.75);
    assert_eq!(built_in["battles"], 5);
    let remark = |name: &str| built_in["remarks"].as_array().unwrap().iter().find(|one| one["remark"] == name).unwrap();
    assert_eq!(remark("undefeated")["players"], json!(["di"]));
    assert_eq!(remark("disconnected")["words"].as_str().unwrap().split(' ').next(), Some("2"));
    // A file gives the same numbers as the built-in plugin of the same source.
    let component = &forms::by_package()["ranker-win-rate"].component;
    assert_eq!(rate(path(component), "{\"over\": \"battles\"}")["players"], built_in["players"]);

    let people = prints(["rate", path(&file), "--ranker", path(ranker())]);
    for part in
        ["new-ranker 0.1.0 (component): 5 players, 5 battles", "    1  di", "note: never won", "2 groups of players"]
    {
        assert!(people.contains(part), "{part:?} is not in\n{people}");
    }

    let mut piped = command(["rate", "-", "--ranker", "win-rate", "--options", "{\"over\": \"battles\"}", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    piped.stdin.take().unwrap().write_all(BATTLES.as_bytes()).unwrap();
    let output = piped.wait_with_output().unwrap();
    assert_eq!(json_of(&text(&output).0), built_in);
}

#[test]
fn rate_agrees_with_the_golden_files() {
    let Some(data) = shared_data() else {
        println!("skipped: there is no folder with reference data beside the repository");
        return;
    };
    for name in ["simple", "food"] {
        let file = data.join(format!("ranking/{name}.csv"));
        let rated = json_of(&prints(["--json", "rate", path(&file), "--ranker", "win-rate"]));
        let golden = fs::read_to_string(data.join(format!("ranking/{name}-golden.csv"))).unwrap();
        let mut rows = 0;
        for line in golden.lines().filter_map(|line| line.strip_prefix("average_win_rate,")) {
            let (player, score) = line.split_once(',').unwrap();
            let players = rated["players"].as_array().unwrap();
            let found = players.iter().find(|row| row["player"] == player).unwrap()["rating"].as_f64().unwrap();
            assert!((found - score.trim().parse::<f64>().unwrap()).abs() < 1e-9, "{name}, {player}: {found}");
            rows += 1;
        }
        assert_eq!(rows, rated["players"].as_array().unwrap().len());
    }
}

#[test]
fn rate_names_the_line_that_is_wrong() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("battles.csv");
    let with = |content: &str, parts: &[&str]| {
        fs::write(&file, content).unwrap();
        refuses(["rate", path(&file), "--ranker", "elo"], 2, parts);
    };
    with("left,right\na,b\n", &["battles.csv:1: no column `winner`", "left,right,winner, in any order"]);
    with("left,right,winner\na,b,left\na,b,both\n", &["battles.csv:3: the winner is `both`"]);
    with("left,right,winner\na,b,left\nb,b,left\n", &["battles.csv:3: b meets itself"]);
    with("left,right,winner\na,b\n", &["battles.csv:2: 2 columns"]);
    refuses(["rate", "absent.csv", "--ranker", "elo"], 2, &["absent.csv: No such file"]);
    fs::write(&file, "left,right,winner,weight\na,b,left,3\n").unwrap();
    let output = run(["rate", path(&file), "--ranker", "elo"]);
    assert!(output.status.success());
    assert!(text(&output).1.contains("not used: weight"), "{}", text(&output).1);
    refuses(["rate", path(&file), "--ranker", "ello"], 2, &["unknown ranker `ello`; did you mean `elo`?"]);
    // A limit that leaves no room even for saying what it is.
    refuses(["rate", path(&file), "--ranker", path(ranker()), "--fuel", "1000"], 2, &["new_ranker.wasm"]);
}

#[test]
fn a_reader_that_goes_away_is_no_mistake() {
    let mut child = command(["plugin", "info", "elo"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let messages = text(&output).1;
    assert!(messages.is_empty(), "{messages}");
    assert!(output.status.success() || output.status.code() == Some(141), "{:?}", output.status);
}
