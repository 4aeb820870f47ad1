//! Files of oslo's dialect, alone and as the whole configuration of a guest.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trove_guestagent::config::{Settings, parse_ini};

/// What every guest is told; with it, most files are a valid configuration.
const GUEST: &str = "[DEFAULT]\nguest_id = g\ndatastore_manager = mysql\ntransport_url = rabbit://u:p@h:1/\n";

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    match parse_ini(&text) {
        Ok(file) => assert!(file.entries.iter().all(|entry| !entry.key.is_empty() && entry.line > 0)),
        Err(errors) => assert!(!errors.is_empty() && errors.iter().all(|error| error.line > 0)),
    }
    let whole = if text.contains("guest_id") { text } else { format!("{GUEST}{text}").into() };
    match Settings::from_text("fuzz.conf", &whole) {
        Ok(settings) => {
            let shown = settings.describe();
            let key = shown.iter().find(|line| line.starts_with("[DEFAULT] instance_rpc_encr_key = "));
            assert!(settings.instance_rpc_encr_key.is_none() || key.is_some_and(|line| line.contains(" = ***  (")), "{key:?}");
        }
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
});
