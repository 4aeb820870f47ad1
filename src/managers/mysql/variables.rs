//! Setting variables of the running server: all of them, or none.

use serde_json::{Number, Value};

use super::client::Session;
use super::configuration::check_option_name;
use super::option_file::{OptionFile, is_server_group, normalize};
use super::quote::{Ident, SqlText};
use crate::error::{Error, Result};
use crate::model::Overrides;
use crate::op::Op;

/// `ER_WRONG_TYPE_FOR_VAR`.
const WRONG_TYPE: u16 = 1232;

/// A value as `SET GLOBAL` wants it.
#[derive(Debug, Clone, PartialEq)]
enum Typed {
    Default,
    Number(Number),
    Text(String),
}

/// Numbers as numbers, `16M` as bytes (Trove's `to_bytes`), truth as 1 and 0, everything else as text.
fn typed(name: &str, value: &Value) -> Result<Typed> {
    match value {
        Value::Null => Ok(Typed::Default),
        Value::Bool(flag) => Ok(Typed::Number(u8::from(*flag).into())),
        Value::Number(number) => Ok(Typed::Number(number.clone())),
        Value::String(text) => Ok(bytes(text).map_or_else(|| Typed::Text(text.clone()), Typed::Number)),
        Value::Array(_) | Value::Object(_) => {
            Err(Error::invalid(format!("the value of variable '{name}' is neither text, number nor boolean")))
        }
    }
}

fn bytes(text: &str) -> Option<Number> {
    if let Ok(number) = text.parse::<i64>() {
        return Some(number.into());
    }
    let shift = match text.chars().last()?.to_ascii_uppercase() {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => return text.parse::<f64>().ok().filter(|_| text.starts_with(|c: char| c.is_ascii_digit())).and_then(Number::from_f64),
    };
    let mut digits = text.chars();
    digits.next_back();
    digits.as_str().parse::<u64>().ok()?.checked_mul(1 << shift).map(Number::from)
}

/// `a.b` is a component's variable: two identifiers.
fn name_of(sql: SqlText, name: &str) -> Result<SqlText> {
    check_option_name(name)?;
    let name = normalize(name);
    match name.split_once('.') {
        Some((component, rest)) => Ok(sql.ident(&Ident::new(component)?).raw(".").ident(&Ident::new(rest)?)),
        None => Ok(sql.ident(&Ident::new(&name)?)),
    }
}

fn set_statement(name: &str, value: &Typed) -> Result<SqlText> {
    let sql = name_of(SqlText::new("SET GLOBAL "), name)?.raw(" = ");
    Ok(match value {
        Typed::Default => sql.raw("DEFAULT"),
        Typed::Number(number) => sql.number(number.clone()),
        Typed::Text(text) => sql.literal(text),
    })
}

async fn set(op: &Op, session: &mut Session<'_>, name: &str, value: &Typed) -> Result<()> {
    let action = || format!("set the variable {name}");
    let first = session.run(op, action(), &set_statement(name, value)?).await;
    match (first, value) {
        // A text variable that was given digits.
        (Err(error), Typed::Number(number)) if error.database_code() == Some(WRONG_TYPE) => {
            session.run(op, action(), &set_statement(name, &Typed::Text(number.to_string()))?).await
        }
        (result, _) => result,
    }
}

/// The values a group names, whatever the controller's release sends them as.
fn values(overrides: &Overrides) -> Vec<(String, Value)> {
    match overrides {
        Overrides::Values(values) => values.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        Overrides::Text(text) => {
            let file = OptionFile::parse(text);
            let options = file.options().filter(|(group, ..)| is_server_group(group));
            options.map(|(_, name, value)| (name.to_owned(), value.map_or(Value::Null, Value::from))).collect()
        }
    }
}

/// Sets every variable of `overrides`; when one is refused, those before it get their old values back.
///
/// # Errors
/// The first refusal.
pub(super) async fn apply(op: &Op, session: &mut Session<'_>, overrides: &Overrides) -> Result<()> {
    let wanted = values(overrides);
    let wanted: Vec<(String, Typed)> = wanted
        .into_iter()
        .map(|(name, value)| Ok((typed(&name, &value)?, name)).map(|(value, name)| (name, value)))
        .collect::<Result<_>>()?;
    let mut old = Vec::with_capacity(wanted.len());
    for (name, _) in &wanted {
        // As text: every type comes back as it was shown.
        let sql = name_of(SqlText::new("SELECT CONVERT(@@GLOBAL."), name)?.raw(" USING utf8mb4)");
        let value: Vec<Option<String>> = session.rows(op, format!("read the variable {name}"), &sql).await?;
        old.push(value.into_iter().next().flatten());
    }
    for (index, (name, value)) in wanted.iter().enumerate() {
        let Err(error) = set(op, session, name, value).await else { continue };
        for ((name, _), old) in wanted.iter().zip(&old).take(index).rev() {
            let before = old.as_ref().map_or(Typed::Default, |text| bytes(text).map_or_else(|| Typed::Text(text.clone()), Typed::Number));
            if let Err(error) = set(op, session, name, &before).await {
                tracing::warn!(variable = name, %error, "a variable kept its new value after another one was refused");
            }
        }
        return Err(error);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;
    use serde_json::json;

    fn sql(name: &str, value: Value) -> String {
        set_statement(name, &typed(name, &value).unwrap()).unwrap().render().expose_secret().to_owned()
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
        assert!(set_statement("x = 1, GLOBAL y", &Typed::Default).is_err());
    }
}
