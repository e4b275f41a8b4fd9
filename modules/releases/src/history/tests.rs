use super::*;
use crate::root::tests::scratch;

fn version(name: &str) -> Version {
    Version::new(name).unwrap()
}

fn activated(revision: Option<&str>) -> EventKind {
    EventKind::Activated { revision: revision.map(str::to_owned), shared: Vec::new() }
}

#[test]
fn a_clock_that_was_put_back_does_not_change_the_order() {
    let text = br#"{"at":"2026-01-02T00:00:00Z","version":"1","event":"started","user":"x","by":""}
{"at":"2026-01-01T00:00:00Z","version":"2","event":"started","user":"x","by":""}
"#;
    let history = History::parse(text);
    assert!(history.records()[1].started >= history.records()[0].started);
}

#[test]
fn what_is_no_event_is_counted() {
    let line = r#"{"at":"2026-01-02T00:00:00Z","version":"1","event":"removed"}"#;
    let history = History::parse(format!("{line}\nnonsense\n\n{line}\n{{\"at").as_bytes());
    assert_eq!((history.records().len(), history.damage().count), (1, 2));
    assert_eq!(history.damage().lines(), "lines 2, 5");
    assert_eq!(
        History::parse(&b"x\n".repeat(9)).damage().lines(),
        "lines 1, 2, 3, 4, 5 and 4 more"
    );
    assert!(!History::parse(format!("\n{line}\n \n").as_bytes()).damage().any());
}

#[test]
fn what_began_after_the_damage_is_known() {
    let (_scratch, root) = scratch();
    let (one, two) = (version("1"), version("2"));
    let began = || Root::started_event(&Deployer::default());
    root.record(&one, began()).unwrap();
    root.record(&one, activated(None)).unwrap();
    let path = root.state_path().join(FILE);
    let mut text = std::fs::read(&path).unwrap();
    text.extend([0; 9]);
    std::fs::write(&path, text).unwrap();
    root.record(&two, began()).unwrap();
    root.record(&two, EventKind::Placed { source: None }).unwrap();
    let history = root.history().unwrap();
    assert_eq!(history.damage().lines(), "line 3");
    assert!(!history.knows(&one) && history.knows(&two) && !history.knows(&version("3")));
    let back = EventKind::RolledBack { to: "1".into(), reason: None, user: "x".into() };
    root.record(&two, back).unwrap();
    assert!(root.history().unwrap().knows_as_left(root.history().unwrap().latest(&two).unwrap()));
    // Deployed again, but nothing put there yet: what is there was made before.
    root.record(&one, began()).unwrap();
    assert!(!root.history().unwrap().knows(&one));
    root.record(&one, EventKind::Placed { source: None }).unwrap();
    assert!(root.history().unwrap().knows(&one));
}

#[test]
fn events_become_records() {
    let (_scratch, root) = scratch();
    let one = version("1");
    root.record(&one, Root::started_event(&Deployer::default())).unwrap();
    root.record(&one, activated(Some("abc"))).unwrap();
    root.record(&one, EventKind::Ended { outcome: Outcome::Success, reason: None }).unwrap();
    let history = root.history().unwrap();
    let record = history.latest(&one).unwrap();
    assert_eq!(record.revision.as_deref(), Some("abc"));
    assert_eq!(record.outcome, Some(Outcome::Success));
    assert!(record.started.is_some() && record.activated.is_some() && record.ended.is_some());
    assert_eq!(history.last_activated(), Some("1"));
}

#[test]
fn a_rollback_marks_the_bad_one_and_clears_the_good_one() {
    let (_scratch, root) = scratch();
    let (one, two) = (version("1"), version("2"));
    let back = |to: &Version, reason: &str| EventKind::RolledBack {
        to: to.as_str().into(),
        reason: Some(reason.into()),
        user: "x".into(),
    };
    root.record(&one, activated(None)).unwrap();
    root.record(&two, activated(None)).unwrap();
    root.record(&two, back(&one, "500s")).unwrap();
    let history = root.history().unwrap();
    assert_eq!(history.last_activated(), Some("1"));
    assert_eq!(history.latest(&two).unwrap().reason.as_deref(), Some("500s"));
    assert!(history.latest(&two).unwrap().rolled_back.is_some());
    root.record(&one, back(&two, "was fine after all")).unwrap();
    let history = root.history().unwrap();
    assert!(history.latest(&two).unwrap().rolled_back.is_none());
    assert!(history.latest(&one).unwrap().rolled_back.is_some());
}

#[test]
fn a_line_that_was_cut_off_costs_only_itself() {
    let (_scratch, root) = scratch();
    root.record(&version("1"), activated(None)).unwrap();
    let path = root.state_path().join(FILE);
    let mut text = std::fs::read(&path).unwrap();
    text.extend(b"{\"at\":\"1970-01-01T00:00:01Z\",\"version\":\"2\",\"ev");
    std::fs::write(&path, text).unwrap();
    root.record(&version("3"), activated(None)).unwrap();
    let history = root.history().unwrap();
    let versions: Vec<_> = history.records().iter().map(|r| r.version.as_str()).collect();
    assert_eq!(versions, ["1", "3"]);
}
