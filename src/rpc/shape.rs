//! What a queue or an exchange is declared with, and what the broker's refusals tell of one that exists.

use lapin::types::{AMQPValue, FieldTable, LongString};

use crate::config::{BrokerSettings, QuorumSettings};

const QUEUE_TYPE: &str = "x-queue-type";
const DELIVERY_LIMIT: &str = "x-delivery-limit";
const MAX_MEMORY_LENGTH: &str = "x-max-in-memory-length";
const MAX_MEMORY_BYTES: &str = "x-max-in-memory-bytes";
/// Arguments a guest's queue has in common with the other queues of its controller.
const SHARED_ARGUMENTS: [&str; 4] = [QUEUE_TYPE, DELIVERY_LIMIT, MAX_MEMORY_LENGTH, MAX_MEMORY_BYTES];

/// Properties of a declaration.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shape {
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) arguments: FieldTable,
}

impl Shape {
    /// Where guessing begins. Durable, because a broker that permits no transient queues ends the whole connection for asking.
    pub(super) fn guess() -> Self {
        Shape { durable: true, auto_delete: false, arguments: FieldTable::default() }
    }

    /// The exchange's, as far as the guest was told.
    pub(super) fn of_exchange(broker: &BrokerSettings) -> Self {
        let durable = broker.durable.unwrap_or(false);
        Shape { durable, auto_delete: broker.auto_delete.unwrap_or(false), arguments: FieldTable::default() }
    }

    /// The queue's: what the guest was told, and for the rest what was learned of the controller.
    pub(super) fn of_queue(broker: &BrokerSettings, learned: Option<&Shape>) -> Self {
        let mut arguments = match (broker.quorum, learned) {
            (Some(true), _) => quorum_arguments(&broker.quorum_limits),
            (None, Some(learned)) => learned.shared_arguments(),
            (Some(false), _) | (None, None) => FieldTable::default(),
        };
        if broker.ha_queues {
            arguments.insert("x-ha-policy".into(), text("all"));
        }
        let told = |told: Option<bool>, learned: Option<bool>| told.or(learned).unwrap_or(false);
        Shape {
            durable: arguments.contains_key(QUEUE_TYPE) || told(broker.durable, learned.map(|shape| shape.durable)),
            auto_delete: told(broker.auto_delete, learned.map(|shape| shape.auto_delete)),
            arguments,
        }
    }

    fn shared_arguments(&self) -> FieldTable {
        let mut shared = FieldTable::default();
        for (name, value) in self.arguments.inner() {
            if SHARED_ARGUMENTS.contains(&name.as_str()) {
                shared.insert(name.clone(), value.clone());
            }
        }
        shared
    }

    /// Takes over the one property that a refusal (406) names. False when it tells nothing new.
    pub(super) fn correct(&mut self, refusal: &str) -> bool {
        let Some((name, current)) = difference(refusal) else { return false };
        let before = self.clone();
        match (name, current) {
            ("durable", Some(Current { value, .. })) => self.durable = value == "true",
            ("auto_delete", Some(Current { value, .. })) => self.auto_delete = value == "true",
            (name, Some(current)) if name.starts_with("x-") => {
                let Some(value) = current.amqp() else { return false };
                self.arguments.insert(name.into(), value);
            }
            (name, None) if name.starts_with("x-") => {
                // The table has no removal.
                let mut rest = FieldTable::default();
                for (key, value) in self.arguments.inner().iter().filter(|(key, _)| key.as_str() != name) {
                    rest.insert(key.clone(), value.clone());
                }
                self.arguments = rest;
            }
            _ => return false,
        }
        *self != before
    }

    /// What the guest was told otherwise than it is: one text for each option.
    pub(super) fn contradictions(&self, broker: &BrokerSettings) -> Vec<String> {
        let kind = self.arguments.inner().get(QUEUE_TYPE);
        let is_quorum = kind == Some(&text("quorum"));
        let mut found = Vec::new();
        let mut compare = |option: &str, told: Option<bool>, is: bool| {
            if let Some(told) = told.filter(|told| *told != is) {
                found.push(format!("{option} is {told} here and {is} there"));
            }
        };
        compare("rabbit_quorum_queue", broker.quorum, is_quorum);
        if !is_quorum && broker.quorum != Some(true) {
            compare("amqp_durable_queues", broker.durable, self.durable);
        }
        compare("amqp_auto_delete", broker.auto_delete, self.auto_delete);
        if is_quorum && broker.quorum == Some(true) {
            let limits = [
                ("rabbit_quorum_delivery_limit", DELIVERY_LIMIT, broker.quorum_limits.delivery_limit),
                ("rabbit_quorum_max_memory_length", MAX_MEMORY_LENGTH, broker.quorum_limits.max_memory_length),
                ("rabbit_quorum_max_memory_bytes", MAX_MEMORY_BYTES, broker.quorum_limits.max_memory_bytes),
            ];
            for (option, argument, told) in limits {
                let is = self.arguments.inner().get(argument).and_then(AMQPValue::as_long_long_int).unwrap_or(0);
                if i64::from(told) != is {
                    found.push(format!("{option} is {told} here and {is} there"));
                }
            }
        }
        found
    }
}

