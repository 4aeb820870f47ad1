use proptest::prelude::*;

use super::*;

fn tracker(dir: &tempfile::TempDir) -> StatusTracker {
    StatusTracker::load(Utf8Path::from_path(dir.path()).unwrap()).unwrap()
}

const PREPARED: Event = Event::PreparationEnds { in_cluster: false };

fn reason() -> String {
    "no device".to_owned()
}

#[test]
fn the_phase_survives_the_agent_and_files_of_earlier_releases_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let before = tracker(&dir);
    before.apply(&Event::PreparationBegins).unwrap();
    before.apply(&Event::PreparationFails { reason: reason() }).unwrap();
    assert_eq!(tracker(&dir).phase(), Phase::Failed { reason: reason(), was_in_service: false });
    for (text, phase) in [
        (r#"{"phase":"preparing"}"#, Phase::Preparing { attempt: 0 }),
        (r#"{"phase":"failed","reason":"no device"}"#, Phase::Failed { reason: reason(), was_in_service: false }),
        (r#"{"phase":"active"}"#, Phase::Active),
    ] {
        std::fs::write(dir.path().join("status.json"), text).unwrap();
        assert_eq!(tracker(&dir).phase(), phase);
    }
}

#[test]
fn building_is_said_once_and_a_restart_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let tracker = tracker(&dir);
    assert_eq!(tracker.report(true), Report::Silence);
    tracker.apply(&Event::PreparationBegins).unwrap();
    let building = Report::Phase(Phase::Preparing { attempt: 1 });
    assert_eq!((tracker.report(true), tracker.report(false)), (building, Report::Silence));
    tracker.apply(&PREPARED).unwrap();
    let quiet = tracker.quiet();
    assert_eq!(tracker.report(false), Report::Silence);
    drop(quiet);
    assert_eq!(tracker.report(false), Report::Probe);
}

#[test]
fn what_rules_an_event_out_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let tracker = tracker(&dir);
    let error = tracker.apply(&Event::ClusterCompletes).unwrap_err().to_string();
    assert!(error.contains("not prepared yet"), "{error}");
    assert_eq!(tracker.phase(), Phase::New);
}

#[tokio::test]
async fn a_report_that_was_composed_before_a_change_is_outdated() {
    let dir = tempfile::tempdir().unwrap();
    let tracker = tracker(&dir);
    let before = tracker.version();
    let waiting = tracker.outdated(before);
    tokio::pin!(waiting);
    assert!(futures_util::poll!(&mut waiting).is_pending());
    let quiet = tracker.quiet();
    waiting.await;
    let during = tracker.version();
    drop(quiet);
    tracker.outdated(during).await;
    let last = tracker.version();
    tracker.apply(&Event::PreparationBegins).unwrap();
    tracker.outdated(last).await;
}

/// What can happen to a guest, in any order.
#[derive(Debug, Clone)]
enum Happening {
    Tells(Event),
    /// The agent ends in any way, or the guest boots; with an operation under way or without.
    AgentEnds,
    QuietBegins,
    QuietEnds,
}

fn happening() -> impl Strategy<Value = Happening> {
    let fails = || Just(reason());
    prop_oneof![
        Just(Happening::Tells(Event::PreparationBegins)),
        any::<bool>().prop_map(|in_cluster| Happening::Tells(Event::PreparationEnds { in_cluster })),
        fails().prop_map(|reason| Happening::Tells(Event::PreparationFails { reason })),
        Just(Happening::Tells(Event::ClusterCompletes)),
        Just(Happening::Tells(Event::UpgradeBegins)),
        Just(Happening::Tells(Event::UpgradeEnds)),
        fails().prop_map(|reason| Happening::Tells(Event::UpgradeFails { reason })),
        Just(Happening::Tells(Event::DatabaseStarts)),
        Just(Happening::AgentEnds),
        Just(Happening::QuietBegins),
        Just(Happening::QuietEnds),
    ]
}

