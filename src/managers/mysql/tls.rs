//! TLS for clients ([`ClientTls`]): options of the system's layer, a reload where the server can, and what accounts must use.
//!
//! Names and meaning of the modes are Trove's (trove/guestagent/datastore/mysql_common/service.py: `set_users_access_mode`).

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::client::{Client, Session};
use super::configuration::Configuration;
use super::flavor::Flavor;
use super::names::Rules;
use super::quote::{Account, Ident, SqlText};
use super::roles::Roles;
use crate::codec::OptionFile;
use crate::config::TlsMode;
use crate::error::{Error, Result, ResultExt};
use crate::managers::configuration::{ChangeName, Group, Pending};
use crate::managers::tls::{ClientTls, Offer, TlsStore};
use crate::op::Op;
use crate::strategies::replication::mysql::{Host, Role};
use crate::system::certificates;
use crate::system::service::{ServiceControl, UnitState};

/// The files, by variable.
const FILES: [&str; 3] = ["ssl_ca", "ssl_cert", "ssl_key"];
/// What accounts of sources begin with, Trove's and this agent's: replicas have TLS settings of their own.
const REPLICATION_USERS: &str = "slave_";

/// TLS of one server.
#[derive(Debug)]
pub(super) struct Tls {
    pub(super) store: TlsStore,
    pub(super) configured_mode: Option<TlsMode>,
    pub(super) client: Arc<Client>,
    pub(super) configuration: Arc<Configuration>,
    pub(super) service: Arc<dyn ServiceControl>,
    pub(super) pending: Arc<Pending>,
    pub(super) roles: Arc<Roles>,
    pub(super) rules: Arc<Rules>,
}

/// The override file. Its number is fixed: operators know it by its name.
fn change() -> ChangeName {
    ChangeName { group: Group::System, number: 4, id: "client-tls".to_owned() }
}

/// What a mode demands of an account.
pub(super) fn requirement(mode: Option<TlsMode>) -> &'static str {
    match mode {
        None | Some(TlsMode::Basic) => " REQUIRE NONE",
        Some(TlsMode::Enforced) => " REQUIRE SSL",
        Some(TlsMode::Mtls) => " REQUIRE X509",
    }
}

/// Demands it of an account that is there.
pub(super) fn require_statement(flavor: Flavor, account: &Account, mode: Option<TlsMode>) -> SqlText {
    let words = if flavor.has_alter_user() { "ALTER USER " } else { "GRANT USAGE ON *.* TO " };
    SqlText::new(words).account(account).raw(requirement(mode))
}

/// Whether an account that `has` this (`mysql.user.ssl_type`) is to be changed. What names an issuer, a subject or a cipher is somebody's own, and stays.
fn differs(has: &str, mode: Option<TlsMode>) -> bool {
    match mode {
        None | Some(TlsMode::Basic) => ["ANY", "X509"].contains(&has),
        Some(TlsMode::Enforced) => ["", "X509"].contains(&has),
        Some(TlsMode::Mtls) => ["", "ANY"].contains(&has),
    }
}

/// `SET GLOBAL ssl_cert`, and `ALTER INSTANCE RELOAD TLS` (MySQL manual, 8.3.1).
fn sets_files_while_running(flavor: Flavor) -> bool {
    !flavor.is_mariadb() && flavor.version >= (8, 0, 16)
}

/// `FLUSH SSL` reads the same files again (MariaDB Knowledge Base, since 10.4).
fn reads_files_again(flavor: Flavor) -> bool {
    flavor.is_mariadb() && flavor.version >= (10, 4, 1)
}

type Variables = BTreeMap<String, String>;

async fn variables(op: &Op, session: &mut Session<'_>) -> Result<Variables> {
    let names = FILES.into_iter().chain(["tls_version", "have_ssl"]);
    let sql = SqlText::new("SHOW GLOBAL VARIABLES WHERE Variable_name IN (").literals(names).raw(")");
    let rows: Vec<(String, Option<String>)> = session.rows(op, "ask which TLS the server speaks", &sql).await?;
    Ok(rows.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect())
}

fn of<'a>(variables: &'a Variables, name: &str) -> &'a str {
    variables.get(name).map(String::as_str).unwrap_or_default()
}

impl Tls {
    /// The files an offer names, by variable; `None` where none are named, and the server does what it does by itself.
    fn wanted(&self, offer: &Offer) -> Option<Variables> {
        let Offer::Files(number) = offer else { return None };
        let files = self.store.files(*number);
        let authorities = files.authorities.map(camino::Utf8PathBuf::into_string).unwrap_or_default();
        let [ca, certificate, key] = FILES.map(str::to_owned);
        Some([(ca, authorities), (certificate, files.certificate.into_string()), (key, files.private_key.into_string())].into())
    }

