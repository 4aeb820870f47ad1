//! `module_list`, `module_apply`, `module_remove` (trove/guestagent/datastore/manager.py and module/module_manager.py).

use std::sync::Arc;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use super::driver::ModuleDriver;
use super::new_relic_license::{NewRelicLicense, NewRelicPaths};
use super::ping::Ping;
use super::store::{Module, ModuleResult, Store};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::model::{ModuleEnvelope, ModuleSpec};
use crate::op::Op;
use crate::system::clock::Utc;
use crate::system::command::CommandRunner;

/// Stands for every tenant, datastore or version.
const ALL: &str = "all";
/// Of a time, what Trove keeps: hundredths of a second.
const TIME: usize = 22;
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// What modules need of the guest.
#[derive(Debug, Clone)]
pub struct ModuleEnv {
    /// The agent's configuration.
    pub settings: Arc<Settings>,
    /// Starts programs.
    pub commands: Arc<dyn CommandRunner>,
    /// Where New Relic's server monitor is.
    pub new_relic: NewRelicPaths,
}

impl ModuleEnv {
    fn store(&self) -> Store {
        Store::new(&self.settings.state_dir)
    }

    fn driver(&self, kind: &str) -> Result<Box<dyn ModuleDriver>> {
        let enabled = self.settings.module_types.iter().any(|enabled| enabled.eq_ignore_ascii_case(kind));
        match kind {
            "ping" if enabled => Ok(Box::new(Ping)),
            "new_relic_license" if enabled => {
                Ok(Box::new(NewRelicLicense { paths: self.new_relic.clone(), commands: Arc::clone(&self.commands) }))
            }
            _ => Err(Error::ModuleTypeNotFound { kind: kind.escape_debug().to_string() }),
        }
    }
}

/// A module that can be applied.
struct Checked {
    driver: Box<dyn ModuleDriver>,
    module: Module,
    contents: SecretSlice<u8>,
    result: ModuleResult,
}

/// The modules of this guest that the caller may see, the one applied last first.
///
/// # Errors
/// A file cannot be read.
pub fn list(op: &Op, env: &ModuleEnv, include_contents: bool) -> Result<Vec<ModuleResult>> {
    let is_admin = op.context.is_admin;
    let mut results = Vec::new();
    for module in env.store().modules()? {
        let Some(mut result) = module.result()?.filter(|result| result.removed.is_none() && (is_admin || result.visible)) else { continue };
        if include_contents {
            let contents = if result.is_admin && !is_admin {
                format!("Must be admin to retrieve contents for module {}", result.name).into_bytes()
            } else {
                module.contents()?
            };
            result.contents = Some(BASE64.encode(contents));
        }
        results.push(result);
    }
    results.sort_by(|one, other| other.updated.cmp(&one.updated));
    Ok(results)
}

/// Applies modules, those with priority first, then by their order. All are looked at before the first is applied; a driver that fails is no
/// failure of the call, but in the module's result.
///
/// # Errors
/// A module without name, contents or driver, or for another datastore; nothing is applied then. Or a file cannot be written.
pub async fn apply(op: &Op, env: &ModuleEnv, modules: &[ModuleEnvelope]) -> Result<Vec<ModuleResult>> {
    let mut modules: Vec<&ModuleSpec> = modules.iter().map(|envelope| &envelope.module).collect();
    // Controllers from before there was an order send none.
    if modules.iter().all(|module| module.apply_order.is_some()) {
        modules.sort_by_key(|module| module.apply_order);
        if modules.iter().all(|module| module.priority_apply.is_some()) {
            modules.sort_by_key(|module| module.priority_apply != Some(true));
        }
    }
    let checked: Vec<Checked> = modules.into_iter().map(|module| check(env, module)).collect::<Result<_>>()?;
    let mut results = Vec::with_capacity(checked.len());
    for Checked { driver, module, contents, mut result } in checked {
        tracing::info!(module = result.name, kind = result.kind, "applying a module");
        module.write_contents(contents.expose_secret())?;
        let outcome = driver.apply(op, &module.contents_file()).await;
        if !outcome.done {
            tracing::warn!(module = result.name, kind = result.kind, "the driver could not apply the module");
        }
        result.status = if outcome.done { "OK" } else { "ERROR" }.to_owned();
        result.message = Some(outcome.message);
        module.write_result(&result)?;
        results.push(result);
    }
    Ok(results)
}