/// What was asked and achieved, kept apart from the machine, and what must follow from it.
#[derive(Debug, Default)]
struct Model {
    /// A preparation or an upgrade ended well, and since then none was begun or failed.
    whole: bool,
    /// A preparation was begun and has not ended.
    preparing: bool,
    failed: bool,
    upgrading: bool,
    waits_for_cluster: bool,
}

impl Model {
    fn follow(&mut self, event: &Event) {
        let before = std::mem::take(self);
        *self = match event {
            Event::PreparationBegins => Model { preparing: true, ..Model::default() },
            Event::PreparationEnds { in_cluster } => Model { whole: !in_cluster, waits_for_cluster: *in_cluster, ..Model::default() },
            Event::PreparationFails { .. } | Event::UpgradeFails { .. } => Model { failed: true, ..Model::default() },
            Event::ClusterCompletes | Event::UpgradeEnds => Model { whole: true, ..Model::default() },
            Event::UpgradeBegins => Model { upgrading: true, ..Model::default() },
            Event::DatabaseStarts => before,
        };
    }
}

fn check(tracker: &StatusTracker, model: &Model, quiet: bool) -> std::result::Result<(), TestCaseError> {
    let (tick, prompted) = (tracker.report(false), tracker.report(true));
    let may_be_in_service = tick == Report::Probe || prompted == Report::Probe;
    // Nobody is told that the database serves unless a preparation or an upgrade ended well.
    prop_assert!(!may_be_in_service || model.whole);
    if model.preparing {
        prop_assert_eq!(tick, Report::Silence, "BUILDING comes once");
        let is_building = matches!(prompted, Report::Phase(Phase::Preparing { .. }));
        prop_assert!(is_building);
    } else if model.failed {
        let is_failed = matches!(tick, Report::Phase(Phase::Failed { .. }));
        prop_assert!(is_failed);
    } else if model.waits_for_cluster {
        prop_assert_eq!(tick, Report::Phase(Phase::ClusterReady));
    } else if quiet {
        prop_assert_eq!(tick, Report::Silence);
    } else if model.upgrading {
        prop_assert_eq!(tick, Report::ProbeIfDown);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_happens_the_controller_is_told_the_truth(happenings in prop::collection::vec(happening(), 0..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut current = tracker(&dir);
        let mut model = Model::default();
        let mut rest = happenings.as_slice();
        // One turn is one life of the agent: operations that keep it quiet end with it.
        'life: loop {
            let mut quiet = Vec::new();
            while let Some((happening, later)) = rest.split_first() {
                rest = later;
                let (phase, version) = (current.phase(), current.version());
                match happening {
                    Happening::AgentEnds => {
                        drop(quiet);
                        let next = tracker(&dir);
                        prop_assert_eq!(next.phase(), phase);
                        current = next;
                        check(&current, &model, false)?;
                        continue 'life;
                    }
                    Happening::QuietBegins => quiet.push(current.quiet()),
                    Happening::QuietEnds => drop(quiet.pop()),
                    Happening::Tells(event) if current.apply(event).is_ok() => {
                        let leaves_failure = *event == Event::DatabaseStarts && current.phase() == Phase::Active;
                        model.follow(event);
                        if leaves_failure {
                            // Only where an instance was in service before.
                            let was = matches!(phase, Phase::Active | Phase::Upgrading | Phase::Failed { was_in_service: true, .. });
                            prop_assert!(was);
                            model = Model { whole: true, ..Model::default() };
                        }
                        prop_assert!(current.version() != version, "an older report must not be sent any more");
                    }
                    Happening::Tells(_) => prop_assert_eq!(current.phase(), phase, "a refused event changes nothing"),
                }
                check(&current, &model, !quiet.is_empty())?;
                // What is told is on disk.
                prop_assert_eq!(tracker(&dir).phase(), current.phase());
            }
            break;
        }
    }
}