    /// The override file; `None` when there is to be none.
    async fn options(&self, op: &Op, offer: &Offer) -> Result<Option<OptionFile>> {
        let mut options = OptionFile::of_group("mysqld");
        let mut set = |name: &str, value: &str| options.set_option("mysqld", name, &[Some(value.to_owned())]);
        match offer {
            Offer::Own(_) => return Ok(None),
            Offer::Off => set("ssl", "OFF")?,
            Offer::Files(_) => {
                let wanted = self.wanted(offer).unwrap_or_default();
                wanted.iter().filter(|(_, path)| !path.is_empty()).try_for_each(|(name, path)| set(name, path))?;
                // A base configuration may have switched it off.
                if self.configuration.program.known_options(op).await?.contains("ssl") {
                    set("ssl", "ON")?;
                }
            }
        }
        Ok(Some(options))
    }

    /// Writes the override file, after the server has looked at it.
    async fn configure(&self, op: &Op, offer: &Offer) -> Result<()> {
        let options = self.options(op, offer).await?;
        let change = change();
        self.configuration
            .change(op, |layers| match options {
                Some(options) => layers.place_change(&change, options),
                None => drop(layers.remove_change(change.group, &change.id)),
            })
            .await
    }

    /// Brings the running server in line. True when only a restart does.
    async fn bring_in_line(&self, op: &Op, session: &mut Session<'_>, offer: &Offer) -> Result<bool> {
        let now = variables(op, session).await?;
        let wanted = self.wanted(offer);
        let flavor = session.flavor();
        if sets_files_while_running(flavor) {
            let own = match offer {
                Offer::Own(own) => own.clone(),
                _ => Variables::new(),
            };
            set_files(op, session, &now, &wanted.unwrap_or(own)).await?;
            return Ok(false);
        }
        let same = |wanted: &Variables| FILES.iter().all(|name| of(&now, name) == of(wanted, name));
        match (offer, wanted) {
            (_, Some(wanted)) if is_on(&now) && same(&wanted) && reads_files_again(flavor) => {
                session.run(op, "have the server read its certificates", &SqlText::new("FLUSH SSL")).await.map(|()| false)
            }
            (Offer::Off, _) => Ok(is_on(&now)),
            (Offer::Own(own), _) => Ok(!same(own) || is_on(&now) != is_on(own)),
            _ => Ok(true),
        }
    }

    /// For a server that is started next on a volume that came with files.
    ///
    /// # Errors
    /// The configuration cannot be written.
    pub(super) async fn reinstate(&self, op: &Op) -> Result<()> {
        let Some(record) = self.store.read()? else { return Ok(()) };
        self.store.take(op).await?;
        self.configure(op, &record.current.offer).await
    }

    /// A new instance has no TLS of an earlier one.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(super) fn forget(&self) -> Result<()> {
        self.configuration.remove_system_change(&change().id)?;
        self.store.forget()
    }

    async fn accounts(&self, op: &Op, session: &mut Session<'_>) -> Result<Vec<(Account, String)>> {
        let mut sql = SqlText::new(
            "SELECT CONVERT(User USING utf8mb4), CONVERT(Host USING utf8mb4), CONVERT(ssl_type USING utf8mb4) FROM mysql.user \
             WHERE Host <> 'localhost' AND User <> ''",
        );
        if session.flavor().has_role_column() {
            sql = sql.raw(" AND is_role = 'N'");
        }
        let rows: Vec<(String, String, String)> = session.rows(op, "list accounts", &sql).await?;
        // The user's root is one of the user's accounts.
        let is_users = |name: &str| name == "root" || self.rules.check_user_reserved(name).is_ok() && !name.starts_with(REPLICATION_USERS);
        let users = rows.into_iter().filter(|(name, ..)| is_users(name));
        Ok(users.map(|(user, host, has)| (Account { user, host }, has)).collect())
    }
}

fn is_on(variables: &Variables) -> bool {
    !of(variables, "ssl_cert").is_empty()
        && !of(variables, "tls_version").is_empty()
        && !["DISABLED", "NO"].contains(&of(variables, "have_ssl"))
}

