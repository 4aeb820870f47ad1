//! [`Following`]: what a server says of its own following (`SHOW REPLICA STATUS`).

use mysql_async::Row;

use super::coordinates::Coordinates;

/// A row of `SHOW REPLICA STATUS`.
#[derive(Debug, Clone)]
pub(super) struct Following {
    /// Whom.
    pub(super) host: String,
    /// Where.
    pub(super) port: u16,
    /// As whom.
    pub(super) user: Option<String>,
    /// The source's UUID, or its server id; `None` before the first contact.
    pub(super) source: Option<String>,
    /// It is connected and receives.
    pub(super) receiving: bool,
    /// What it applies is being applied, or would be if there were any.
    pub(super) applying: bool,
    /// Receiving has stopped for good, and why.
    pub(super) receive_error: Option<String>,
    /// The last trouble with receiving, whether it goes on or not.
    pub(super) trouble: Option<String>,
    /// Applying has stopped, and why.
    pub(super) apply_error: Option<String>,
    /// MySQL's GTIDs received since the start of receiving.
    pub(super) received_set: String,
    /// MariaDB's GTID received last.
    pub(super) received_position: String,
    /// Received so far, in the source's log.
    pub(super) received: Option<Coordinates>,
    /// Applied so far, in the source's log.
    pub(super) applied: Option<Coordinates>,
    /// Everything received has been read by the one who applies; it may still be at work.
    pub(super) all_read: bool,
}

impl Following {
    /// Reads a row, in old words or new.
    pub(super) fn of(row: &Row) -> Following {
        let text = |names: [&str; 2]| names.into_iter().find_map(|name| row.get_opt::<Option<String>, _>(name)?.ok()?);
        let filled = |names| text(names).filter(|text| !text.is_empty());
        let place = |file, place| {
            let place = text(place)?.parse().ok()?;
            filled(file).map(|file| Coordinates { file, place })
        };
        let error = |number, words| {
            let number: u32 = text(number)?.parse().ok()?;
            (number != 0).then(|| format!("{} (error {number})", text(words).unwrap_or_default()))
        };
        let receiving = text(["Replica_IO_Running", "Slave_IO_Running"]).unwrap_or_default();
        let applying = text(["Replica_SQL_Running", "Slave_SQL_Running"]).is_some_and(|word| word == "Yes");
        let trouble = error(["Last_IO_Errno", "Last_IO_Errno"], ["Last_IO_Error", "Last_IO_Error"]);
        // MariaDB reports 0 before the first contact.
        let uuid = filled(["Source_UUID", "Master_UUID"]);
        let id = filled(["Source_Server_Id", "Master_Server_Id"]).filter(|id| id != "0");
        Following {
            host: text(["Source_Host", "Master_Host"]).unwrap_or_default(),
            port: text(["Source_Port", "Master_Port"]).and_then(|port| port.parse().ok()).unwrap_or_default(),
            user: filled(["Source_User", "Master_User"]),
            source: uuid.or(id),
            receiving: receiving == "Yes",
            applying,
            receive_error: trouble.clone().filter(|_| receiving == "No"),
            trouble,
            apply_error: error(["Last_SQL_Errno", "Last_SQL_Errno"], ["Last_SQL_Error", "Last_SQL_Error"]).filter(|_| !applying),
            received_set: text(["Retrieved_Gtid_Set", "Retrieved_Gtid_Set"]).unwrap_or_default(),
            received_position: text(["Gtid_IO_Pos", "Gtid_IO_Pos"]).unwrap_or_default(),
            received: place(["Source_Log_File", "Master_Log_File"], ["Read_Source_Log_Pos", "Read_Master_Log_Pos"]),
            applied: place(["Relay_Source_Log_File", "Relay_Master_Log_File"], ["Exec_Source_Log_Pos", "Exec_Master_Log_Pos"]),
            all_read: text(["Replica_SQL_Running_State", "Slave_SQL_Running_State"])
                .is_some_and(|state| state.contains("has read all relay log")),
        }
    }

    /// Why it does not follow at the moment, if it does not.
    pub(super) fn trouble(&self) -> Option<String> {
        let stopped = || (!self.receiving || !self.applying).then(|| "replication is stopped, or is connecting".to_owned());
        let known = self.broken().or(self.trouble.as_deref().filter(|_| !self.receiving));
        known.map(str::to_owned).or_else(stopped)
    }

    /// What keeps it from going on, for an error message.
    pub(super) fn broken(&self) -> Option<&str> {
        self.apply_error.as_deref().or(self.receive_error.as_deref())
    }
}
