//! Variables of the running server: set all of them, or none.

use serde_json::{Number, Value};

use super::client::Session;
use super::quote::{Ident, SqlText};
use crate::codec::Document;
use crate::codec::my_cnf::{OptionFile, check_name, normalize};
use crate::error::{Error, Result};
use crate::model::Overrides;
use crate::op::Op;

/// `ER_WRONG_TYPE_FOR_VAR`.
const WRONG_TYPE: u16 = 1232;
/// `ER_UNKNOWN_SYSTEM_VARIABLE`: an option that is no variable.
pub(super) const UNKNOWN: u16 = 1193;
/// `ER_INCORRECT_GLOBAL_LOCAL_VAR`: a variable that is taken at the start only.
pub(super) const READ_ONLY: u16 = 1238;
/// Values that no server takes, whichever way it is given them: `ER_WRONG_VALUE_FOR_VAR`, `ER_UNKNOWN_CHARACTER_SET`, `ER_UNKNOWN_COLLATION`,
/// `ER_UNKNOWN_STORAGE_ENGINE`, `ER_UNKNOWN_TIME_ZONE`.
const WRONG_VALUES: [u16; 5] = [1231, 1115, 1273, 1286, 1298];

/// A value as `SET` wants it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    /// What the server was built with.
    Default,
    Number(Number),
    Text(String),
}

impl Target {
    /// A value as option files and `--help` have it.
    pub(super) fn shown(text: &str) -> Target {
        match text {
            "(No default value)" => Target::Default,
            "TRUE" | "true" | "True" => Target::Number(1.into()),
            "FALSE" | "false" | "False" => Target::Number(0.into()),
            _ => bytes(text).map_or_else(|| Target::Text(text.to_owned()), Target::Number),
        }
    }
}

/// Numbers as numbers, `16M` as bytes (Trove's `to_bytes`), truth as 1 and 0, everything else as text.
fn typed(name: &str, value: &Value) -> Result<Target> {
    match value {
        Value::Null => Ok(Target::Default),
        Value::Bool(flag) => Ok(Target::Number(u8::from(*flag).into())),
        Value::Number(number) => Ok(Target::Number(number.clone())),
        Value::String(text) => Ok(bytes(text).map_or_else(|| Target::Text(text.clone()), Target::Number)),
        Value::Array(_) | Value::Object(_) => {
            Err(Error::invalid(format!("the value of variable '{name}' is neither text, number nor boolean")))
        }
    }
}

/// The number a text is, with the suffixes of option files.
pub(super) fn bytes(text: &str) -> Option<Number> {
    if let Ok(number) = text.parse::<i64>() {
        return Some(number.into());
    }
    let shift = match text.chars().last()?.to_ascii_uppercase() {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        'P' => 50,
        'E' => 60,
        _ => {
            let whole = text.parse::<u64>().ok().map(Number::from);
            return whole.or_else(|| {
                text.parse::<f64>().ok().filter(|_| text.starts_with(|c: char| c.is_ascii_digit())).and_then(Number::from_f64)
            });
        }
    };
    let mut digits = text.chars();
    digits.next_back();
    digits.as_str().parse::<u64>().ok()?.checked_mul(1 << shift).map(Number::from)
}

/// `a.b` is a component's variable: two identifiers.
fn name_of(sql: SqlText, name: &str) -> Result<SqlText> {
    check_name("option", name)?;
    let name = normalize(name);
    match name.split_once('.') {
        Some((component, rest)) => Ok(sql.ident(&Ident::new(component)?).raw(".").ident(&Ident::new(rest)?)),
        None => Ok(sql.ident(&Ident::new(&name)?)),
    }
}

fn set_statement(scope: &'static str, name: &str, value: &Target) -> Result<SqlText> {
    let sql = name_of(SqlText::new(scope), name)?.raw(" = ");
    Ok(match value {
        Target::Default => sql.raw("DEFAULT"),
        Target::Number(number) => sql.number(number.clone()),
        Target::Text(text) => sql.literal(text),
    })
}

async fn set(op: &Op, session: &mut Session<'_>, scope: &'static str, name: &str, value: &Target) -> Result<()> {
    let action = || format!("set the variable {name}");
    let first = session.run(op, action(), &set_statement(scope, name, value)?).await;
    match (first, value) {
        // A text variable that was given digits.
        (Err(error), Target::Number(number)) if error.database_code() == Some(WRONG_TYPE) => {
            session.run(op, action(), &set_statement(scope, name, &Target::Text(number.to_string()))?).await
        }
        (result, _) => result,
    }
}

