//! [`Role`]: what a guest is in its cluster.

use secrecy::SecretString;
use serde_json::{Value, json};

use super::super::configuration::{Conf, store};
use super::super::flat;
use super::super::layout::Layout;
use crate::codec::{Document, Yaml};
use crate::error::{Error, Result};
use crate::managers::configuration::Group;

/// Name of the layer that makes a server a part of a cluster (trove/guestagent/datastore/experimental/mongodb/service.py: `CNF_CLUSTER`).
pub(in crate::managers::mongodb) const CLUSTERING: &str = "clustering";
/// Name of the set of a cluster's config servers. Trove has none: its servers kept three equal copies, as none does since 3.4 (manual, "Replica Set Config Servers").
pub(super) const CONFIG_SET: &str = "configsvr";
const SET_NAME: [&str; 2] = ["replication", "replSetName"];
const CONFIG_SERVERS: [&str; 2] = ["sharding", "configDB"];
const KEY_FILE: [&str; 2] = ["security", "keyFile"];
/// Until its config servers are known, for a router to read the rest of its configuration: `mongos` refuses one without any.
const ANY_CONFIG_SERVERS: &str = "configsvr/127.0.0.1:27019";

/// `instance_type` of `cluster_config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::managers::mongodb) enum Role {
    /// A member of a shard, which is a replica set.
    Member {
        /// Name of the set.
        replica_set: String,
    },
    /// It knows which data are where.
    ConfigServer,
    /// It sends clients to the shards, and has no data.
    QueryRouter,
}

/// What `cluster_config` says.
#[derive(Debug)]
pub(in crate::managers::mongodb) struct Membership {
    pub(in crate::managers::mongodb) role: Role,
    /// By which the cluster's servers know each other; none with Kilo, and where the operator has switched `cluster_secure` off.
    pub(in crate::managers::mongodb) key: Option<SecretString>,
}

impl Membership {
    /// Reads `cluster_config`.
    ///
    /// # Errors
    /// It is no role of this datastore.
    pub(in crate::managers::mongodb) fn parse(cluster_config: &Value) -> Result<Membership> {
        let text = |key: &str| cluster_config.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let role = match text("instance_type") {
            Some("member") => {
                let name =
                    text("replica_set_name").ok_or_else(|| Error::bad_request("cluster_config names no replica set for a member"))?;
                check_set_name(name)?;
                Role::Member { replica_set: name.to_owned() }
            }
            Some("config_server") => Role::ConfigServer,
            Some("query_router") => Role::QueryRouter,
            other => {
                return Err(Error::bad_request(format!(
                    "cluster_config has the instance type '{}': a guest is a member, a config_server or a query_router",
                    other.unwrap_or_default().escape_debug()
                )));
            }
        };
        Ok(Membership { role, key: text("key").map(SecretString::from) })
    }

    /// The layer of such a server; `port` for the one whose base says none.
    ///
    /// # Errors
    /// A value has no form in YAML.
    pub(in crate::managers::mongodb) fn layer(&self, layout: &Layout, port: u16) -> Result<Yaml> {
        // A role changes what the server takes for its port (manual, "sharding.clusterRole").
        let mut own: Vec<(&str, Value)> = match &self.role {
            Role::Member { replica_set } => vec![
                ("net.port", json!(port)),
                ("replication.replSetName", json!(replica_set)),
                ("sharding.clusterRole", json!("shardsvr")),
            ],
            Role::ConfigServer => vec![
                ("net.port", json!(layout.config_port)),
                ("replication.replSetName", json!(CONFIG_SET)),
                ("sharding.clusterRole", json!("configsvr")),
            ],
            // They come with `add_config_servers`.
            Role::QueryRouter => vec![("net.port", json!(port)), ("sharding.configDB", json!(""))],
        };
        if self.key.is_some() {
            own.extend([("security.keyFile", json!(layout.key_file())), ("security.clusterAuthMode", json!("keyFile"))]);
        }
        if self.role != Role::QueryRouter {
            // Without a key nobody could log in to another server: one with authorization does not become a member then.
            let authorization = if self.key.is_some() { "enabled" } else { "disabled" };
            own.push(("security.authorization", json!(authorization)));
        }
        let mut layer = Yaml::parse("");
        own.iter().try_for_each(|(name, value)| layer.set(&flat::path(name), value))?;
        Ok(layer)
    }
}

impl Role {
    /// The role that the configuration gives its server; none outside of a cluster.
    pub(in crate::managers::mongodb) fn of(layers: &Conf) -> Option<Role> {
        let layer = layers.change(Group::System, CLUSTERING)?;
        if layer.get(&CONFIG_SERVERS).is_some() {
            return Some(Role::QueryRouter);
        }
        if layer.get(&["sharding", "clusterRole"]) == Some(json!("configsvr")) {
            return Some(Role::ConfigServer);
        }
        let replica_set = layer.get(&SET_NAME)?.as_str()?.to_owned();
        Some(Role::Member { replica_set })
    }

    /// The role of this guest.
    ///
    /// # Errors
    /// The configuration cannot be read.
    pub(in crate::managers::mongodb) fn of_guest(layout: &Layout) -> Result<Option<Role>> {
        Ok(Role::of(&store(layout, None, layout.main_file()).read()?))
    }

    /// Name of the replica set it is a member of; a query router is in none.
    pub(super) fn set_name(&self) -> Option<&str> {
        match self {
            Role::Member { replica_set } => Some(replica_set),
            Role::ConfigServer => Some(CONFIG_SET),
            Role::QueryRouter => None,
        }
    }
}

