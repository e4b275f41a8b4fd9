//! The modules for Magento and php-fpm, run as root where a process of the web user's swaps what it
//! can ([`crate::neighbours`]), and others pretend to be what they are not ([`crate::titles`]).

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::{Duration, Instant};

use oxistrano_harness::{Manifest, Value, json};

use crate::calls::calls;
use crate::harm::{SECRET, Theirs, WEB, changed, give, leaked, mend, victims, wrong_with};
use crate::hostile::Hostile;
use crate::programs::Said;
use crate::stage::Stage;
use crate::table::Row;
use crate::titles::Titles;

/// What modules are given, where they have such an option.
const TIMEOUT: u64 = 4;
/// What none may take: its time, and what it takes to end what it has started. All processors
/// are taken.
const LONGEST: Duration = Duration::from_secs(20);
/// Nobody wants to read more.
const LONG: usize = 200_000;
/// What the service manager was asked to do.
const RESTARTS: &str = "restarts";
/// As cron's own, also for another user.
const CRONTAB: &str = r#"if [ "$1" = -u ]; then shift 2; fi
case $1 in
-l) cat "$CRONTAB" ;;
-) cat > "$CRONTAB.new" && mv "$CRONTAB.new" "$CRONTAB" ;;
esac
"#;

/// So many rounds of every call, where contents or everything belong to the web user.
pub fn run(modules: &Path, top: &Path, exe: &Path, rounds: usize) -> Vec<Row> {
    let scenes = [
        ("Magento and php-fpm: contents belong to the web user", Theirs::Contents),
        ("Magento and php-fpm: the deploy root and all in it", Theirs::Everything),
    ];
    let mut rows = Vec::new();
    for (number, (what, theirs)) in scenes.into_iter().enumerate() {
        let top = top.join(format!("stranger-{number}"));
        let stage = Stage::new(modules, &top, true);
        rows.push(beside(&stage, exe, theirs, rounds, Row::new(what)));
        let _ = fs::remove_dir_all(&top);
    }
    rows
}

fn beside(stage: &Stage, exe: &Path, theirs: Theirs, rounds: usize, mut row: Row) -> Row {
    prepare(stage, theirs);
    stage.keep();
    let (root, outside) = (stage.root(), stage.beside("outside"));
    let before = Manifest::exact(&outside);
    let place = stage.beside("hostile");
    fs::create_dir_all(&place).expect("a directory");
    let hostile = Hostile::start(&place, &root, &outside, exe, 2);
    let (secret, leased) = (outside.join("secret"), place.join("own-1/leased-0"));
    let release = root.join("releases/1");
    let titles = Titles::start(&place.join("titles"), stage.listener(), &release, &secret, &leased);
    let (mut well, mut refused) = (0, 0);
    'rounds: for round in 0..rounds {
        for (name, module, arguments) in story(stage) {
            let started = Instant::now();
            let said = stage.programs.run(module, &arguments, &[]);
            row.runs += 1;
            match said.is_well() {
                true => well += 1,
                false => refused += 1,
            }
            let mut wrong: Vec<String> = wrong_with(&said).into_iter().collect();
            wrong.extend(ill_shown(&said));
            if started.elapsed() > LONGEST && !said.hung {
                wrong.push(format!("it took {:.0} s", started.elapsed().as_secs_f64()));
            }
            row.violations
                .extend(wrong.into_iter().map(|why| format!("round {round}, {name}: {why}")));
            if let Some(id) = said.value.as_ref().and_then(|value| value["id"].as_str()) {
                // As the role does it. Nobody else has seen the name.
                let end = json!({"begun": id, "lower": true, "paths": ["current"]});
                let end = bounded("magento_upgrade", stage.with_php(end));
                let said = stage.programs.run("magento_upgrade", &end, &[]);
                row.runs += 1;
                row.violations.extend(
                    wrong_with(&said).map(|why| format!("round {round}, waiting for it: {why}")),
                );
            }
            if let Some(what) = changed(&before, &Manifest::exact(&outside)) {
                row.violations.push(format!("round {round}, {name}: outside, {what}"));
                break 'rounds;
            }
            // Else too much is broken too soon for there to be anything to do.
            if !said.is_well() {
                hostile.rest(|| stage.put_back_shop());
            }
        }
        if let Some(path) = leaked(&root) {
            row.violations.push(format!("round {round}: the secret is in {}", path.display()));
            break;
        }
        hostile.rest(|| {
            mend(&root.join(".oxistrano"));
            stage.put_back_shop();
        });
    }
    let said = match titles {
        Ok(titles) => {
            let tally = titles.stop();
            row.violations.extend(tally.violations);
            format!("{} processes with titles, {} numbers again", tally.processes, tally.again)
        }
        Err(why) => format!("NOT CHECKED, {why}: processes with titles"),
    };
    // None of these processes is the main one of a service.
    let restarts = fs::read_to_string(stage.beside(RESTARTS)).unwrap_or_default();
    let restarts = restarts.lines().filter(|line| !line.starts_with("show "));
    row.violations.extend(restarts.map(|line| format!("systemctl was called: {line}")));
    row.points = hostile.stop() as usize;
    if row.points == 0 {
        row.violations.push("nothing was swapped, so nothing was tried".to_owned());
    }
    row.remark = format!("points: swaps; {well} calls did their work, {refused} refused; {said}");
    row
}

