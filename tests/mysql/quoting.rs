//! What is quoted comes back from the server as it was, whatever it holds.

use trove_guestagent::managers::mysql::{Ident, SqlText};

use crate::hostile::{CASES, hostile, samples};
use crate::support::on_both;

#[test]
fn every_string_comes_back() {
    on_both(|guest| async move {
        let mut session = guest.manager.client().session(&guest.op).await.unwrap();
        for value in samples(hostile()) {
            let sql = SqlText::new("SELECT ").literal(&value).raw(", 'untouched'");
            let rows: Vec<(String, String)> = session.rows(&guest.op, "read", &sql).await.unwrap();
            assert_eq!(rows, [(value, "untouched".to_owned())]);
        }
        session.close().await;
    });
}

#[test]
fn every_name_comes_back() {
    on_both(|guest| async move {
        let mut session = guest.manager.client().session(&guest.op).await.unwrap();
        let mut kept = 0;
        for name in samples(hostile()) {
            // Letters around it: the server trims blanks off an alias; and an alias has 256 characters at most.
            let name: String = format!("x{}", name.chars().take(200).collect::<String>()) + "x";
            let Ok(ident) = Ident::new(&name) else {
                assert!(name.chars().any(|c| c == '\0' || c > '\u{ffff}'), "{name:?}");
                continue;
            };
            let sql = SqlText::new("SELECT 1 AS ").ident(&ident).raw(", 2 AS untouched");
            let rows: Vec<mysql_async::Row> = session.rows(&guest.op, "read", &sql).await.unwrap();
            let names: Vec<_> = rows[0].columns_ref().iter().map(|column| column.name_str().into_owned()).collect();
            assert_eq!(names, [name.as_str(), "untouched"]);
            kept += 1;
        }
        assert!(kept > CASES / 4, "only {kept} names were tried");
        session.close().await;
    });
}

#[test]
fn sessions_do_not_depend_on_the_servers_modes() {
    on_both(|guest| async move {
        let before = guest.column(SqlText::new("SELECT @@GLOBAL.sql_mode")).await[0].clone().unwrap();
        guest.sql(SqlText::new("SET GLOBAL sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH'")).await;
        let value = "a\\' \" ` \\\\ 😀";
        let read = guest.column(SqlText::new("SELECT ").literal(value)).await;
        guest.sql(SqlText::new("SET GLOBAL sql_mode = ").literal(&before)).await;
        assert_eq!(read, [Some(value.to_owned())]);
    });
}