/// True where the cluster has a key.
pub(super) fn has_key(layers: &Conf) -> bool {
    layers.change(Group::System, CLUSTERING).is_some_and(|layer| layer.get(&KEY_FILE).is_some())
}

/// True for a router that knows no config servers yet.
pub(in crate::managers::mongodb) fn is_waiting(merged: &Yaml) -> bool {
    merged.get(&CONFIG_SERVERS).is_some_and(|servers| servers.as_str().is_some_and(str::is_empty))
}

/// What a router without config servers reads in their place, to say what it makes of the rest.
///
/// # Errors
/// The base has something else in that place.
pub(in crate::managers::mongodb) fn to_be_read(mut merged: Yaml) -> Result<Yaml> {
    if is_waiting(&merged) {
        merged.set(&CONFIG_SERVERS, &json!(ANY_CONFIG_SERVERS))?;
    }
    Ok(merged)
}

/// The layer of a router with these config servers.
///
/// # Errors
/// A name has no form in YAML.
pub(super) fn with_config_servers(layers: &Conf, hosts: &[String]) -> Result<Yaml> {
    let mut layer = layers.change(Group::System, CLUSTERING).cloned().unwrap_or_else(|| Yaml::parse(""));
    layer.set(&CONFIG_SERVERS, &json!(format!("{CONFIG_SET}/{}", hosts.join(","))))?;
    Ok(layer)
}

/// Names become parts of addresses: `rs1/host:port`.
///
/// # Errors
/// It cannot.
pub(super) fn check_set_name(name: &str) -> Result<()> {
    let valid = (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    match valid {
        true => Ok(()),
        false => Err(Error::invalid(format!("'{}' is no name of a replica set", name.escape_debug()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::managers::configuration::Layers;
    use secrecy::ExposeSecret;

    fn layout() -> Layout {
        let text =
            "[DEFAULT]\nguest_id = g\ndatastore_manager = mongodb\ntransport_url = rabbit://u:p@127.0.0.1/\n[mongodb]\nconfig_dir = /c\n";
        Layout::new(&crate::config::Settings::from_text("guest.conf", text).unwrap())
    }

    fn layers(membership: &Membership) -> Conf {
        let mut layers = Layers::new(Yaml::parse(""));
        layers.set_change(Group::System, CLUSTERING, membership.layer(&layout(), 27017).unwrap());
        layers
    }

    #[test]
    fn roles_of_both_eras_are_read_and_found_again() {
        let kilo = json!({"id": "c", "shard_id": "s", "instance_type": "member", "replica_set_name": "rs1"});
        let kilo = Membership::parse(&kilo).unwrap();
        assert_eq!((&kilo.role, kilo.key.is_none()), (&Role::Member { replica_set: "rs1".into() }, true));
        let train = Membership::parse(&json!({"id": "c", "instance_type": "query_router", "key": "c2VjcmV0"})).unwrap();
        assert_eq!((&train.role, train.key.as_ref().unwrap().expose_secret()), (&Role::QueryRouter, "c2VjcmV0"));
        let config = Membership { role: Role::ConfigServer, key: None };
        for membership in [&kilo, &train, &config] {
            assert_eq!(Role::of(&layers(membership)).as_ref(), Some(&membership.role));
            assert_eq!(has_key(&layers(membership)), membership.key.is_some());
        }
        assert_eq!(Role::of(&Layers::new(Yaml::parse("replication: {replSetName: x}\n"))), None);
        for bad in [json!({}), json!({"instance_type": "master"}), json!({"instance_type": "member"}), json!("member")] {
            assert!(Membership::parse(&bad).is_err(), "{bad}");
        }
        let name = json!({"instance_type": "member", "replica_set_name": "rs1/192.0.2.1"});
        assert!(Membership::parse(&name).unwrap_err().to_string().contains("no name of a replica set"));
    }

    #[test]
    fn a_layer_says_what_the_server_is_and_how_it_knows_the_others() {
        let key = || Some(SecretString::from("c2VjcmV0"));
        let get = |membership: &Membership, name: &str| membership.layer(&layout(), 27017).unwrap().get(&flat::path(name));
        let member = Membership { role: Role::Member { replica_set: "rs1".into() }, key: key() };
        assert_eq!((get(&member, "replication.replSetName"), get(&member, "net.port")), (Some(json!("rs1")), Some(json!(27017))));
        assert_eq!(
            (get(&member, "security.keyFile"), get(&member, "sharding.clusterRole")),
            (Some(json!("/c/mongo_key")), Some(json!("shardsvr")))
        );
        let open = Membership { role: Role::ConfigServer, key: None };
        assert_eq!((get(&open, "security.authorization"), get(&open, "security.keyFile")), (Some(json!("disabled")), None));
        assert_eq!(get(&open, "net.port"), Some(json!(27019)));
        // A router has no accounts of its own to ask for.
        let router = Membership { role: Role::QueryRouter, key: key() };
        assert_eq!((get(&router, "security.authorization"), get(&router, "security.keyFile").is_some()), (None, true));
    }

    #[test]
    fn a_router_waits_for_its_config_servers() {
        let layers = layers(&Membership { role: Role::QueryRouter, key: None });
        let merged = layers.merged().unwrap();
        assert!(is_waiting(&merged) && !is_waiting(&to_be_read(merged).unwrap()));
        let known = with_config_servers(&layers, &["a:1".to_owned(), "b:1".to_owned()]).unwrap();
        assert_eq!(known.get(&CONFIG_SERVERS), Some(json!("configsvr/a:1,b:1")));
        assert!(!is_waiting(&Yaml::parse("net: {port: 1}\n")));
    }
}