/// All of them and the reload, or none.
async fn set_files(op: &Op, session: &mut Session<'_>, now: &Variables, wanted: &Variables) -> Result<()> {
    let mut set = async |names: Vec<&str>, values: &Variables| -> Result<()> {
        for name in names {
            let words = SqlText::new("SET GLOBAL ").ident(&Ident::new(name)?).raw(" = ");
            let sql = values.get(name).map_or_else(|| words.clone().raw("DEFAULT"), |value| words.clone().literal(value));
            session.run(op, format!("set {name}"), &sql).await?;
        }
        session.run(op, "have the server read its certificates", &SqlText::new("ALTER INSTANCE RELOAD TLS")).await
    };
    let differ: Vec<&str> = FILES.into_iter().filter(|name| wanted.get(*name).is_none_or(|value| value != of(now, name))).collect();
    let Err(error) = set(differ.clone(), wanted).await else { return Ok(()) };
    // The server keeps what it had when a reload fails; its variables do not.
    set(differ, now).await.action(format!("go back to the certificates of before, after this: {error}"))?;
    Err(error)
}

#[async_trait]
impl ClientTls for Tls {
    fn store(&self) -> &TlsStore {
        &self.store
    }

    fn configured_mode(&self) -> Option<TlsMode> {
        self.configured_mode
    }

    async fn presented(&self, op: &Op) -> Result<Option<String>> {
        let mut session = self.client.session(op).await?;
        let now = variables(op, &mut session).await?;
        session.close().await;
        if !is_on(&now) {
            return Ok(None);
        }
        certificates::public_part(&self.configuration.layout.data_dir.join(of(&now, "ssl_cert")))
    }

    async fn own_settings(&self, op: &Op) -> Result<Variables> {
        let mut session = self.client.session(op).await?;
        let now = variables(op, &mut session).await?;
        session.close().await;
        Ok(now)
    }

    async fn check(&self, op: &Op, offer: &Offer) -> Result<()> {
        let flavor = self.configuration.program.flavor(op).await?;
        if *offer == Offer::Off && !flavor.is_mariadb() && flavor.version >= (8, 0, 0) {
            return Err(Error::bad_request(
                "TLS cannot be switched off for MySQL 8.0 and above: its accounts' passwords (caching_sha2_password) need it. \
                 Mode basic lets clients do without; ssl_rollback goes back to the certificates of before",
            ));
        }
        Ok(())
    }

    async fn offer(&self, op: &Op, offer: &Offer, _mode: Option<TlsMode>) -> Result<bool> {
        self.configure(op, offer).await.action("write the configuration of TLS")?;
        if !matches!(self.service.state(op).await?, UnitState::Running { .. }) {
            return Ok(false);
        }
        let mut session = self.client.session(op).await?;
        let waits = self.bring_in_line(op, &mut session, offer).await;
        session.close().await;
        let waits = waits?;
        let files = FILES.map(str::to_owned);
        self.pending.settle(op, &*self.service, &files, if waits { &files } else { &[] }).await?;
        Ok(waits)
    }

    async fn hold_accounts_to(&self, op: &Op, mode: Option<TlsMode>) -> Result<()> {
        if self.roles.has_role(Role::Replica)? {
            tracing::info!("accounts come from the source: what they must use is set there");
            return Ok(());
        }
        let mut session = self.client.session(op).await?;
        for (account, has) in self.accounts(op, &mut session).await? {
            if differs(&has, mode) {
                let sql = require_statement(session.flavor(), &account, mode);
                session.run(op, format!("set what {account} must use"), &sql).await?;
            }
        }
        session.close().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_changed_where_a_mode_wants_something_else() {
        let modes = [None, Some(TlsMode::Basic), Some(TlsMode::Enforced), Some(TlsMode::Mtls)];
        let changed = |has: &str| modes.map(|mode| differs(has, mode));
        assert_eq!(changed(""), [false, false, true, true]);
        assert_eq!(changed("ANY"), [true, true, false, true]);
        assert_eq!(changed("X509"), [true, true, true, false]);
        assert_eq!(changed("SPECIFIED"), [false; 4]);
    }

    #[test]
    fn statements_follow_the_version() {
        let statement = |version| {
            let flavor = Flavor::parse(version, "").unwrap();
            secrecy::ExposeSecret::expose_secret(&require_statement(flavor, &Account::new("a", None), Some(TlsMode::Enforced)).render())
                .to_owned()
        };
        assert_eq!(statement("5.6.51"), "GRANT USAGE ON *.* TO 'a'@'%' REQUIRE SSL");
        assert_eq!(statement("9.7.4"), "ALTER USER 'a'@'%' REQUIRE SSL");
    }
}