/// All calls of all these modules, in an order in which each has something to do.
fn story(stage: &Stage) -> Vec<(&'static str, &'static str, Value)> {
    let mut story = Vec::new();
    let raised = |story: &mut Vec<_>| {
        let arguments = json!({"state": "raised", "allowed_ips": ["192.0.2.1"]});
        story.push(("raised", "magento_maintenance", stage.with(arguments)));
    };
    // The name of what was begun comes of the call itself.
    for call in calls().iter().filter(|call| call.shares_var && !call.name.contains("waited for")) {
        if call.module == "magento_upgrade" {
            raised(&mut story);
        }
        story.push((call.name, call.module, (call.arguments)(stage)));
    }
    let reloaded = |more: Value| ("php_fpm, reloaded", "php_fpm", stage.with_pool(more));
    // Those that run something for a master, or send signals: many times.
    for _ in 0..6 {
        let held = stage.with(json!({"state": "held"}));
        story.push(("magento_cron, held", "magento_cron", held));
        story.push(reloaded(json!({"state": "reloaded"})));
        story.push(("php_fpm, status", "php_fpm", stage.with_pool(json!({"state": "status"}))));
        story.push(reloaded(json!({"state": "fresh", "method": "reload", "when_full": "reload"})));
        story.push(reloaded(json!({"state": "restarted"})));
        for state in ["held", "released"] {
            story.push((
                "php_fpm, held",
                "php_fpm",
                stage.with_pool(json!({"state": state, "hold": 5})),
            ));
        }
    }
    for (_, module, arguments) in &mut story {
        *arguments = bounded(module, arguments.take());
    }
    story
}

fn bounded(module: &str, mut arguments: Value) -> Value {
    match module {
        "magento_upgrade" | "magento_status" | "magento_cache" | "php_fpm"
            if arguments["timeout"].is_null() =>
        {
            arguments["timeout"] = TIMEOUT.into();
        }
        "magento_cron" => {
            arguments["user"] = WEB.to_string().into();
            if arguments["state"] == "held" {
                arguments["wait"] = 0.into();
            }
        }
        _ => {}
    }
    // What is shown then as well.
    arguments["_ansible_diff"] = true.into();
    arguments
}

/// Whether a terminal would be written to, or flooded.
fn ill_shown(said: &Said) -> Option<String> {
    fn raw(value: &Value) -> Option<&str> {
        match value {
            Value::String(text) => {
                let bad = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
                text.contains(bad).then_some(text.as_str())
            }
            Value::Array(values) => values.iter().find_map(raw),
            Value::Object(values) => values.values().find_map(raw),
            _ => None,
        }
    }
    if said.raw.len() > LONG {
        return Some(format!("{} bytes of output", said.raw.len()));
    }
    let text = said.value.as_ref().and_then(raw)?;
    let start: String = text.chars().take(200).collect();
    Some(format!("control characters are shown: {start:?}"))
}

fn prepare(stage: &Stage, theirs: Theirs) {
    // Not by a variable: the web user's program gets none of ours.
    stage.program("systemctl", &format!("echo \"$*\" >> '{}'", stage.beside(RESTARTS).display()));
    let crontab = stage.beside("cron/crontab");
    stage.program("crontab", &format!("CRONTAB='{}'\n{CRONTAB}", crontab.display()));
    let (root, outside) = (stage.root(), stage.beside("outside"));
    // One that would pass for a configuration of Magento's.
    victims(&outside, &format!("<?php return ['x' => ['table_prefix' => '{SECRET}']];\n"));
    // It is run as the user whose crontab it is.
    give(&outside, &stage.beside("cron"), 1);
    let own = |path: &Path| chown(path, Some(0), Some(0)).expect("a directory of root's");
    match theirs {
        Theirs::Contents => ["releases", "shared"].iter().for_each(|name| own(&root.join(name))),
        Theirs::Everything => give(&outside, &root, 9),
    }
}