/// Has the driver undo a module, notes that it is removed, and deletes its contents.
///
/// # Errors
/// It was never applied, or there is no driver for it.
pub async fn remove(op: &Op, env: &ModuleEnv, module: &ModuleSpec) -> Result<()> {
    let name = named(module)?;
    let kind = module.kind.as_deref().unwrap_or_default();
    let driver = env.driver(kind)?;
    let module = env.store().module(kind, module.id.as_deref().unwrap_or_default())?;
    let unapplied = || Error::NotFound { message: format!("Module '{}' has not been applied", name.escape_debug()) };
    let mut result = module.result()?.ok_or_else(unapplied)?;
    let outcome = driver.remove(op, &module.contents_file()).await;
    if !outcome.done {
        // As with Trove: what cannot be undone, because it was never done, would otherwise stay for ever.
        tracing::warn!(module = name, kind, reason = outcome.message, "the driver could not undo the module; it counts as removed");
    }
    result.removed = Some(now());
    module.write_result(&result)?;
    module.remove_contents()
}

fn named(module: &ModuleSpec) -> Result<&str> {
    module.name.as_deref().filter(|name| !name.is_empty()).ok_or_else(|| Error::invalid("Module name not specified"))
}

fn check(env: &ModuleEnv, spec: &ModuleSpec) -> Result<Checked> {
    let name = named(spec)?;
    let contents = spec.contents.as_ref().filter(|contents| !contents.expose_secret().is_empty());
    let contents = contents.ok_or_else(|| Error::invalid("Module contents not specified"))?;
    let kind = spec.kind.as_deref().unwrap_or_default();
    let driver = env.driver(kind)?;
    let or_all = |value: &Option<String>| value.as_deref().filter(|value| !value.is_empty()).unwrap_or(ALL).to_owned();
    let (tenant, datastore, datastore_version) = (or_all(&spec.tenant), or_all(&spec.datastore), or_all(&spec.datastore_version));
    let own = &env.settings.datastore_manager;
    if datastore != ALL && datastore != *own {
        return Err(Error::ModuleInvalid { reason: format!("Module not valid for datastore {own}") });
    }
    let compact = SecretString::from(contents.expose_secret().chars().filter(|c| !c.is_ascii_whitespace()).collect::<String>());
    let decoded = BASE64.decode(compact.expose_secret()).map_err(|_| Error::invalid("the contents of the module are not Base64"))?;
    let id = spec.id.clone().unwrap_or_default();
    let module = env.store().module(kind, &id)?;
    let (auto_apply, visible) = (spec.auto_apply.unwrap_or(true), spec.visible.unwrap_or(true));
    let now = now();
    let created = module.result()?.map_or_else(|| now.clone(), |earlier| earlier.created);
    let result = ModuleResult {
        kind: kind.to_owned(),
        name: name.to_owned(),
        is_admin: spec.is_admin.unwrap_or(tenant == ALL || !visible || auto_apply),
        datastore,
        datastore_version,
        tenant,
        id,
        md5: spec.md5.clone(),
        status: String::new(),
        message: None,
        created,
        updated: now,
        removed: None,
        auto_apply,
        visible,
        contents: None,
    };
    Ok(Checked { driver, module, contents: decoded.into(), result })
}