const GLOBAL: &str = "SET GLOBAL ";
const SESSION: &str = "SET SESSION ";

/// A variable's value before it was changed.
#[derive(Debug)]
pub(super) struct Old {
    name: String,
    value: Target,
}

/// What came of [`settle`].
#[derive(Debug)]
pub(super) struct Settled {
    /// What was changed.
    pub(super) old: Vec<Old>,
    /// What the running server cannot be given.
    pub(super) waiting: Vec<String>,
}

/// The values a group names, whatever the controller's release sends them as.
///
/// # Errors
/// A value that no variable can have.
pub(super) fn targets(overrides: &Overrides) -> Result<Vec<(String, Target)>> {
    match overrides {
        Overrides::Values(values) => values.iter().map(|(name, value)| Ok((name.clone(), typed(name, value)?))).collect(),
        Overrides::Text(text) => {
            let file = OptionFile::parse(text);
            Ok(file.server_options().map(|(name, value)| (name, value.map_or(Target::Default, Target::shown))).collect())
        }
    }
}

/// A variable of the running server as text: every type comes back as it was shown.
async fn running(op: &Op, session: &mut Session<'_>, name: &str) -> Result<Option<String>> {
    let sql = name_of(SqlText::new("SELECT CONVERT(@@GLOBAL."), name)?.raw(" USING utf8mb4)");
    let value: Vec<Option<String>> = session.rows(op, format!("read the variable {name}"), &sql).await?;
    Ok(value.into_iter().next().flatten())
}

/// Sets variables; when one is refused, those before it get their old values back. Refusals of the kinds in `may_wait` are not: such a variable
/// waits for the server's next start.
///
/// # Errors
/// The first refusal.
pub(super) async fn settle(op: &Op, session: &mut Session<'_>, wanted: &[(String, Target)], may_wait: &[u16]) -> Result<Settled> {
    let waits = |error: &Error| error.database_code().is_some_and(|code| may_wait.contains(&code));
    let mut settled = Settled { old: Vec::new(), waiting: Vec::new() };
    let mut before = Vec::with_capacity(wanted.len());
    for (name, value) in wanted {
        match running(op, session, name).await {
            Ok(now) => before.push((name, value, now)),
            Err(error) if waits(&error) => settled.waiting.push(name.clone()),
            Err(error) => return Err(error),
        }
    }
    for (name, value, now) in before {
        match set(op, session, GLOBAL, name, value).await {
            Ok(()) => {
                settled.old.push(Old { name: name.clone(), value: now.as_deref().map_or(Target::Default, Target::shown) });
                warn_of_rounding(op, session, name, value).await?;
            }
            Err(error) if waits(&error) => {
                if !is_in_effect(op, session, name, value, now.as_deref()).await? {
                    settled.waiting.push(name.clone());
                }
            }
            Err(error) => {
                put_back(op, session, &settled.old).await;
                return Err(error);
            }
        }
    }
    Ok(settled)
}

/// Gives variables their old values back, the last one first.
pub(super) async fn put_back(op: &Op, session: &mut Session<'_>, old: &[Old]) {
    for Old { name, value } in old.iter().rev() {
        if let Err(error) = set(op, session, GLOBAL, name, value).await {
            tracing::warn!(variable = name, %error, "a variable kept its new value after another one was refused");
        }
    }
}

/// Out of range is an error of the session's strict mode; what remains is rounding.
async fn warn_of_rounding(op: &Op, session: &mut Session<'_>, name: &str, wanted: &Target) -> Result<()> {
    if let Target::Number(wanted) = wanted {
        let used = running(op, session, name).await?.and_then(|text| bytes(&text));
        if let Some(used) = used.filter(|used| used.as_f64() != wanted.as_f64()) {
            tracing::warn!(variable = name, %wanted, %used, "the server has rounded a value");
        }
    }
    Ok(())
}

