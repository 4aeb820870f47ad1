//! Where a service catalog says that Swift is.

use serde_json::Value;

use crate::config::StorageSettings;
use crate::error::{Error, Result};

/// What Trove takes when nobody says which region.
const DEFAULT_REGION: &str = "RegionOne";

/// An endpoint of the type and interface wanted.
struct Endpoint {
    region: Option<String>,
    url: String,
}

/// Address of the account: the one endpoint of Swift's type, interface and region (`get_endpoint` of trove/common/clients.py). Catalogs of version
/// 2 (as in a request's context) and 3 (with a token) are understood.
///
/// # Errors
/// There is none; the message has the option to set.
pub(super) fn object_store(catalog: &Value, settings: &StorageSettings) -> Result<String> {
    let interface = settings.endpoint_type.trim_end_matches("URL");
    let services = catalog.as_array().map(Vec::as_slice).unwrap_or_default();
    let found: Vec<Endpoint> = services
        .iter()
        .filter(|service| text(service, "type").as_deref() == Some(settings.service_type.as_str()))
        .flat_map(|service| service["endpoints"].as_array().map(Vec::as_slice).unwrap_or_default())
        .filter_map(|endpoint| endpoint_of(endpoint, interface))
        .collect();
    if found.is_empty() {
        return Err(Error::guest(format!(
            "the service catalog has no {} endpoint of type {}: set swift_url, swift_service_type or swift_endpoint_type",
            settings.endpoint_type, settings.service_type
        )));
    }
    choose(&found, settings.region.as_deref())
}

fn endpoint_of(endpoint: &Value, interface: &str) -> Option<Endpoint> {
    let region = text(endpoint, "region").or_else(|| text(endpoint, "region_id"));
    // Version 3 has one entry for each interface, version 2 all in one entry.
    let url = match text(endpoint, "interface") {
        Some(name) => text(endpoint, "url").filter(|_| name.trim_end_matches("URL") == interface),
        None => text(endpoint, &format!("{interface}URL")),
    };
    Some(Endpoint { region, url: url?.trim_end_matches('/').to_owned() })
}

fn choose(found: &[Endpoint], region: Option<&str>) -> Result<String> {
    let here = |region: &str| found.iter().find(|endpoint| endpoint.region.as_deref() == Some(region));
    let chosen = match (region, found) {
        (Some(region), _) => here(region),
        (None, [only]) => Some(only),
        (None, _) => here(DEFAULT_REGION),
    };
    chosen.map(|endpoint| endpoint.url.clone()).ok_or_else(|| {
        let regions: Vec<&str> = found.iter().filter_map(|endpoint| endpoint.region.as_deref()).collect();
        Error::guest(format!(
            "the service catalog has Swift in the regions {} and not in {}: set [service_credentials] region_name",
            regions.join(", "),
            region.unwrap_or(DEFAULT_REGION)
        ))
    })
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Settings;

    fn settings(lines: &str) -> StorageSettings {
        let text = format!("[DEFAULT]\nguest_id = g\ndatastore_manager = mysql\n{lines}");
        Settings::from_text("test.conf", &text).unwrap().storage
    }

    #[test]
    fn both_versions_of_catalogs() {
        let two = json!([{"type": "compute", "endpoints": []}, {"type": "object-store", "name": "swift", "endpoints": [
            {"region": "RegionTwo", "publicURL": "http://two/v1/AUTH_t", "internalURL": "http://i2/v1/AUTH_t"},
            {"region": "RegionOne", "publicURL": "http://one/v1/AUTH_t/"}]}]);
        assert_eq!(object_store(&two, &settings("")).unwrap(), "http://one/v1/AUTH_t");
        assert_eq!(object_store(&two, &settings("os_region_name = RegionTwo")).unwrap(), "http://two/v1/AUTH_t");
        assert_eq!(object_store(&two, &settings("swift_endpoint_type = internalURL")).unwrap(), "http://i2/v1/AUTH_t");
        let three = json!([{"type": "object-store", "endpoints": [
            {"interface": "internal", "region_id": "R", "url": "http://i"}, {"interface": "public", "region_id": "R", "url": "http://p"}]}]);
        assert_eq!(object_store(&three, &settings("")).unwrap(), "http://p");
        assert_eq!(object_store(&three, &settings("swift_endpoint_type = internalURL")).unwrap(), "http://i");
    }

    #[test]
    fn what_is_missing_is_named() {
        let catalog = json!([{"type": "object-store", "endpoints": [{"region": "A", "publicURL": "http://a"}, {"region": "B", "publicURL": "http://b"}]}]);
        let error = object_store(&catalog, &settings("")).unwrap_err().to_string();
        assert!(error.contains("A, B") && error.contains("region_name"), "{error}");
        let error = object_store(&json!([]), &settings("")).unwrap_err().to_string();
        assert!(error.contains("swift_url"), "{error}");
        assert!(object_store(&json!({"odd": 1}), &settings("")).is_err());
    }
}