fn now() -> String {
    let mut text = Utc::now().to_string();
    text.truncate(TIME);
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use camino::Utf8PathBuf;
    use serde_json::{Value, json};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::managers::modules::new_relic_license::NO_KEY;
    use crate::model::RequestContext;
    use crate::system::command::SystemCommands;

    struct Guest {
        folder: tempfile::TempDir,
        env: ModuleEnv,
        user: Op,
        admin: Op,
    }

    fn guest() -> Guest {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        let text = format!("[DEFAULT]\nguest_id = g\ndatastore_manager = mysql\nstate_dir = {path}/state\n");
        let settings = Arc::new(Settings::from_text("test.conf", &text).unwrap());
        let new_relic = NewRelicPaths { configuration: path.join("nrsysmond.cfg"), control: path.join("newrelic-sysmond") };
        let op = |is_admin: bool| {
            let context = json!({"is_admin": is_admin}).as_object().cloned().unwrap();
            Op::new(CancellationToken::new(), RequestContext::from_wire(context))
        };
        Guest { folder, env: ModuleEnv { settings, commands: Arc::new(SystemCommands), new_relic }, user: op(false), admin: op(true) }
    }

    fn module(id: &str, kind: &str, contents: &str, more: Value) -> Value {
        let mut module = json!({"id": id, "name": id, "type": kind, "contents": BASE64.encode(contents), "md5": "5d41",
            "datastore": null, "datastore_version": null, "tenant": "t", "auto_apply": false, "visible": true, "is_admin": false});
        module.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        json!({"module": module})
    }

    async fn applied(guest: &Guest, modules: Vec<Value>) -> Result<Vec<ModuleResult>> {
        apply(&guest.user, &guest.env, &serde_json::from_value::<Vec<ModuleEnvelope>>(json!(modules)).unwrap()).await
    }

    #[tokio::test]
    async fn a_module_is_applied_listed_and_removed() {
        let guest = guest();
        let results = applied(&guest, vec![module("m1", "ping", "message=Hello\n", json!({}))]).await.unwrap();
        let shown = serde_json::to_value(&results[0]).unwrap();
        let now = shown["created"].clone();
        assert_eq!(now.as_str().unwrap().len(), TIME);
        let expected = json!({"type": "ping", "name": "m1", "datastore": "all", "datastore_version": "all", "tenant": "t", "id": "m1",
            "md5": "5d41", "status": "OK", "message": "Hello", "created": now, "updated": now, "removed": null, "auto_apply": false,
            "visible": true, "is_admin": false, "contents": null});
        assert_eq!(shown, expected);
        let contents = guest.folder.path().join("state/modules/ping/m1/contents.dat");
        assert_eq!(std::fs::metadata(&contents).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(list(&guest.user, &guest.env, true).unwrap()[0].contents.as_deref(), Some("bWVzc2FnZT1IZWxsbwo="));
        assert_eq!(list(&guest.user, &guest.env, false).unwrap()[0].contents, None);

        let again = applied(&guest, vec![module("m1", "ping", "nothing\n", json!({}))]).await.unwrap();
        assert_eq!((again[0].status.as_str(), &again[0].created), ("ERROR", &results[0].created));
        let spec: ModuleEnvelope = serde_json::from_value(module("m1", "ping", "x", json!({}))).unwrap();
        remove(&guest.user, &guest.env, &spec.module).await.unwrap();
        assert!(list(&guest.admin, &guest.env, false).unwrap().is_empty() && !contents.exists());
        let never: ModuleEnvelope = serde_json::from_value(module("m2", "ping", "x", json!({}))).unwrap();
        let error = remove(&guest.user, &guest.env, &never.module).await.unwrap_err();
        assert_eq!((error.to_string().as_str(), error.trove_class().class), ("Module 'm2' has not been applied", "NotFound"));
    }

    #[tokio::test]
    async fn users_see_neither_hidden_modules_nor_contents_of_administrators() {
        let guest = guest();
        let hidden = module("hidden", "ping", "message=a", json!({"visible": false}));
        let others = module("others", "ping", "message=b", json!({"is_admin": true}));
        applied(&guest, vec![hidden, others]).await.unwrap();
        let seen = list(&guest.user, &guest.env, true).unwrap();
        let words = BASE64.decode(seen[0].contents.as_ref().unwrap()).unwrap();
        assert_eq!((seen.len(), seen[0].id.as_str()), (1, "others"));
        assert_eq!(words, b"Must be admin to retrieve contents for module others");
        let all = list(&guest.admin, &guest.env, true).unwrap();
        assert!(all.len() == 2 && all.iter().all(|result| result.contents.as_ref().unwrap().starts_with("bWVzc2FnZT")));
    }

    #[tokio::test]
    async fn order_and_refusals() {
        let guest = guest();
        let ordered = |id: &str, priority: bool, order: i64| {
            module(id, "ping", "message=x", json!({"priority_apply": priority, "apply_order": order}))
        };
        let results = applied(&guest, vec![ordered("c", false, 1), ordered("b", false, 0), ordered("a", true, 5)]).await.unwrap();
        assert_eq!(results.iter().map(|result| result.id.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        for (more, class, words) in [
            (json!({"type": "shell"}), "ModuleTypeNotFound", "No driver implemented for module type 'shell'"),
            (json!({"datastore": "redis"}), "ModuleInvalid", "The module is invalid: Module not valid for datastore mysql"),
            (json!({"name": ""}), "ValueError", "Module name not specified"),
            (json!({"contents": null}), "ValueError", "Module contents not specified"),
            (json!({"contents": "planted!"}), "ValueError", "the contents of the module are not Base64"),
        ] {
            // Nothing of the call is done.
            let both = vec![module("first", "ping", "message=x", json!({})), module("bad", "ping", "message=x", more)];
            let error = applied(&guest, both).await.unwrap_err();
            assert_eq!((error.trove_class().class, error.to_string().as_str()), (class, words));
            assert_eq!(list(&guest.admin, &guest.env, false).unwrap().len(), 3);
        }
    }

    /// New Relic's server monitor is not to be had: a file and a script stand in for it.
    #[tokio::test]
    async fn a_licence_goes_into_the_file_and_nowhere_else() {
        let guest = guest();
        let key = "planted-licence-key";
        let licence = || module("nr", "new_relic_license", &format!("license_key={key}\n"), json!({}));
        let missing = applied(&guest, vec![licence()]).await.unwrap();
        let message = missing[0].message.as_deref().unwrap();
        assert!(missing[0].status == "ERROR" && message.starts_with("New Relic license key not installed: there is no "), "{message}");

        let paths = &guest.env.new_relic;
        std::fs::write(&paths.configuration, "# theirs\nlicense_key=old\nloglevel=info\n").unwrap();
        std::fs::write(&paths.control, format!("#!/bin/sh\necho \"$@\" >> {}.calls\n", paths.control)).unwrap();
        std::fs::set_permissions(&paths.control, std::fs::Permissions::from_mode(0o755)).unwrap();
        let results = applied(&guest, vec![licence()]).await.unwrap();
        assert_eq!(results[0].message.as_deref(), Some("New Relic license key installed"));
        assert!(!format!("{results:?}").contains(key));
        assert_eq!(std::fs::read_to_string(&paths.configuration).unwrap(), format!("# theirs\nloglevel=info\nlicense_key={key}\n"));
        let spec: ModuleEnvelope = serde_json::from_value(licence()).unwrap();
        assert!(!format!("{spec:?}").contains(&BASE64.encode(format!("license_key={key}\n"))));
        remove(&guest.user, &guest.env, &spec.module).await.unwrap();
        let left = std::fs::read_to_string(&paths.configuration).unwrap();
        assert!(left.ends_with(&format!("license_key={NO_KEY}\n")) && !left.contains(key));
        assert_eq!(std::fs::read_to_string(format!("{}.calls", paths.control)).unwrap(), "start\nstop\n");
        let empty = applied(&guest, vec![module("nr", "new_relic_license", "x=1\n", json!({}))]).await.unwrap();
        assert_eq!(empty[0].message.as_deref(), Some("'license_key' not found in contents file"));
    }
}