/// True when a variable that cannot be set has the wanted value already.
async fn is_in_effect(op: &Op, session: &mut Session<'_>, name: &str, wanted: &Target, now: Option<&str>) -> Result<bool> {
    let plain = |target: &Target| match target {
        Target::Number(number) => number.as_f64().map(|number| number.to_string()),
        Target::Text(text) => match text.to_ascii_uppercase().as_str() {
            "ON" | "YES" => Some("1".to_owned()),
            "OFF" | "NO" => Some("0".to_owned()),
            other => Some(other.to_owned()),
        },
        Target::Default => None,
    };
    if *wanted != Target::Default {
        return Ok(now.is_some_and(|now| plain(&Target::shown(now)) == plain(wanted)));
    }
    let (sql, built_in) = if session.flavor().is_mariadb() {
        (SqlText::new("SELECT GLOBAL_VALUE_ORIGIN FROM information_schema.SYSTEM_VARIABLES WHERE VARIABLE_NAME = "), "COMPILE-TIME")
    } else {
        (SqlText::new("SELECT VARIABLE_SOURCE FROM performance_schema.variables_info WHERE VARIABLE_NAME = "), "COMPILED")
    };
    let origin: Result<Vec<Option<String>>> =
        session.rows(op, format!("read where {name} comes from"), &sql.literal(&normalize(name))).await;
    match origin {
        Ok(rows) => Ok(rows.into_iter().flatten().any(|origin| origin == built_in)),
        // Servers before MySQL 5.7 and MariaDB 10.1 do not tell.
        Err(error) if error.database_code().is_some() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sets variables all together, or none of them.
///
/// # Errors
/// The first refusal.
pub(super) async fn apply(op: &Op, session: &mut Session<'_>, overrides: &Overrides) -> Result<()> {
    settle(op, session, &targets(overrides)?, &[]).await.map(drop)
}

/// Gives values to this session alone, to hear what a server says of them. The session is of no other use afterwards.
///
/// # Errors
/// The server knows a value to be wrong.
pub(super) async fn try_out(op: &Op, session: &mut Session<'_>, values: &[(String, Target)]) -> Result<()> {
    // Quoting relies on the session's SQL mode.
    let (modes, others): (Vec<_>, Vec<_>) = values.iter().partition(|(name, _)| normalize(name) == "sql_mode");
    for (name, value) in others.into_iter().chain(modes) {
        match set(op, session, SESSION, name, value).await {
            Err(error) if error.database_code().is_none_or(|code| WRONG_VALUES.contains(&code)) => return Err(error),
            // Most variables are not the session's.
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;
    use serde_json::json;

    fn sql(name: &str, value: Value) -> String {
        set_statement(GLOBAL, name, &typed(name, &value).unwrap()).unwrap().render().expose_secret().to_owned()
    }

    #[test]
    fn values_keep_their_types() {
        assert_eq!(sql("max_connections", json!(10)), "SET GLOBAL `max_connections` = 10");
        assert_eq!(sql("max-connections", json!("10")), "SET GLOBAL `max_connections` = 10");
        assert_eq!(sql("key_buffer_size", json!("16M")), "SET GLOBAL `key_buffer_size` = 16777216");
        assert_eq!(sql("local_infile", json!(true)), "SET GLOBAL `local_infile` = 1");
        assert_eq!(sql("long_query_time", json!("0.5")), "SET GLOBAL `long_query_time` = 0.5");
        assert_eq!(sql("init_connect", json!("SET x = 'y'")), "SET GLOBAL `init_connect` = 'SET x = ''y'''");
        assert_eq!(sql("sql_mode", json!("M")), "SET GLOBAL `sql_mode` = 'M'");
        assert_eq!(sql("validate_password.length", json!(null)), "SET GLOBAL `validate_password`.`length` = DEFAULT");
        assert!(set_statement(GLOBAL, "x = 1, GLOBAL y", &Target::Default).is_err());
    }

    #[test]
    fn numbers_are_read_as_servers_read_them() {
        let shown = |text: &str| Target::shown(text);
        assert_eq!(shown("18446744073709551615"), Target::Number(u64::MAX.into()));
        assert_eq!(
            (shown("TRUE"), shown("10.000000"), shown("1E")),
            (Target::Number(1.into()), typed("x", &json!(10.0)).unwrap(), Target::Number((1_u64 << 60).into()))
        );
        assert_eq!(
            (shown("(No default value)"), shown("M"), shown("99E")),
            (Target::Default, Target::Text("M".into()), Target::Text("99E".into()))
        );
    }
}
