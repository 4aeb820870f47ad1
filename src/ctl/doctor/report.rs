//! The report as a person reads it, and as a program does.

use serde::Serialize;

use super::finding::{Finding, Verdict};
use crate::ctl::output;
use crate::error::Result;

/// Columns of the verdict and of the check's name.
const COLUMNS: (usize, usize) = (8, 14);

#[derive(Debug, Serialize)]
struct Report<'a> {
    version: &'static str,
    guest_id: Option<&'a str>,
    /// The worst of all.
    verdict: Verdict,
    findings: &'a [Finding],
}

/// The worst verdict there is; what was not looked at is no fault.
pub(super) fn worst(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.verdict).filter(|verdict| *verdict != Verdict::Skipped).max().unwrap_or(Verdict::Ok)
}

pub(super) fn json(guest_id: Option<&str>, findings: &[Finding]) -> Result<String> {
    let report = Report { version: env!("CARGO_PKG_VERSION"), guest_id, verdict: worst(findings), findings };
    output::json("report", &report)
}

/// One finding: a line, what follows it, and an arrow with what to do.
pub(super) fn lines(finding: &Finding) -> String {
    let verdict: &str = finding.verdict.into();
    // What is wrong is to be seen in a long list.
    let verdict = if finding.verdict == Verdict::Failed { verdict.to_uppercase() } else { verdict.to_owned() };
    let (first, second) = COLUMNS;
    let indent = format!("\n{:width$}", "", width = first + second + 2);
    let mut text = format!("{verdict:first$} {:second$} {}", finding.check, finding.found.replace('\n', &indent));
    if let Some(advice) = &finding.advice {
        text.push_str(&format!("{indent}-> {advice}"));
    }
    text
}

/// The last line.
pub(super) fn verdict(findings: &[Finding]) -> String {
    let count = |wanted| findings.iter().filter(|finding| finding.verdict == wanted).count();
    match (count(Verdict::Failed), count(Verdict::Warning)) {
        (0, 0) => "All is well.".to_owned(),
        (0, warnings) => format!("Nothing is broken; {warnings} to look at."),
        (failed, 0) => format!("{failed} broken."),
        (failed, warnings) => format!("{failed} broken, {warnings} more to look at."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_for_people_and_one_for_programs() {
        let findings =
            [Finding::ok("disk", "plenty"), Finding::skipped("storage", "no token"), Finding::failed("broker", "no\nanswer", "start it")];
        assert_eq!(lines(&findings[0]), "ok       disk           plenty");
        assert_eq!(lines(&findings[2]), format!("FAILED   broker         no\n{0}answer\n{0}-> start it", " ".repeat(24)));
        assert_eq!(verdict(&findings), "1 broken.");
        assert_eq!(worst(&findings), Verdict::Failed);
        assert_eq!((worst(&findings[..2]), verdict(&findings[..2])), (Verdict::Ok, "All is well.".to_owned()));
        let json: serde_json::Value = serde_json::from_str(&json(Some("g"), &findings).unwrap()).unwrap();
        assert_eq!((&json["verdict"], &json["guest_id"]), (&"failed".into(), &"g".into()));
        assert_eq!(
            json["findings"][2],
            serde_json::json!({"check": "broker", "verdict": "failed", "found": "no\nanswer", "advice": "start it"})
        );
        assert!(json["findings"][0].get("advice").is_none());
    }
}
