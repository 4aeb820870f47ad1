//! The agent's account in the database, and everything a stranger could use taken away.

use camino::Utf8PathBuf;
use secrecy::{ExposeSecret, SecretString};

use super::accounts::{exists, password_statement};
use super::client::{Client, Login, Session};
use super::credentials::{self, OS_ADMIN, random_password};
use super::flavor::Flavor;
use super::layout::Layout;
use super::quote::{Account, SqlText};
use crate::error::{Error, Result, ResultExt};
use crate::managers::Owner;
use crate::op::Op;
use crate::system::files;

/// Where old packages of MySQL 5.6 left the password they gave to root.
const MYSQL_SECRET: &str = "/root/.mysql_secret";
/// Where Debian's packages keep the account of their maintenance scripts.
const DEBIAN_CNF: &str = "/etc/mysql/debian.cnf";

/// Trove's `os_admin@localhost`.
pub(super) fn admin_account() -> Account {
    Account::new(OS_ADMIN, Some("localhost"))
}

/// Opens a session with all privileges by one of the ways in, best first: the agent's own account; root, by the operating
/// system's word or with no password; root's password as a package left it; Debian's maintenance account.
/// `None` when all of them are closed.
pub(super) async fn way_in<'a>(op: &Op, client: &'a Client, layout: &Layout) -> Result<Option<Session<'a>>> {
    let mut logins = Vec::new();
    logins.extend(credentials::read(&layout.credentials)?);
    logins.push(Login { user: "root".into(), password: None });
    logins.extend(package_login()?);
    logins.extend(credentials::read(DEBIAN_CNF.into())?);
    for login in logins {
        match client.session_as(op, &login).await {
            Ok(mut session) => {
                if is_powerful(op, &mut session).await? {
                    return Ok(Some(session));
                }
                session.close().await;
            }
            Err(error @ Error::Database { .. }) => tracing::debug!(user = login.user, %error, "not a way in"),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// True when the session's account can make another one like itself.
async fn is_powerful(op: &Op, session: &mut Session<'_>) -> Result<bool> {
    let grants: Vec<String> = session.rows(op, "read the agent's own privileges", &SqlText::new("SHOW GRANTS")).await?;
    Ok(grants.iter().any(|grant| grant.starts_with("GRANT ALL PRIVILEGES ON *.*") || grant.contains("CREATE USER"))
        && grants.iter().any(|grant| grant.contains("GRANT OPTION")))
}

/// The line is `# The random password set for the root user at DATE: PASSWORD`.
fn package_login() -> Result<Option<Login>> {
    let text = files::read_optional(MYSQL_SECRET.into())?.unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("# The random password set for the root user"));
    let password = line.and_then(|line| line.rsplit_once(": ")).map(|(_, password)| SecretString::from(password.trim()));
    Ok(password.map(|password| Login { user: "root".into(), password: Some(password) }))
}

/// Makes `os_admin@localhost`, or gives it a new password, and writes it down.
pub(super) async fn create_admin(op: &Op, session: &mut Session<'_>, layout: &Layout, length: usize) -> Result<()> {
    let account = admin_account();
    let password = random_password(length)?;
    if exists(op, session, &account).await? {
        let sql = password_statement(session, &account, &password);
        session.run(op, format!("change the password of {account}"), &sql).await?;
    } else {
        let sql = SqlText::new("CREATE USER ").account(&account).raw(" IDENTIFIED BY ").secret(&password);
        session.run(op, format!("create user {account}"), &sql).await?;
    }
    let sql = SqlText::new("GRANT ALL PRIVILEGES ON *.* TO ").account(&account).raw(" WITH GRANT OPTION");
    session.run(op, format!("grant privileges to {account}"), &sql).await?;
    credentials::write(&layout.credentials, &Login { user: OS_ADMIN.into(), password: Some(password) }, &layout.socket)
}

/// A file of statements that a starting server runs with all rights: the way in that is always open.
#[derive(Debug)]
pub(super) struct InitFile {
    /// Where the server reads it; it holds a password, and only the server's account can read it.
    pub(super) path: Utf8PathBuf,
    /// What the statements set.
    pub(super) login: Login,
}

/// Writes statements that create `os_admin@localhost`, into the data directory: nobody but the server may look in there.
pub(super) async fn write_init_file(op: &Op, layout: &Layout, flavor: Flavor, owner: &Owner, length: usize) -> Result<InitFile> {
    let path = layout.data_dir.join(".trove-init.sql");
    let password = random_password(length)?;
    let mut text = String::new();
    for statement in init_statements(flavor, &password) {
        text.push_str(statement.render().expose_secret());
        text.push_str(";\n");
    }
    let text = SecretString::from(text);
    files::write_atomic(&path, text.expose_secret().as_bytes(), 0o600, None)?;
    owner.take(op, &path).await.action("prepare the server's first statements")?;
    Ok(InitFile { path, login: Login { user: OS_ADMIN.into(), password: Some(password) } })
}

fn init_statements(flavor: Flavor, password: &SecretString) -> Vec<SqlText> {
    let account = admin_account();
    let grant = |sql: SqlText| sql.raw(" WITH GRANT OPTION");
    let all = || SqlText::new("GRANT ALL PRIVILEGES ON *.* TO ").account(&account);
    if flavor.has_create_if_not_exists() && flavor.has_alter_user() {
        vec![
            SqlText::new("CREATE USER IF NOT EXISTS ").account(&account).raw(" IDENTIFIED BY ").secret(password),
            SqlText::new("ALTER USER ").account(&account).raw(" IDENTIFIED BY ").secret(password),
            grant(all()),
        ]
    } else {
        vec![grant(all().raw(" IDENTIFIED BY ").secret(password))]
    }
}

/// Takes away anonymous accounts, root from elsewhere (unless `keep_remote_root`: a restored database whose owner had root
/// enabled), everybody's rights on `test`, and root's empty password.
pub(super) async fn secure(op: &Op, session: &mut Session<'_>, length: usize, keep_remote_root: bool) -> Result<()> {
    let mut sql = SqlText::new("SELECT CONVERT(User USING utf8mb4), CONVERT(Host USING utf8mb4) FROM mysql.user ")
        .raw("WHERE (User = '' OR (User = 'root' AND Host <> 'localhost'))");
    if session.flavor().has_role_column() {
        sql = sql.raw(" AND is_role = 'N'");
    }
    for (user, host) in session.rows::<(String, String)>(op, "look for accounts anybody could use", &sql).await? {
        if user.is_empty() || !keep_remote_root {
            let account = Account { user, host };
            session.run(op, format!("drop user {account}"), &SqlText::new("DROP USER ").account(&account)).await?;
        }
    }
    session.run(op, "remove anonymous privileges", &SqlText::new("DELETE FROM mysql.db WHERE User = '' AND Db LIKE 'test%'")).await?;
    session.run(op, "reload the privileges", &SqlText::new("FLUSH PRIVILEGES")).await?;
    secure_local_root(op, session, length).await
}

/// `root@localhost` by the operating system's word alone where the server has that: better than a password that somebody has to
/// keep. Elsewhere a random password, which nobody knows; the agent has its own account.
async fn secure_local_root(op: &Op, session: &mut Session<'_>, length: usize) -> Result<()> {
    let root = Account::new("root", Some("localhost"));
    if !exists(op, session, &root).await? {
        return Ok(());
    }
    let flavor = session.flavor();
    let by_socket = if flavor.is_mariadb() && flavor.version >= (10, 4, 3) {
        let sql = SqlText::new("ALTER USER ").account(&root).raw(" IDENTIFIED VIA unix_socket");
        match session.run(op, "let root in by the operating system's word", &sql).await {
            Ok(()) => true,
            // ER_PLUGIN_IS_NOT_LOADED: an administrator has switched it off.
            Err(error) if error.database_code() == Some(1524) => false,
            Err(error) => return Err(error),
        }
    } else {
        let sql = SqlText::new("SELECT plugin FROM mysql.user WHERE User = 'root' AND Host = 'localhost'");
        let plugins: Vec<Option<String>> = session.rows(op, "look how root logs in", &sql).await?;
        plugins.iter().flatten().any(|plugin| matches!(plugin.as_str(), "auth_socket" | "unix_socket"))
    };
    if by_socket {
        return Ok(());
    }
    let password = random_password(length)?;
    let sql = password_statement(session, &root, &password);
    session.run(op, format!("change the password of {root}"), &sql).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_get_the_statement_they_know() {
        let shown = |version| {
            let flavor = Flavor::parse(version, "").unwrap();
            init_statements(flavor, &"pw".into()).iter().map(|sql| format!("{sql:?}")).collect::<Vec<_>>()
        };
        assert_eq!(shown("5.5.62"), ["GRANT ALL PRIVILEGES ON *.* TO 'os_admin'@'localhost' IDENTIFIED BY '***' WITH GRANT OPTION"]);
        assert_eq!(shown("9.7.4").len(), 3);
    }
}
