//! Lines as oslo.log's defaults make them (`logging_context_format_string`, `logging_default_format_string`; oslo_log/_options.py), in UTC.

use super::record::Record;

/// `2026-11-26 01:02:03.004 612 INFO trove_guestagent.rpc.dispatch [GLOBAL REQUEST USER PROJECT - - - -] message name=value`. What a request does not say is a
/// dash; outside of a request there is one dash alone. The method, which oslo.log has no place for, is behind the message.
pub(super) fn line(record: &Record, pid: u32) -> String {
    let time = record.time.milliseconds();
    let (level, logger, words) = (record.level_name(), &record.logger, record.words());
    match &record.request {
        None => format!("{time} {pid} {level} {logger} [-] {words}"),
        Some(request) => {
            let (global, own) = (word(&request.global_request_id), word(&request.request_id));
            let (user, project) = (word(&request.user), word(&request.project));
            // Of a client's making: it must not look like another field.
            let method = &request.method;
            let told = record.fields.iter().any(|(name, _)| *name == "method");
            let method = if told || method.is_empty() { String::new() } else { format!(" method={method:?}") };
            format!("{time} {pid} {level} {logger} [{global} {own} {user} {project} - - - -] {words}{method}")
        }
    }
}

/// One word: what comes from a client cannot end the brackets or the line.
fn word(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    text.chars().map(|letter| if letter.is_control() || letter.is_whitespace() || letter == ']' { '_' } else { letter }).collect()
}