fn quorum_arguments(limits: &QuorumSettings) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert(QUEUE_TYPE.into(), text("quorum"));
    for (key, value) in [
        (DELIVERY_LIMIT, limits.delivery_limit),
        (MAX_MEMORY_LENGTH, limits.max_memory_length),
        (MAX_MEMORY_BYTES, limits.max_memory_bytes),
    ] {
        if value > 0 {
            arguments.insert(key.into(), AMQPValue::LongUInt(value));
        }
    }
    arguments
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

/// What a property is in the broker.
#[derive(Debug, PartialEq, Eq)]
struct Current<'a> {
    value: &'a str,
    /// Erlang's name of the type; absent for flags and, with RabbitMQ 4, for queue types.
    kind: Option<&'a str>,
}

impl Current<'_> {
    fn amqp(&self) -> Option<AMQPValue> {
        match self.kind {
            None | Some("longstr" | "shortstr") => Some(text(self.value)),
            Some("bool") => self.value.parse().ok().map(AMQPValue::Boolean),
            // RabbitMQ compares whole numbers by value, whatever their width.
            Some(_) => self.value.parse().ok().map(AMQPValue::LongLongInt),
        }
    }
}

/// Takes `inequivalent arg 'A' for queue 'Q' in vhost '/': received R but current is C` apart (rabbit_misc.erl and rabbit_amqqueue.erl of
/// RabbitMQ 3.10 and 4.3): the property, and what it is; `None` when the broker has no such argument.
fn difference(refusal: &str) -> Option<(&str, Option<Current<'_>>)> {
    let (_, rest) = refusal.split_once("inequivalent arg '")?;
    let (name, rest) = rest.split_once('\'')?;
    let (_, current) = rest.rsplit_once(" but current is ")?;
    if current.starts_with("none") {
        return Some((name, None));
    }
    let (value, rest) = current.strip_prefix("the value ").unwrap_or(current).strip_prefix('\'')?.split_once('\'')?;
    let kind = rest.strip_prefix(" of type '").and_then(|rest| rest.split_once('\'')).map(|(kind, _)| kind);
    Some((name, Some(Current { value, kind })))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of RabbitMQ 3.10.8 and 4.3.6.
    const DURABLE: &str =
        "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'";
    const LIMIT: &str = "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'q' in vhost '/': received none but current is the \
                         value '3' of type 'signedint'";
    const TYPE_3: &str = "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received none but current is the \
                          value 'quorum' of type 'longstr'";
    const TYPE_4: &str =
        "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'classic' but current is 'quorum'";
    const NO_LIMIT: &str = "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'q' in vhost '/': received the value '3' of \
                            type 'signedint' but current is none";

    #[test]
    fn a_refusal_corrects_one_property() {
        let mut shape = Shape::guess();
        assert!(shape.correct(DURABLE) && !shape.durable);
        assert!(!shape.correct(DURABLE), "nothing new");
        for kind in [TYPE_3, TYPE_4] {
            let mut shape = Shape::guess();
            assert!(shape.correct(kind));
            assert!(shape.correct(LIMIT));
            assert_eq!(shape.arguments.inner().get(QUEUE_TYPE), Some(&text("quorum")));
            assert_eq!(shape.arguments.inner().get(DELIVERY_LIMIT), Some(&AMQPValue::LongLongInt(3)));
            assert!(shape.correct(NO_LIMIT));
            assert!(!shape.arguments.contains_key(DELIVERY_LIMIT) && shape.arguments.contains_key(QUEUE_TYPE));
        }
    }

    #[test]
    fn other_texts_teach_nothing() {
        let wrong_kind = "inequivalent arg 'type' for exchange 'e' in vhost '/': received 'topic' but current is 'direct'";
        let cut = "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but curr";
        for refusal in ["", "ACCESS_REFUSED", wrong_kind, cut, "inequivalent arg 'x-n' for queue: received 1 but current is the value '"] {
            let mut shape = Shape::guess();
            assert!(!shape.correct(refusal), "{refusal}");
            assert_eq!(shape, Shape::guess());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_of_a_broker_panics(refusal in "(inequivalent arg '|but current is |the value |'|of type |[ -~]{0,8}){0,9}") {
            Shape::guess().correct(&refusal);
        }
    }
}
